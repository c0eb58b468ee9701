package verifier

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/tpmtest"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// TestAssignment is the life of one: nothing, assigned, approved, taken back,
// and all of it in the record.
func TestAssignment(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	want := func(what string, want updateapi.Assignment) {
		t.Helper()
		want.Interval = testInterval.Seconds()
		if got, code := x.asked(&x.cert); code != "" || got != want {
			t.Errorf("%s: %+v, %s", what, got, code)
		}
	}
	want("nothing", updateapi.Assignment{})
	d := x.assigns("1.1.0")
	if d.Offer == nil || d.Offer.Version != "1.1.0" || d.Update.Assignment.By != "alice" {
		t.Errorf("%+v", d)
	}
	want("assigned", updateapi.Assignment{Release: x.digests["1.1.0"], Version: "1.1.0"})
	x.assigns(x.digests["1.1.0"][:8], func(a *Action) { a.Approved, a.Override = true, true })
	want("approved", updateapi.Assignment{Release: x.digests["1.1.0"], Version: "1.1.0", Approved: true, Override: true})
	if _, err := x.orders(Action{Action: ActionUnassign}); err != nil {
		t.Error(err)
	}
	want("taken back", updateapi.Assignment{})
	var e *APIError
	if _, err := x.orders(Action{Action: ActionUnassign}); !errors.As(err, &e) || e.Code != assign.Nothing {
		t.Errorf("once more: %v", err)
	}
	kinds := x.kinds("a")
	if n := len(kinds); n < 3 || !slices.Equal(kinds[n-3:], []audit.Kind{audit.KindAssigned, audit.KindAssigned, audit.KindAssigned}) {
		t.Errorf("%v", kinds)
	}
	list, err := x.operator().List(context.Background())
	if err != nil || list.Hosts[0].Update != nil {
		t.Errorf("%+v, %v", list.Hosts, err)
	}
}

// certificate is one by an authority, with names.
func certificate(t *testing.T, by *Authority, from time.Time, usage x509.ExtKeyUsage, names ...string) *tls.Certificate {
	t.Helper()
	key := newTestKey(t)
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "a"}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}
	for _, n := range names {
		u, err := url.Parse(n)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	leaf, err := issue(*by, key.Public(), c, from, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, by.Certificate.Raw}, PrivateKey: key}
}

// TestWhoMayAsk: only a host that shows what it got with a trusted verdict, is
// let in still, and was not enrolled anew since.
func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	x.assigns("1.1.0")
	now := time.Now()
	operator, err := OperatorCertificate(*x.people, "alice", now)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*tls.Certificate{
		"by itself": &x.channel.cert, "operator": &operator,
		"another authority":       certificate(t, authority(t, "other", nil, 0), now, x509.ExtKeyUsageClientAuth, "ingot:host/a"),
		"authority of servers":    certificate(t, x.servers, now, x509.ExtKeyUsageClientAuth, "ingot:host/a"),
		"for servers":             certificate(t, x.served.attest, now, x509.ExtKeyUsageServerAuth, "ingot:host/a"),
		"expired":                 certificate(t, x.served.attest, now.Add(-6*time.Minute), x509.ExtKeyUsageClientAuth, "ingot:host/a"),
		"not yet":                 certificate(t, x.served.attest, now.Add(5*time.Minute), x509.ExtKeyUsageClientAuth, "ingot:host/a"),
		"no name":                 certificate(t, x.served.attest, now, x509.ExtKeyUsageClientAuth),
		"two names":               certificate(t, x.served.attest, now, x509.ExtKeyUsageClientAuth, "ingot:host/a", "ingot:host/b"),
		"another kind of name":    certificate(t, x.served.attest, now, x509.ExtKeyUsageClientAuth, "ingot:operator/a"),
		"another scheme":          certificate(t, x.served.attest, now, x509.ExtKeyUsageClientAuth, "other:host/a"),
		"more than a name":        certificate(t, x.served.attest, now, x509.ExtKeyUsageClientAuth, "ingot:host/a?x"),
		"from before it enrolled": certificate(t, x.served.attest, now.Add(-2*time.Minute), x509.ExtKeyUsageClientAuth, "ingot:host/a"),
	} {
		if _, code := x.asked(c); code != updateapi.Denied {
			t.Errorf("%s: %q", name, code)
		}
		if name == "operator" {
			continue // may have releases
		}
		if resp, b := x.get(c, "GET", x.path("1.1.0", "slot"), nil); resp.StatusCode != 403 {
			t.Errorf("%s: gets %d bytes of a slot", name, len(b))
		}
	}
	if _, code := x.asked(nil); code != string(RequestChannel) {
		t.Errorf("no certificate: %q", code)
	}
	if _, code := x.asked(certificate(t, x.served.attest, now, x509.ExtKeyUsageClientAuth, "ingot:host/b")); code != string(attest.HostUnknown) {
		t.Errorf("unknown host: %q", code)
	}
	if a, code := x.asked(&x.cert); code != "" || a.Release == "" {
		t.Errorf("the host: %+v, %q", a, code)
	}
	x.wait(4 * testInterval) // silent, and its certificate is valid still
	if _, code := x.asked(&x.cert); code != assign.Untrusted {
		t.Errorf("silent: %q", code)
	}
	x.cert = x.trusted()
	x.m.writes("debug") // what no release does
	if _, code := x.m.attest(x.channel, "a"); code == "" {
		t.Error("a wrong boot is trusted")
	}
	if _, code := x.asked(&x.cert); code != assign.Untrusted {
		t.Errorf("refused: %q", code)
	}
	x.act("a", ActionRevoke)
	if _, code := x.asked(&x.cert); code != string(attest.HostRevoked) {
		t.Errorf("revoked: %q", code)
	}
	if _, err := x.orders(Action{Action: ActionAssign, Release: "1.1.0"}); err == nil {
		t.Error("a release is assigned to a revoked host")
	}
}

