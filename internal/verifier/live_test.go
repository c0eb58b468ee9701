package verifier

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/tpmtest"
)

// certifiedMachine is a machine whose TPM a server knows the maker of.
func certifiedMachine(t *testing.T, f func(*Options)) (*served, *machine) {
	t.Helper()
	e, pems := tpmtest.Certified(t)
	s := serve(t, func(o *Options) {
		o.Rules = attest.Rules{Roots: parseRoots(t, pems), RequireChain: true}
		if f != nil {
			f(o)
		}
	})
	return s, boot(t, e)
}

// joined is a machine without a certificate that an operator has approved.
func joined(t *testing.T, f func(*Options)) (*served, *machine, *channel) {
	t.Helper()
	s, m := serve(t, f), boot(t, tpmtest.Blank(t))
	c := s.channel()
	m.join(c, "a")
	return s, m, c
}

// TestGenuine is the whole of it: a TPM with a certificate, a boot of the
// release, evidence at each interval with the challenge that the last answer
// brought, a power cut, and all of it in the record.
func TestGenuine(t *testing.T) {
	s, m := certifiedMachine(t, nil)
	c := s.channel()
	if _, code := c.ask("a"); code != attest.HostUnknown {
		t.Errorf("before enrolment: %s", code)
	}
	if state, code := m.enrol(c, "a"); state != attest.Active || code != "" {
		t.Fatalf("%s, %s", state, code)
	}
	answer, code := m.attest(c, "a")
	if code != "" || answer.Interval != testInterval.Seconds() || answer.Next == nil {
		t.Fatalf("%s, %+v", code, answer)
	}
	s.wait(testInterval)
	for range 2 {
		if answer, code = c.answer(m.evidence(c, "a", *answer.Next)); code != "" {
			t.Fatal(code)
		}
	}
	d := s.detail("a")
	if v := d.Verdict; d.Standing != attest.StandingTrusted || v == nil || !v.Trusted || v.Compared < 5 || d.Last.Version != "1.0.0" || d.Last.Slot != "a" || !d.Record.Chained ||
		len(d.Certified.Issuer) == 0 || len(d.EK) != 64 || len(v.NotChecked) == 0 || len(d.Record.Firmware[pcr.SHA256]) != 2 {
		t.Errorf("%+v\n%+v", d, d.Verdict)
	}
	m.e.Kill() // without a shutdown
	m2 := boot(t, tpmtest.Start(t, m.e.Dir))
	c = s.channel()
	if _, code := m2.attest(c, "a"); code != "" {
		t.Errorf("after a power cut: %s", code)
	}
	want := []audit.Kind{audit.KindEnrolled, audit.KindVerdict, audit.KindFirmware, audit.KindVerdict, audit.KindVerdict, audit.KindVerdict}
	if got := s.kinds("a"); !slices.Equal(got, want) {
		t.Errorf("recorded: %q", got)
	}
	if err := m2.tpm.Extend(4, map[pcr.Bank]pcr.Digest{pcr.SHA256: pcr.SHA256.Sum([]byte("evil"))}); err != nil {
		t.Fatal(err)
	}
	if answer, code := m2.attest(c, "a"); code != attest.LogReplay || answer.Certificate != nil || answer.Secrets != nil || answer.Next == nil {
		t.Errorf("an image that is not in the log: %s, %+v", code, answer)
	}
	if d := s.detail("a"); d.Standing != attest.StandingRefused || d.Last.Code != attest.LogReplay || d.Verdict.Trusted {
		t.Errorf("%+v", d)
	}
}

func TestP01UnknownMaker(t *testing.T) {
	e, _ := tpmtest.Certified(t)
	m := boot(t, e)
	s := serve(t, func(o *Options) { o.Rules.RequireChain = true })
	if _, code := m.enrol(s.channel(), "a"); code != attest.EKUnknown {
		t.Errorf("required: %s", code)
	}
	s = serve(t, nil)
	c := s.channel()
	if state, code := m.enrol(c, "a"); state != attest.Pending || code != "" {
		t.Fatalf("%s, %s", state, code)
	}
	if _, code := m.attest(c, "a"); code != attest.HostPending {
		t.Errorf("before approval: %s", code)
	}
	if d := s.act("a", ActionApprove); d.State != attest.Active || d.Certified.Why == "" {
		t.Errorf("%+v", d)
	}
	if _, code := m.attest(c, "a"); code != "" {
		t.Errorf("approved: %s", code)
	}
}

