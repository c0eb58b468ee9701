package updater

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/testkey"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// fleetServer gives one release to machines with a certificate by its authority.
type fleetServer struct {
	b       *bench
	release rel
	digest  string
	env     []byte
	http    *httptest.Server

	mu       sync.Mutex
	answer   updateapi.Assignment
	requests []string
	reports  []updateapi.Slots
	cut      int64 // bytes after which a transfer of a part is cut; 0: never
	spoil    bool  // a byte is flipped on the way
	busy     int   // refusals with 429 before an answer
	oldBase  bool  // patches are made from something else
}

// attested gives the machine a server and a certificate.
func attested(b *bench, r rel) *fleetServer {
	ca := testkey.New("db", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	issue := func(name string) testkey.Identity {
		return testkey.Certify(&x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, testkey.Key("other"), &ca)
	}
	own, theirs := issue("hello-1"), issue("server")
	f := &fleetServer{b: b, release: r, env: r.manifest(b.t, signer())}
	e, err := dsse.Parse(f.env)
	if err != nil {
		b.t.Fatal(err)
	}
	sum := sha256.Sum256(e.Payload)
	f.digest = hex.EncodeToString(sum[:])
	f.answer = updateapi.Assignment{Release: f.digest, Version: r.version, Approved: true, Interval: 1}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	f.http = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.http.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{theirs.Cert.Raw}, PrivateKey: theirs.Key}}}
	f.http.StartTLS()
	b.t.Cleanup(f.http.Close)
	key, err := x509.MarshalPKCS8PrivateKey(own.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	b.machine.Spec.Attest = &appliance.Attest{}
	b.machine.Spec.Trust.Server = [][]byte{ca.Cert.Raw}
	b.machine.Spec.Update.Pull, b.machine.Spec.Update.Interval = true, appliance.Duration(time.Millisecond)
	b.machine.Server = func() (string, string) {
		return strings.Replace(f.http.URL, "127.0.0.1", "localhost", 1) + "/site/", "test"
	}
	b.machine.Certificate = func() ([]byte, []byte) {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	}
	b.start()
	return f
}

func (f *fleetServer) refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(updateapi.Error{Code: code, Detail: "no"})
}

func (f *fleetServer) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/site")
	f.requests = append(f.requests, path)
	releases := updateapi.ReleasesPath + "/" + f.digest + "/"
	switch {
	case path == updateapi.AssignmentPath:
		json.NewEncoder(w).Encode(f.answer)
	case path == updateapi.SlotsPath:
		var s updateapi.Slots
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			f.b.t.Error(err)
		}
		f.reports = append(f.reports, s)
		w.Write([]byte("{}"))
	case path == releases+"manifest":
		w.Write(f.env)
	case f.busy > 0:
		f.busy--
		f.refuse(w, 429, "request.busy")
	case path == releases+"slot" || path == releases+"root":
		f.part(w, r, strings.TrimPrefix(path, releases))
	case path == releases+"slot.delta" || path == releases+"root.delta":
		f.patch(w, r, strings.TrimSuffix(strings.TrimPrefix(path, releases), ".delta"))
	default:
		f.refuse(w, 404, "request.unknown")
	}
}

func (f *fleetServer) data(part string) []byte {
	if part == "root" {
		return used(f.release.root)
	}
	return used(f.release.slot)
}

func (f *fleetServer) part(w http.ResponseWriter, r *http.Request, part string) {
	from, err := strconv.ParseInt(r.URL.Query().Get("from"), 10, 64)
	if err != nil {
		f.b.t.Error(err)
	}
	data := f.data(part)
	if from > int64(len(data)) {
		f.refuse(w, 416, updateapi.Malformed)
		return
	}
	body, err := io.ReadAll(f.b.encode(part, r.URL.Query().Get("coding"), data[from:]))
	if err != nil {
		f.b.t.Error(err)
	}
	f.send(w, body)
}

func (f *fleetServer) patch(w http.ResponseWriter, r *http.Request, part string) {
	base := sha256.Sum256(old.slot)
	if part == "root" {
		base = sha256.Sum256(old.root)
	}
	if r.URL.Query().Get("base") != hex.EncodeToString(base[:]) {
		f.refuse(w, 404, updateapi.WrongBase)
		return
	}
	body, err := io.ReadAll(f.b.encode(part, "delta", f.data(part)))
	if err != nil {
		f.b.t.Error(err)
	}
	if f.oldBase {
		body[70] ^= 1 // the digest of the base
	}
	f.send(w, body)
}