// TestAnotherMachine: who takes a name over gets neither by the certificate of
// who had it before, nor is it judged by that one's slots.
func TestAnotherMachine(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	if code := x.tells(slots(nil)); code != "" {
		t.Fatal(code)
	}
	x.wait(10 * time.Second)
	x.act("a", ActionReenrol)
	if _, code := x.asked(&x.cert); code != string(attest.HostUnknown) {
		t.Errorf("to be enrolled: %q", code)
	}
	other, c := boot(t, tpmtest.Blank(t)), x.served.channel()
	other.join(c, "a")
	if _, code := x.asked(&x.cert); code != updateapi.Denied {
		t.Errorf("who had the name: %q", code)
	}
	if d := x.detail("a"); d.Slots != nil {
		t.Errorf("slots of another machine: %+v", d.Slots)
	}
}

// TestAssignRefused: what an operator cannot assign, with place, cause and hint.
func TestAssignRefused(t *testing.T) {
	t.Parallel()
	with := func(m made, version string, change func(*made)) made {
		m.version = version
		m.content = version[0]
		change(&m)
		return m
	}
	x := open(t, nil,
		with(next, "2.0.0", func(m *made) { m.name = "other" }),
		with(next, "3.0.0", func(m *made) { m.arch = "arm64" }),
		with(next, "4.0.0", func(m *made) { m.layout = "l2" }),
		with(next, "5.0.0", func(m *made) { m.unsigned = true }),
		with(next, "6.0.0", func(m *made) { m.noImage = true }),
		with(next, "7.0.0", func(m *made) { m.broken = true }),
		with(next, "8.0.0", func(m *made) { m.epoch = 0 }),
		with(next, "9.0.0", func(m *made) {}))
	if _, err := x.operator().Act(context.Background(), "a", Action{Action: ActionFloor, Floor: new(int64(1))}); err != nil {
		t.Fatal(err)
	}
	rejected := slots(func(s *updateapi.Slots) {
		s.Rejected = []updateapi.Rejected{{Version: "9.0.0", Cause: "operator"}}
	})
	if code := x.tells(rejected); code != "" {
		t.Fatal(code)
	}
	for _, c := range []struct {
		release string
		code    attest.Code
		detail  string
	}{
		{"0.9", assign.Missing, "no release \"0.9\" of evidence"},
		{"", assign.Missing, "no release"},
		{"2.0.0", assign.Missing, "no release"}, // of this appliance
		{x.digests["2.0.0"], updateapi.Mismatched, `the appliance "other"`},
		{x.digests["3.0.0"], updateapi.Mismatched, `the architecture "arm64"`},
		{"4.0.0", updateapi.Mismatched, `the disk layout "l2"`},
		{"5.0.0", assign.Unusable, "not signed"},
		{"6.0.0", assign.Unusable, "evidence-6.0.0.img"},
		{"7.0.0", assign.Unusable, "differs from the manifest"},
		{"8.0.0", updateapi.BelowFloor, "security epoch 0, and the floor of a is 1"},
		{"9.0.0", updateapi.IsRejected, "has rejected evidence 9.0.0: operator"},
	} {
		var e *APIError
		_, err := x.orders(Action{Action: ActionAssign, Release: c.release, Approved: true})
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Detail, c.detail) || e.Hint == "" {
			t.Errorf("%s: %+v, want %s: %s", c.release, err, c.code, c.detail)
		}
	}
	if _, err := x.operator().Act(context.Background(), "nobody", Action{Action: ActionAssign, Release: "1.1.0"}); err == nil {
		t.Error("a host that is not there")
	}
	if a, code := x.asked(&x.cert); code != "" || a.Release != "" || a.Withheld != nil {
		t.Errorf("something was assigned: %+v, %s", a, code)
	}
	if _, err := x.orders(Action{Action: ActionAssign, Release: "8.0.0", Override: true}); err == nil {
		t.Error("a floor is overridden")
	}
	x.assigns("9.0.0", func(a *Action) { a.Override = true })
	if a, code := x.asked(&x.cert); code != "" || a.Version != "9.0.0" || !a.Override {
		t.Errorf("overridden: %+v, %s", a, code)
	}
}