func TestP02ForeignCertificate(t *testing.T) {
	s, m := certifiedMachine(t, nil)
	var err error
	m.ek.Certificate, err = m.tpm.Certificate(tpm.RSA2048) // of the other key of this TPM
	m.must(err)
	if m.ek.Type == tpm.RSA2048 {
		t.Fatal("the TPM has one key only")
	}
	if _, code := m.enrol(s.channel(), "a"); code != attest.EKCertificate {
		t.Errorf("got %s", code)
	}
}

func TestP03NameOfKeyFromClient(t *testing.T) {
	s, m := serve(t, nil), boot(t, tpmtest.Blank(t))
	c := s.channel()
	message := map[string]any{"name": "a", "ak": m.ak.Public, "ek": m.ek.Public, "akName": m.ak.Name()}
	if code := c.post(attestapi.EnrolPath, message, nil); code != RequestMalformed {
		t.Errorf("a name of a key was taken: %s", code)
	}
	other := boot(t, tpmtest.Blank(t)) // another TPM's attestation key for this endorsement key
	q := m.request("a")
	q.AK = other.ak.Public
	var offer attestapi.EnrolOffer
	if code := c.post(attestapi.EnrolPath, q, &offer); code != "" {
		t.Fatal(code)
	}
	for _, x := range []*machine{m, other} {
		if secret, err := x.activate(offer.Credential); err == nil {
			t.Errorf("a credential for keys of two TPMs was opened: %x", secret)
		}
	}
}

func TestP04Secret(t *testing.T) {
	s, m := serve(t, nil), boot(t, tpmtest.Blank(t))
	c := s.channel()
	begin := func() []byte {
		t.Helper()
		var offer attestapi.EnrolOffer
		if code := c.post(attestapi.EnrolPath, m.request("a"), &offer); code != "" {
			t.Fatal(code)
		}
		secret, err := m.activate(offer.Credential)
		m.must(err)
		return secret
	}
	finish := func(c *channel, secret []byte) attest.Code {
		t.Helper()
		return c.post(attestapi.ActivatePath, attestapi.ActivateRequest{Name: "a", Secret: secret}, new(attestapi.Enrolled))
	}
	secret := begin()
	if code := finish(s.channel(), secret); code != attest.EnrolSecret {
		t.Errorf("on another channel: %s", code)
	}
	if code := finish(c, make([]byte, 32)); code != attest.EnrolSecret {
		t.Errorf("wrong: %s", code)
	}
	if code := finish(c, secret); code != attest.EnrolSecret {
		t.Errorf("right, but for the second time: %s", code)
	}
	secret = begin()
	begin() // voids it
	if code := finish(c, secret); code != attest.EnrolSecret {
		t.Errorf("of an earlier offer: %s", code)
	}
	secret = begin()
	s.wait(attest.Lifetime + time.Second)
	if code := finish(c, secret); code != attest.EnrolSecret {
		t.Errorf("late: %s", code)
	}
	if code := finish(c, begin()); code != "" {
		t.Errorf("right: %s", code)
	}
}

func TestP05OneKeyTwoNames(t *testing.T) {
	s, m, c := joined(t, nil)
	if _, code := m.enrol(c, "b"); code != attest.EnrolEK {
		t.Errorf("got %s", code)
	}
	// Two enrolments at once: both have an offer, one wins.
	other := boot(t, tpmtest.Blank(t))
	secrets := map[string][]byte{}
	for _, name := range []string{"x", "y"} {
		var offer attestapi.EnrolOffer
		if code := c.post(attestapi.EnrolPath, other.request(name), &offer); code != "" {
			t.Fatal(code)
		}
		secret, err := other.activate(offer.Credential)
		other.must(err)
		secrets[name] = secret
	}
	for name, want := range map[string][]attest.Code{"x": {"", attest.EnrolEK}} {
		codes := []attest.Code{c.post(attestapi.ActivatePath, attestapi.ActivateRequest{Name: name, Secret: secrets[name]}, new(attestapi.Enrolled)),
			c.post(attestapi.ActivatePath, attestapi.ActivateRequest{Name: "y", Secret: secrets["y"]}, new(attestapi.Enrolled))}
		if !slices.Equal(codes, want) {
			t.Errorf("got %q", codes)
		}
	}
	if _, err := s.store.Host(context.Background(), "y"); err == nil {
		t.Error("one TPM has two names")
	}
}