func (f *fleetServer) send(w http.ResponseWriter, body []byte) {
	if f.spoil && len(body) > 5000 {
		f.spoil = false
		body[len(body)-1] ^= 1
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if f.cut > 0 && int64(len(body)) > f.cut {
		w.Write(body[:f.cut])
		panic(http.ErrAbortHandler)
	}
	w.Write(body)
}

func (f *fleetServer) count(suffix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.HasSuffix(r, suffix) {
			n++
		}
	}
	return n
}

// follow runs pull until the machine resets, and returns.
func (f *fleetServer) follow(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan struct{})
	go func() { defer close(done); f.b.updater.pull(ctx) }()
	select {
	case <-f.b.keeper.reset:
	case <-ctx.Done():
		t.Error("no reset")
	}
	cancel()
	<-done
}

func TestPull(t *testing.T) {
	changed := old
	changed.version, changed.epoch, changed.slot, changed.root = "1.1", 1, bytes.Clone(old.slot), bytes.Clone(old.root)
	changed.slot[9*mib], changed.root[mib] = 'x', 'y'
	for _, tt := range []struct {
		name   string
		r      rel
		change func(*fleetServer)
		check  func(t *testing.T, f *fleetServer)
	}{
		{"patches", changed, nil, func(t *testing.T, f *fleetServer) {
			if f.count("/slot") != 0 || f.count("/slot.delta") != 1 {
				t.Errorf("asked for %v", f.requests)
			}
		}},
		{"the whole", fresh, func(f *fleetServer) { f.oldBase = true }, func(t *testing.T, f *fleetServer) {
			if f.count("/slot") != 1 || f.count("/root") != 1 || f.count("/slot.delta") != 1 {
				t.Errorf("asked for %v", f.requests)
			}
		}},
		{"cut again and again", fresh, func(f *fleetServer) { f.cut = 9 * mib }, func(t *testing.T, f *fleetServer) {
			if f.count("/slot") < 2 {
				t.Errorf("asked for %v", f.requests)
			}
		}},
		{"a byte flipped", fresh, func(f *fleetServer) { f.spoil, f.oldBase = true, false }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			f := attested(b, tt.r)
			if tt.change != nil {
				tt.change(f)
			}
			f.follow(t)
			b.holds("slot-b", tt.r.slot)
			b.holds("root-b", tt.r.root)
			if s := b.keeper.State(); s.Phase != slot.Armed {
				t.Errorf("%v: %v", s.Phase, b.log)
			}
			if tt.check != nil {
				tt.check(t, f)
			}
			if f.count("/manifest") != 1 {
				t.Errorf("the manifest was fetched %d times", f.count("/manifest"))
			}
		})
	}
}

// rounds asks a number of times.
func (f *fleetServer) rounds(t *testing.T, n int) *puller {
	t.Helper()
	p := &puller{u: f.b.updater}
	for range n {
		if _, err := p.round(t.Context()); err != nil {
			p.u.say("%v", err)
		}
	}
	return p
}

// Without an approval it stages and waits; nothing is fetched twice.
func TestPullWaits(t *testing.T) {
	b := newBench(t)
	f := attested(b, fresh)
	f.answer.Approved = false
	f.rounds(t, 3)
	b.staged(fresh)
	if f.count("/slot.delta") != 1 || b.keeper.resets != 0 {
		t.Errorf("%v, %d resets", f.requests, b.keeper.resets)
	}
	f.answer.Approved = true
	f.rounds(t, 1)
	<-b.keeper.reset
}

// TestPullOfWhatIsDamaged: a running slot with damage, of the release that is assigned,
// is no reason to write over the other slot, which is the way back.
func TestPullOfWhatIsDamaged(t *testing.T) {
	b := newBench(t)
	f := attested(b, old)
	b.keeper.state.Slots[0].Condition = slot.Damaged
	before := b.keeper.state
	f.rounds(t, 3)
	if b.keeper.state.Record != before.Record || b.keeper.resets != 0 || f.count("/slot") != 0 {
		t.Errorf("%+v, %v, %d resets", b.keeper.state.Record, f.requests, b.keeper.resets)
	}
	if p, err := b.updater.Offer(updateapi.Offer{Manifest: old.manifest(t, signer()), Approve: true}); err != nil || len(p.Wants) == 0 {
		t.Errorf("an operator's own word: %+v, %v", p, err)
	}
}