// TestSticky: what failed is not offered again, and an override is for once
// (coreos/fedora-coreos-tracker#1938).
func TestSticky(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	offered := func(what string, want bool) {
		t.Helper()
		a, code := x.asked(&x.cert)
		if code != "" || (a.Release != "") != want || !want && (a.Withheld == nil || a.Withheld.Code != updateapi.IsRejected) {
			t.Errorf("%s: %+v, %s", what, a, code)
		}
	}
	tells := func(change func(*updateapi.Slots)) {
		t.Helper()
		if code := x.tells(slots(change)); code != "" {
			t.Fatal(code)
		}
	}
	x.assigns("1.1.0", func(a *Action) { a.Approved = true })
	offered("assigned", true)
	failed := func(s *updateapi.Slots) {
		s.Phase, s.Cause, s.Culprit = "REJECTED", "unhealthy", "b"
		s.Slots[1] = updateapi.Slot{Name: "b", Version: "1.1.0", Condition: "ready", Image: next.slotDigest()}
		s.Rejected = []updateapi.Rejected{{Version: "1.1.0", Cause: "unhealthy"}}
	}
	tells(failed)
	offered("it failed", false)
	if d := x.detail("a"); d.Offer != nil || d.Withheld == nil || d.Update.Cause != "unhealthy" {
		t.Errorf("an operator sees %+v, %+v", d.Offer, d.Withheld)
	}
	if _, err := x.orders(Action{Action: ActionAssign, Release: "1.1.0"}); err == nil {
		t.Error("assigned again without an override")
	}
	x.assigns("1.1.0", func(a *Action) { a.Override = true })
	offered("overridden", true)
	tells(failed) // it has not asked yet
	offered("told again", true)
	tells(func(s *updateapi.Slots) {
		s.Phase, s.Candidate = "STAGED", "b"
		s.Slots[1] = updateapi.Slot{Name: "b", Version: "1.1.0", Condition: "ready", Image: next.slotDigest()}
	})
	offered("staged", true)
	tells(failed)
	offered("it failed again", false)
}

// TestFloorOfAssignment: what is below the floor is not staged: neither when an
// operator raises the floor, nor when the counter in the TPM does.
func TestFloorOfAssignment(t *testing.T) {
	t.Parallel()
	x := open(t, nil, made{name: "evidence", version: "1.2.0", arch: "amd64", layout: "l1", epoch: 3, content: 3})
	below := func(what string) {
		t.Helper()
		a, code := x.asked(&x.cert)
		if code != "" || a.Release != "" || a.Withheld == nil || a.Withheld.Code != updateapi.BelowFloor {
			t.Errorf("%s: %+v, %s", what, a, code)
		}
	}
	x.assigns("1.1.0")
	if code := x.tells(slots(func(s *updateapi.Slots) { s.Floor = 3 })); code != "" {
		t.Fatal(code)
	}
	below("the host says so")
	if code := x.tells(slots(nil)); code != "" {
		t.Fatal(code)
	}
	if a, _ := x.asked(&x.cert); a.Version != "1.1.0" {
		t.Errorf("%+v", a)
	}
	if _, err := x.operator().Act(context.Background(), "a", Action{Action: ActionFloor, Floor: new(int64(3))}); err != nil {
		t.Fatal(err)
	}
	below("an operator says so")
}