func TestP06KnownName(t *testing.T) {
	s, m, c := joined(t, nil)
	other := boot(t, tpmtest.Blank(t))
	if _, code := other.enrol(s.channel(), "a"); code != attest.EnrolKnown {
		t.Errorf("another TPM: %s", code)
	}
	if _, code := m.enrol(c, "a"); code != attest.EnrolKnown {
		t.Errorf("the same TPM: %s", code)
	}
	s.act("a", ActionReenrol)
	if _, code := c.ask("a"); code != attest.HostUnknown {
		t.Errorf("the machine does not learn that it may enrol: %s", code)
	}
	d := s.channel()
	if state, code := other.enrol(d, "a"); state != attest.Pending || code != "" {
		t.Errorf("another TPM, allowed: %s, %s", state, code)
	}
	s.act("a", ActionApprove)
	if _, code := other.attest(d, "a"); code != "" {
		t.Errorf("approved: %s", code)
	}
	if _, code := m.attest(c, "a"); code != attest.AKKey {
		t.Errorf("the TPM before: %s", code)
	}
	s.act("a", ActionRevoke)
	if _, code := other.attest(d, "a"); code != attest.HostRevoked {
		t.Errorf("revoked: %s", code)
	}
	want := []audit.Kind{audit.KindEnrolled, audit.KindApproved, audit.KindAllowed, audit.KindEnrolled, audit.KindApproved, audit.KindVerdict, audit.KindFirmware,
		audit.KindRejected, audit.KindRevoked}
	if got := s.kinds("a"); !slices.Equal(got, want) {
		t.Errorf("recorded: %q", got)
	}
}

func TestP07Certificate(t *testing.T) {
	s, m := certifiedMachine(t, nil)
	cert, err := x509.ParseCertificate(m.ek.Certificate)
	m.must(err)
	s.wait(time.Until(cert.NotAfter) + time.Hour)
	// A server in that time: TLS of this test looks at the clock of today.
	if _, code := m.enrol(s.channel(), "a"); code != attest.EKCertificate {
		t.Errorf("expired: %s", code)
	}
	for name, sum := range map[string][32]byte{"certificate": sha256.Sum256(cert.Raw), "key": sha256.Sum256(cert.RawSubjectPublicKeyInfo)} {
		s, m := certifiedMachine(t, func(o *Options) { o.Rules.Roots.Revoked = [][32]byte{sum} })
		if _, code := m.enrol(s.channel(), "a"); code != attest.EKRevoked {
			t.Errorf("revoked %s: %s", name, code)
		}
	}
	s, m = certifiedMachine(t, nil)
	m.ek.Certificate = s.servers.Certificate.Raw // no certificate of an endorsement key at all
	if _, code := m.enrol(s.channel(), "a"); code != attest.EKCertificate {
		t.Errorf("another kind of certificate: %s", code)
	}
}

func TestP08Nonce(t *testing.T) {
	s, m, c := joined(t, nil)
	ch, _ := c.ask("a")
	e := m.evidence(c, "a", ch)
	if _, code := c.answer(e); code != "" {
		t.Fatal(code)
	}
	if _, code := c.answer(e); code != attest.QuoteNonce {
		t.Errorf("used twice: %s", code)
	}
	first, _ := c.ask("a")
	c.ask("a") // voids it
	if _, code := c.answer(m.evidence(c, "a", first)); code != attest.QuoteNonce {
		t.Errorf("void: %s", code)
	}
	ch, _ = c.ask("a")
	e = m.evidence(c, "a", ch)
	s.wait(attest.Lifetime + time.Second)
	if _, code := c.answer(e); code != attest.NonceExpired {
		t.Errorf("late: %s", code)
	}
	if d := s.detail("a"); d.Standing != attest.StandingTrusted {
		t.Errorf("late evidence changed the standing: %+v", d)
	}
	ch, _ = c.ask("a")
	s.channel().ask("a") // of somebody else: voids nothing
	if _, code := c.answer(m.evidence(c, "a", ch)); code != "" {
		t.Errorf("somebody else made a challenge void: %s", code)
	}
}