// What a machine refuses costs it nothing, whoever assigns it.
func TestPullRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		change     func(*bench, *fleetServer)
	}{
		{"another manifest", "another manifest", func(_ *bench, f *fleetServer) {
			third := fresh
			third.version = "3.0"
			f.env = third.manifest(t, signer())
		}},
		{"no signature", "release.untrusted", func(_ *bench, f *fleetServer) {
			f.env = bytes.Replace(f.env, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1)
		}},
		{"below the floor", "release.below-floor", func(b *bench, _ *fleetServer) { b.keeper.state.Floor = 7 }},
		{"rejected", "failed on this machine", func(b *bench, _ *fleetServer) {
			b.keeper.state.Rejections = []slot.Rejection{{Version: "2.0", Cause: slot.Hang}}
		}},
		{"no digest", "no digest", func(_ *bench, f *fleetServer) { f.answer.Release = "../../etc" }},
		{"another authority", "unknown authority", func(b *bench, _ *fleetServer) {
			b.machine.Spec.Trust.Server = [][]byte{testkey.New("other", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }).Cert.Raw}
		}},
		{"withheld", "withholds", func(_ *bench, f *fleetServer) {
			f.answer = updateapi.Assignment{Withheld: &updateapi.Error{Code: "x", Detail: "y"}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			f := attested(b, fresh)
			tt.change(b, f)
			b.start()
			f.rounds(t, 2)
			if log := fmt.Sprint(b.log); strings.Count(log, tt.want) != 1 {
				t.Errorf("log %q, want %q once", log, tt.want)
			}
			if !b.startable("slot-b") || b.keeper.State().Phase != slot.Idle {
				t.Error("the other slot was touched")
			}
		})
	}
}

// A failed trial is not made again at once, and not when the approval is gone.
func TestApprovalWithdrawn(t *testing.T) {
	b := newBench(t)
	f := attested(b, fresh)
	f.rounds(t, 1)
	<-b.keeper.reset
	b.keeper.boot(slot.A) // it never came up
	b.start()
	if s := b.keeper.State(); s.Phase != slot.Failed || !b.updater.owesTry() {
		t.Fatalf("%v", s.Phase)
	}
	f.rounds(t, 1)
	if b.keeper.resets != 1 || b.updater.pause(slot.Panic) != time.Millisecond {
		t.Error("tried again at once")
	}
	f.answer.Approved = false
	f.rounds(t, 1)
	if b.updater.owesTry() {
		t.Error("it would be tried although the approval was withdrawn")
	}
}

// A trial that was approved and lost is made again without anybody's word, and
// not for ever.
func TestRearm(t *testing.T) {
	b := newBench(t)
	b.machine.Spec.Update.Interval = appliance.Duration(time.Millisecond)
	b.start()
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer()), Approve: true}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"root", "slot"} {
		if _, err := b.send(fresh, part, "identity"); err != nil {
			t.Fatal(err)
		}
	}
	<-b.keeper.reset
	b.keeper.boot(slot.A) // the power went before its init ran
	b.start()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.updater.rearm(ctx) }()
	<-b.keeper.reset
	cancel()
	<-done
	b.keeper.boot(slot.A)
	if s := b.keeper.State(); s.Phase != slot.Rejected || b.updater.owesTry() {
		t.Errorf("lost twice: %v", s.Phase)
	}
}

func TestReports(t *testing.T) {
	b := newBench(t)
	f := attested(b, fresh)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.updater.reports(ctx) }()
	last := func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.reports) == 0 {
			return ""
		}
		return f.reports[len(f.reports)-1].Phase
	}
	wait := func(phase string) {
		t.Helper()
		for range 600 {
			if last() == phase {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("the server knows %q, want %q", last(), phase)
	}
	wait("IDLE")
	b.offer(fresh)
	wait("STAGING")
	cancel()
	<-done
}

func TestRhythm(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 100 {
		r := &rhythm{name: fmt.Sprintf("host-%d", i), interval: 5 * time.Minute}
		first, next := r.first(), r.next()
		if first < 0 || first > spread || next < 4*time.Minute+30*time.Second || next > 5*time.Minute+30*time.Second {
			t.Errorf("%v, %v", first, next)
		}
		seen[first.Truncate(time.Second)] = true
		for range 40 {
			if d := r.retry(); d <= 0 || d > 5*time.Minute {
				t.Errorf("retry after %v", d)
			}
		}
		again := &rhythm{name: fmt.Sprintf("host-%d", i), interval: 5 * time.Minute}
		if again.first() != first {
			t.Error("not derived from the host")
		}
	}
	if len(seen) < 20 {
		t.Errorf("100 machines ask in %d different seconds", len(seen))
	}
	r := &rhythm{interval: time.Minute}
	for in, want := range map[float64]time.Duration{0: time.Minute, -1: time.Minute, 0.001: minInterval, 5: 5 * time.Second, 1e300: maxInterval} {
		r.interval = time.Minute
		if r.ask(in); r.interval != want {
			t.Errorf("%v seconds: %v", in, r.interval)
		}
	}
}

var _ updates.Client = (*Updater)(nil)