// TestCounterOfAssignment: after a bless the counter has gone up, and what the
// host reports does not matter.
func TestCounterOfAssignment(t *testing.T) {
	t.Parallel()
	x := open(t, nil)
	first := x.m.counter()
	base := int64(first.Value) // the value of floor 0
	if code := x.m.counted(x.channel, base); code != "" {
		t.Fatal(code)
	}
	x.assigns("1.0.0")
	if code := x.tells(slots(func(s *updateapi.Slots) { s.Floor = 60 })); code != "" {
		t.Fatal(code)
	}
	if a, code := x.asked(&x.cert); a.Version != "1.0.0" {
		t.Errorf("the counter says 0, the host 60: %+v, %s", a, code)
	}
	for range 2 {
		if _, err := x.m.tpm.Increment(tpm.FloorIndex); err != nil {
			t.Fatal(err)
		}
	}
	if code := x.tells(slots(func(s *updateapi.Slots) { s.Floor = 0 })); code != "" {
		t.Fatal(code)
	}
	// Release 1.0.0 has epoch 1, and the counter stands at 2 above its base now.
	if code := x.m.counted(x.channel, base); code != attest.VersionFloor {
		t.Errorf("the verdict on a release below the floor: %s", code)
	}
	if _, code := x.asked(&x.cert); code != assign.Untrusted {
		t.Errorf("%q", code)
	}
}

// TestReport: what a host says is kept, recorded when it is news, bounded, and
// shown.
func TestReport(t *testing.T) {
	t.Parallel()
	x := open(t, func(o *Options) { o.Limits.ReportRate = Rate{Burst: 8, PerSecond: 0.001} })
	before := len(x.kinds("a"))
	for i, c := range []struct {
		s    updateapi.Slots
		news bool
	}{
		{slots(nil), true}, {slots(nil), false},
		{slots(func(s *updateapi.Slots) { s.Why = []string{"other words"}; s.TriesLeft = 2 }), false},
		{slots(func(s *updateapi.Slots) { s.Phase = "TRYING"; s.Running = "b" }), true},
		{slots(func(s *updateapi.Slots) { s.Cause = "hang" }), true},
		{slots(func(s *updateapi.Slots) { s.Good = "b" }), true},
	} {
		if code := x.tells(c.s); code != "" {
			t.Fatalf("report %d: %s", i, code)
		}
		kinds := x.kinds("a")
		if (len(kinds) > before) != c.news || c.news && kinds[len(kinds)-1] != audit.KindSlots {
			t.Errorf("report %d: %v", i, kinds[before:])
		}
		before = len(kinds)
		d := x.detail("a")
		got, _ := json.Marshal(d.Slots.Slots)
		if want, _ := json.Marshal(c.s); string(got) != string(want) {
			t.Errorf("report %d: %s, want %s", i, got, want)
		}
	}
	list, err := x.operator().List(context.Background())
	if err != nil || list.Hosts[0].Update == nil || list.Hosts[0].Update.Good != "b" {
		t.Errorf("%+v, %v", list.Hosts, err)
	}
	long := strings.Repeat("x", 600)
	for name, s := range map[string]any{
		"no phase": slots(func(s *updateapi.Slots) { s.Phase = "" }), "floor": slots(func(s *updateapi.Slots) { s.Floor = -1 }),
		"long word": slots(func(s *updateapi.Slots) { s.Cause = long }), "a terminal's word": slots(func(s *updateapi.Slots) { s.Slots[1].Version = "1\x1b[2J" }), "long text": slots(func(s *updateapi.Slots) { s.Why = []string{long} }),
		"many": slots(func(s *updateapi.Slots) { s.Rejected = make([]updateapi.Rejected, 501) }), "no object": 5,
	} {
		x.reports = newRates[string](Rate{Burst: 1, PerSecond: 1})
		c := &channel{s: x.served, http: x.client(&x.cert)}
		if code := c.post(updateapi.SlotsPath, s, nil); code != RequestMalformed {
			t.Errorf("%s: %q", name, code)
		}
	}
	x.reports = newRates[string](Rate{Burst: 2, PerSecond: 0.001})
	newer := map[string]any{"phase": "IDLE", "good": "a", "colour": "green"}
	c := &channel{s: x.served, http: x.client(&x.cert)}
	if code := c.post(updateapi.SlotsPath, newer, &struct{}{}); code != "" {
		t.Errorf("a later machine says more: %s", code)
	}
	x.tells(slots(nil))
	if code := x.tells(slots(nil)); code != string(RequestBusy) {
		t.Errorf("too many: %q", code)
	}
	if resp, b := x.get(&x.channel.cert, "GET", updateapi.SlotsPath, nil); resp.StatusCode != 404 {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
	x.m.writes("debug")
	if _, code := x.m.attest(x.channel, "a"); code == "" {
		t.Error("a wrong boot is trusted")
	}
	x.reports = newRates[string](Rate{Burst: 2, PerSecond: 0.001})
	if code := x.tells(slots(nil)); code != "" {
		t.Errorf("a refused host cannot say how its slots are: %s", code)
	}
}

// TestDrift: a slot that is damaged is recorded once, and once more when it was restored; the
// order of slots, and what a slot was that is only being written, say nothing.
func TestDrift(t *testing.T) {
	t.Parallel()
	x := open(t, func(o *Options) { o.Limits.ReportRate = Rate{Burst: 20, PerSecond: 0.001} })
	is := func(a, b string) updateapi.Slots {
		return slots(func(s *updateapi.Slots) {
			s.Slots = []updateapi.Slot{{Name: "a", Version: "1.0.0", Condition: a}, {Name: "b", Version: "1.1.0", Condition: b}}
		})
	}
	turned := is("good", "damaged")
	slices.Reverse(turned.Slots)
	for i, c := range []struct {
		s    updateapi.Slots
		want string
	}{
		{is("good", "good"), ""}, {is("good", "damaged"), "slot b, 1.1.0, is not what was written to it"}, {is("good", "damaged"), ""}, {turned, ""},
		{is("good", "partial"), ""}, {is("good", "damaged"), "slot b, 1.1.0, is not what was written to it"}, {is("good", "good"), "slot b is right again, with 1.1.0"},
		{is("damaged", "damaged"), "slot a, 1.0.0, is not what was written to it; slot b, 1.1.0, is not what was written to it"},
	} {
		before := len(x.drifts())
		if code := x.tells(c.s); code != "" {
			t.Fatalf("report %d: %s", i, code)
		}
		got := x.drifts()[before:]
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("report %d: %q, want %q", i, text, c.want)
		}
	}
}