func TestP09Relay(t *testing.T) {
	s, m, c := joined(t, nil)
	other := boot(t, tpmtest.Blank(t))
	d := s.channel()
	other.join(d, "b")
	if _, code := m.attest(c, "a"); code != "" {
		t.Fatal(code)
	}
	// b asks under the name of a, and has its own TPM quote.
	if _, code := other.attest(d, "a"); code != attest.AKKey {
		t.Errorf("another host under the name: %s", code)
	}
	// b relays: a quotes for its own channel what b was asked.
	ch, _ := d.ask("a")
	if _, code := d.answer(m.evidence(c, "a", ch)); code != attest.QuoteNonce {
		t.Errorf("relayed: %s", code)
	}
	// a's evidence is sent on b's channel.
	ch, _ = c.ask("a")
	if _, code := d.answer(m.evidence(c, "a", ch)); code != attest.QuoteNonce {
		t.Errorf("on another channel: %s", code)
	}
	// another name than the challenge's
	ch, _ = c.ask("a")
	if _, code := c.answer(m.evidence(c, "b", ch)); code != attest.QuoteNonce {
		t.Errorf("another name: %s", code)
	}
	got := s.detail("a")
	if got.Standing != attest.StandingTrusted || got.Rejected == nil || got.Rejected.Code != attest.AKKey {
		t.Errorf("evidence of others changed what is known: %+v, %+v", got, got.Rejected)
	}
	if kinds := s.kinds("a"); len(kinds) != 5 || kinds[4] != audit.KindRejected {
		t.Errorf("recorded: %q", kinds)
	}
}

func TestP10Silence(t *testing.T) {
	s, m, c := joined(t, nil)
	if _, code := m.attest(c, "a"); code != "" {
		t.Fatal(code)
	}
	standing := func() attest.Standing {
		t.Helper()
		l, err := s.operator().List(context.Background())
		if err != nil || len(l.Hosts) != 1 {
			t.Fatalf("%+v, %v", l, err)
		}
		return l.Hosts[0].Standing
	}
	s.wait(3*testInterval - time.Second)
	s.sweep()
	if got := standing(); got != attest.StandingTrusted {
		t.Errorf("after three intervals: %s", got)
	}
	s.wait(10 * time.Second)
	if got := standing(); got != attest.StandingUnknown {
		t.Errorf("after more: %s", got)
	}
	for range 3 {
		s.sweep()
	}
	if got := s.kinds("a"); len(got) != 5 || got[4] != audit.KindSilent {
		t.Errorf("recorded: %q", got)
	}
	if _, code := m.attest(c, "a"); code != "" || standing() != attest.StandingTrusted {
		t.Errorf("heard again: %s, %s", code, standing())
	}
	s.wait(4 * testInterval)
	s.sweep()
	if got := s.kinds("a"); len(got) != 7 || got[6] != audit.KindSilent {
		t.Errorf("recorded: %q", got)
	}
}

func (s *served) sweep() {
	s.t.Helper()
	if err := s.Sweep(context.Background()); err != nil {
		s.t.Error(err)
	}
}