// drifts are the details of all records of that kind.
func (s *served) drifts() (list []string) {
	s.t.Helper()
	err := s.store.Records(context.Background(), fleet.Query{Host: "a", Kind: audit.KindDrift}, func(line []byte) error {
		var r audit.Record
		err := json.Unmarshal(line, &r)
		list = append(list, r.Detail)
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	return list
}

// TestCatalogKind: a version of two architectures tells nothing about a host.
func TestCatalogKind(t *testing.T) {
	dir, key := t.TempDir(), newTestKey(t)
	arm := first
	arm.arch = "arm64"
	first.write(t, dir+"/1", key)
	next.write(t, dir+"/2", key)
	load := func() *Catalog {
		t.Helper()
		c, err := LoadCatalog([]string{dir}, trustIn(key), false)
		if err != nil || len(c.Refused) > 0 {
			t.Fatal(c, err)
		}
		return c
	}
	if arch, layout := load().kind("evidence", "1.0.0"); arch != "amd64" || layout != "l1" {
		t.Errorf("%q, %q", arch, layout)
	}
	arm.write(t, dir+"/3", key)
	c := load()
	if arch, layout := c.kind("evidence", "1.0.0"); arch != "" || layout != "" {
		t.Errorf("%q, %q", arch, layout)
	}
	if arch, _ := c.kind("evidence", "1.1.0"); arch != "amd64" {
		t.Errorf("%q", arch)
	}
	if len(c.Releases) != 3 || len(c.references) != 2 {
		t.Errorf("%d releases, %d references", len(c.Releases), len(c.references))
	}
}

// FuzzReport: what a host says of its slots is refused, or kept as it is and
// within the bounds of the record.
func FuzzReport(f *testing.F) {
	add := func(s updateapi.Slots) {
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(slots(nil))
	add(slots(func(s *updateapi.Slots) {
		s.Phase, s.Candidate, s.Cause, s.Rejected = "REJECTED", "b", "hang", []updateapi.Rejected{{Version: "1.1.0", Cause: "hang"}}
		s.Slots[1] = updateapi.Slot{Name: "b", Version: strings.Repeat("<", 64), Image: next.slotDigest()}
	}))
	f.Add([]byte(`{"phase":"\u0000\ud800","slots":[{"name":""}],"x":[[[[]]]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseReport(body)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parseReport(again); err != nil || !reflect.DeepEqual(same, r) {
			t.Errorf("%s: %+v, %v", again, same, err)
		}
		x := fleet.Report{Slots: *r}
		line, _, err := (&audit.Record{Host: "a", Kind: audit.KindSlots, Detail: reportWords(x.Brief())}).Seal(1, audit.Digest{})
		if err != nil || len(line) > audit.MaxRecord {
			t.Errorf("%d bytes, %v: %s", len(line), err, line)
		}
		assign.Taken(assign.Assignment{Override: true}, assign.Release{}, r)
		assign.Sticks(assign.Host{Report: r}, assign.Release{Version: "1.1.0"})
	})
}