func TestP11Operators(t *testing.T) {
	s, m, c := joined(t, nil)
	answer, code := m.attest(c, "a")
	if code != "" {
		t.Fatal(code)
	}
	host := tls.Certificate{Certificate: answer.Certificate, PrivateKey: c.cert.PrivateKey}
	server := s.o.Certificate
	forged, err := OperatorCertificate(*authority(t, "people", nil, 0), "mallory", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	old, err := OperatorCertificate(*s.people, "bob", time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	good, err := OperatorCertificate(*s.people, "alice", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		cert *tls.Certificate
		want int
	}{"none": {nil, 403}, "own": {&c.cert, 403}, "host": {&host, 403}, "server": {&server, 403}, "forged": {&forged, 403}, "expired": {&old, 403}, "operator": {&good, 200}} {
		client := s.client(x.cert)
		for _, path := range []string{HostsPath, HostsPath + "/a"} {
			resp, err := client.Get("https://" + s.address + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != x.want {
				t.Errorf("%s: GET %s: %d, want %d", name, path, resp.StatusCode, x.want)
			}
		}
		if x.want == 200 {
			continue
		}
		c := &channel{s: s, http: client}
		if status, _ := c.send(HostsPath+"/a", Action{Action: ActionRevoke}); status != 403 {
			t.Errorf("%s: revoked: %d", name, status)
		}
	}
	if d := s.detail("a"); d.State != attest.Active {
		t.Errorf("%+v", d)
	}
}

func TestP12Rollback(t *testing.T) {
	s, m, c := joined(t, nil)
	if err := s.SetCatalog(context.Background(), recorded(t, 4)); err != nil {
		t.Fatal(err)
	}
	raise := func(n int64) error {
		_, err := s.operator().Act(context.Background(), "a", Action{Action: ActionFloor, Floor: &n})
		return err
	}
	if err := raise(4); err != nil {
		t.Fatal(err)
	}
	if _, code := m.attest(c, "a"); code != "" {
		t.Errorf("at the floor: %s", code)
	}
	if err := raise(5); err != nil {
		t.Fatal(err)
	}
	if _, code := m.attest(c, "a"); code != attest.VersionFloor {
		t.Errorf("below the floor: %s", code)
	}
	for _, n := range []int64{4, -1, 64} {
		if err := raise(n); err == nil {
			t.Errorf("the floor is %d now", n)
		}
	}
}

func TestP13DeniedModel(t *testing.T) {
	s, m := certifiedMachine(t, nil)
	if _, code := m.enrol(s.channel(), "a"); code != "" {
		t.Fatal(code)
	}
	model := s.detail("a").Certified.Model
	if model.Manufacturer == "" {
		t.Fatalf("%+v", model)
	}
	s, m = certifiedMachine(t, func(o *Options) {
		o.Rules.Roots.Denied = []attest.Model{{Manufacturer: model.Manufacturer, Version: model.Version}}
	})
	if _, code := m.enrol(s.channel(), "a"); code != attest.TPMDenied {
		t.Errorf("got %s", code)
	}
}

func TestP14FirmwareVersion(t *testing.T) {
	s, m, c := joined(t, nil)
	if _, code := m.attest(c, "a"); code != "" {
		t.Fatal(code)
	}
	err := s.store.Update(context.Background(), "a", func(x *fleet.Change) error {
		x.Host.Record.FirmwareVersion-- // of another one, which the TPM had
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, code := m.attest(c, "a"); code != attest.FirmwareChanged {
		t.Errorf("TPM: %s", code)
	}
	s.act("a", ActionFirmware)
	if _, code := m.attest(c, "a"); code != "" {
		t.Errorf("accepted: %s", code)
	}
	err = s.store.Update(context.Background(), "a", func(x *fleet.Change) error {
		x.Host.Record.Firmware[pcr.SHA256][0] = pcr.SHA256.Sum([]byte("before the update"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, code := m.attest(c, "a"); code != attest.FirmwareChanged {
		t.Errorf("machine: %s", code)
	}
	s.act("a", ActionFirmware)
	if _, code := m.attest(c, "a"); code != "" {
		t.Errorf("accepted: %s", code)
	}
}

func TestP15RevokedKey(t *testing.T) {
	s, m, c := joined(t, nil)
	good, revoked := newTestKey(t), newTestKey(t)
	dir := t.TempDir()
	writeSet(t, dir, recorded(t, 0).references[0], revoked)
	load := func(keys ...*ecdsa.PrivateKey) *Catalog {
		t.Helper()
		c, err := LoadCatalog([]string{dir}, trustIn(keys...), false)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetCatalog(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if x := load(good, revoked); len(x.Releases) != 1 || len(x.Refused) != 0 {
		t.Fatalf("%+v", x)
	}
	if _, code := m.attest(c, "a"); code != "" {
		t.Errorf("before: %s", code)
	}
	if x := load(good); len(x.Releases) != 0 || len(x.Refused) != 1 {
		t.Errorf("%+v", x)
	}
	if _, code := m.attest(c, "a"); code != attest.ReferenceNone {
		t.Errorf("a release by a revoked key: %s", code)
	}
}

func TestP17ForeignAuthority(t *testing.T) {
	_, m, c := joined(t, func(o *Options) {
		o.Policy.Keys[0].Authorities = []pcr.Digest{pcr.SHA256.Sum([]byte("our certificate"))}
	})
	if _, code := m.attest(c, "a"); code != attest.SecureBootOther {
		t.Errorf("got %s", code)
	}
}

// meddler sits between machine and TPM, and extends a register right before the
// first quote.
type meddler struct {
	net.Conn
	extend func()
	quotes int
}

func (m *meddler) Write(b []byte) (int, error) {
	if len(b) >= 10 && binary.BigEndian.Uint32(b[6:]) == 0x158 { // TPM_CC_Quote
		if m.quotes++; m.quotes == 1 {
			m.extend()
		}
	}
	return m.Conn.Write(b)
}

func TestP18ExtendedMeanwhile(t *testing.T) {
	e := tpmtest.Blank(t)
	s, m := serve(t, nil), boot(t, e)
	c := s.channel()
	m.join(c, "a")
	m.tpm.Close()
	between := &meddler{}
	var err error
	between.Conn, err = net.Dial("unix", e.Socket)
	m.must(err)
	direct := tpm.New(between.Conn)
	between.extend = func() { m.must(direct.Extend(11, m.word("services"))) }
	m.tpm = tpm.New(between)
	m.writes("services") // init wrote it, and then extended
	if _, code := m.attest(c, "a"); code != "" || between.quotes != 2 {
		t.Errorf("%s, %d quotes", code, between.quotes)
	}
}

// TestGrants: a certificate for the channel's key and secrets that only this
// TPM opens; nothing for a host that is not trusted.
func TestGrants(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"token": "for all", "key": "for all, too", "a/key": "for a", "b/other": "for b", ".hidden": "x", "too large": "x"})
	writeFiles(t, dir, map[string]string{"huge": string(make([]byte, MaxSecret+1))})
	s, m, c := joined(t, func(o *Options) { o.Secrets = dir })
	answer, code := m.attest(c, "a")
	if code != "" || len(answer.Secrets) != 2 || len(answer.Certificate) != 2 {
		t.Fatalf("%s, %d secrets, %d certificates", code, len(answer.Secrets), len(answer.Certificate))
	}
	for i, want := range []string{"for a", "for all"} {
		if got, err := m.opens(answer.Secrets[i]); err != nil || got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	other := boot(t, tpmtest.Blank(t))
	if got, err := other.opens(answer.Secrets[0]); err == nil {
		t.Errorf("another TPM reads %q", got)
	}
	s.checkCertificate(answer.Certificate, c, "a")
	again, _ := m.attest(c, "a")
	if x, y := mustJSON(t, answer.Secrets), mustJSON(t, again.Secrets); x != y || mustJSON(t, answer.Certificate) != mustJSON(t, again.Certificate) {
		t.Error("what did not change is sent as something new")
	}
	writeFiles(t, dir, map[string]string{"token": "rotated"})
	again, _ = m.attest(c, "a")
	if got, err := m.opens(again.Secrets[1]); err != nil || got != "rotated" {
		t.Errorf("%q, %v", got, err)
	}
	s.wait(3 * time.Minute)
	if again, _ = m.attest(c, "a"); mustJSON(t, answer.Certificate) == mustJSON(t, again.Certificate) {
		t.Error("the certificate is not renewed")
	}
	c = s.channel()
	again, _ = m.attest(c, "a")
	s.checkCertificate(again.Certificate, c, "a")
	m.must(m.tpm.Extend(12, m.word("console=tty0")))
	if answer, code := m.attest(c, "a"); code == "" || answer.Secrets != nil || answer.Certificate != nil {
		t.Errorf("refused, and got %+v", answer)
	}
}

// checkCertificate wants a short-lived client certificate for the channel.
func (s *served) checkCertificate(der [][]byte, c *channel, name string) {
	s.t.Helper()
	cert, err := x509.ParseCertificate(der[0])
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.attest.Certificate)
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: s.now()})
	if left := cert.NotAfter.Sub(s.now()); err != nil || string(attestapi.KeyID(cert.RawSubjectPublicKeyInfo)) != string(c.id) || cert.Subject.CommonName != name ||
		len(cert.URIs) != 1 || cert.URIs[0].String() != "ingot:host/"+name || left > minLifetime || left < minLifetime-time.Minute || cert.IsCA {
		s.t.Errorf("%v, %s, %v, %v", err, cert.Subject, cert.URIs, left)
	}
}

// TestMachineConfig: the registered machine.yaml is in the verdict.
func TestMachineConfig(t *testing.T) {
	s, _, _ := joined(t, nil)
	sum := pcr.SHA256.Sum([]byte("hostname: a\n"))
	d, err := s.operator().Act(context.Background(), "a", Action{Action: ActionMachine, Machine: sum})
	if err != nil || string(d.Record.Machine) != string(sum) {
		t.Errorf("%+v, %v", d, err)
	}
	for _, a := range []Action{{Action: ActionMachine, Machine: sum[:5]}, {Action: "dance"}, {Action: ActionFloor}} {
		if _, err := s.operator().Act(context.Background(), "a", a); err == nil {
			t.Errorf("%+v was done", a)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
