package attester

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
	"github.com/ingot-os/ingot/attest/statement"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/measure"
	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/evidence/evidencetest"
	"github.com/ingot-os/ingot/internal/oracle"
)

// machine is a machine with a TPM that has recorded a boot.
type machine struct {
	proof.Machine
	t *testing.T

	mu        sync.Mutex
	states    []listener.Attestation
	log       []string
	delivered []proof.Delivery
	clock     time.Time // as SetTime has left it
	known     bool
}

func boot(t *testing.T) *machine {
	t.Helper()
	oracle.Need(t, evidencetest.Package, "swtpm")
	vm, err := evidencetest.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vm.Stop)
	raw, err := evidencetest.Log("../../../attest/testdata/boot-257.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := vm.Extend(raw); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, known: true}
	log := &measure.Log{}
	extend(t, vm.Socket, log, statement.PCR, statement.Statement{Slot: "a", Boot: "disk"}.Data())
	m.Machine = proof.Machine{
		Prefix: "test", Interval: time.Second,
		TPM:      func(context.Context) (string, error) { return vm.Socket, nil },
		EventLog: func() ([]byte, error) { return raw, nil },
		InitLog:  log.Bytes, Floor: time.Unix(1000, 0),
		TimeKnown: func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.known },
		SetTime: func(at time.Time) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.clock, m.known = at, true
			return nil
		},
		Deliver: func(d proof.Delivery) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.delivered = append(m.delivered, d)
			return nil
		},
		Report: func(s listener.Attestation) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.states = append(m.states, s)
		},
		Logf: func(format string, args ...any) {
			t.Logf(format, args...)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.log = append(m.log, fmt.Sprintf(format, args...))
		},
	}
	return m
}

// extend lets the emulator do what PID 1 asks the kernel's device for.
func extend(t *testing.T, socket string, log *measure.Log, register int, data []byte) {
	t.Helper()
	dev, err := emulate(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	digests, err := measure.Event(dev, register, data)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Append(register, data, digests); err != nil {
		t.Fatal(err)
	}
}

// at is a machine of a server with an authority.
func (m *machine) at(s *server, by *authority) *machine {
	m.Roots = [][]byte{by.cert.Raw}
	m.Server = func() (string, string) { return s.URL + "/base/", "recipe" }
	return m
}

// run attests until a state is reported, and gives that report.
func (m *machine) run(want string) listener.Attestation {
	m.t.Helper()
	return m.until(func(s listener.Attestation) bool { return s.State == want })
}

func (m *machine) until(ok func(listener.Attestation) bool) listener.Attestation {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	done := make(chan struct{})
	go func() { defer close(done); Run(ctx, m.Machine) }()
	defer func() { cancel(); <-done }()
	for ctx.Err() == nil {
		m.mu.Lock()
		i := slices.IndexFunc(m.states, ok)
		if i >= 0 {
			s := m.states[i]
			m.mu.Unlock()
			return s
		}
		m.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.t.Fatalf("the state did not come; reported %+v", m.states)
	return listener.Attestation{}
}

var (
	past   = time.Now().Add(-time.Hour)
	future = time.Now().Add(time.Hour)
)

// TestTrusted: a machine that nobody knows enrols, proves and gets what it is
// due, and nothing is left in its TPM.
func TestTrusted(t *testing.T) {
	by := newAuthority(t, past, future)
	s := serve(t, by, past, future)
	s.secrets = map[string]string{"db-password": "correct horse", "empty": ""}
	m := boot(t).at(s, by)
	start := time.Now()
	got := m.run("trusted")
	t.Logf("trusted after %s", time.Since(start))
	if !regexp.MustCompile(`^test-[0-9a-f]{12}$`).MatchString(got.Name) || got.Error != "" || got.Last == "" || got.Source != "recipe" {
		t.Errorf("reported %+v", got)
	}
	if want := fmt.Sprintf("enrolled as %q, \"active\", EK name %x", got.Name, s.host.EKName); !strings.Contains(strings.Join(m.log, "\n"), want) {
		t.Errorf("an operator finds no %q on the console: %q", want, m.log)
	}
	for i := range m.states {
		if want := []string{"enrolling", "trusted"}; i < 2 && m.states[i].State != want[i] {
			t.Errorf("state %d is %s, want %s", i, m.states[i].State, want[i])
		}
	}
	d := m.delivered[0]
	secrets := map[string]string{}
	for _, s := range d.Secrets {
		secrets[s.Name] = string(s.Value)
	}
	if len(secrets) != 2 || secrets["db-password"] != "correct horse" || secrets["empty"] != "" {
		t.Errorf("secrets %q", secrets)
	}
	if !strings.Contains(string(d.Certificate), "BEGIN CERTIFICATE") || !strings.Contains(string(d.Key), "BEGIN PRIVATE KEY") {
		t.Errorf("identity %q %q", d.Certificate, d.Key)
	}
	if r := s.verdicts[0].Registers; len(r) != len(attest.DefaultPCRs) || r[len(r)-1].Log != pcr.Match {
		t.Errorf("registers %+v, want PCR 15 explained by the log of init", r)
	}
	empty(t, m)
}

// TestFloorProof: an image that seals its data sends what the TPM says about the
// counter, when there is one; another does not.
func TestFloorProof(t *testing.T) {
	by := newAuthority(t, past, future)
	s := serve(t, by, past, future)
	m := boot(t).at(s, by)
	base, sealed := new(int64), true
	m.FloorBase = func() (*int64, bool) { return base, sealed }
	prove := func() *attest.FloorProof {
		t.Helper()
		m.states = nil
		m.run("trusted")
		return s.floors[len(s.floors)-1]
	}
	if got := prove(); got != nil {
		t.Errorf("a TPM without a counter says %+v", got)
	}
	path, _ := m.TPM(t.Context())
	chip, err := tpm.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := chip.DefineCounter(tpm.FloorIndex)
	if err := errors.Join(err, chip.Close()); err != nil {
		t.Fatal(err)
	}
	*base = int64(c.Value) - 3
	got := prove()
	if got == nil || got.Epoch == nil || *got.Epoch != 3 {
		t.Fatalf("%+v", got)
	}
	nv, err := quote.ParseNV(got.Attest)
	if err != nil || !bytes.Equal(nv.Index, c.Name) || binary.BigEndian.Uint64(nv.Contents) != c.Value || !bytes.Equal(nv.ExtraData, s.opened.ExtraData()) {
		t.Errorf("%+v, %v", nv, err)
	}
	for _, f := range s.verdicts[len(s.verdicts)-1].Findings {
		if f.Code == attest.FloorUnproven {
			t.Error(f)
		}
	}
	if base = nil; prove().Epoch != nil {
		t.Error("a floor without a base")
	}
	if sealed = false; prove() != nil {
		t.Error("an image without a floor speaks of one")
	}
	empty(t, m)
}

// empty wants no keys and sessions in the TPM.
func empty(t *testing.T, m *machine) {
	t.Helper()
	path, err := m.TPM(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dev, err := emulate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} { // transient objects, sessions of both kinds
		r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 16}.Execute(dev)
		if err != nil {
			t.Fatal(err)
		}
		handles, err := r.CapabilityData.Data.Handles()
		if err != nil || len(handles.Handle) > 0 {
			t.Errorf("the TPM holds %x, %v", handles, err)
		}
	}
}

// TestGoesOn: the next challenge comes with the answer, so a proof is one
// exchange; a server that hangs up is asked again.
func TestGoesOn(t *testing.T) {
	for _, hangUp := range []bool{false, true} {
		by := newAuthority(t, past, future)
		s := serve(t, by, past, future)
		s.next, s.hangUp = !hangUp, hangUp
		m := boot(t).at(s, by)
		told := 0
		m.SetTime = func(time.Time) error { told++; return nil }
		m.until(func(listener.Attestation) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.verdicts) >= 3
		})
		if told < 3 {
			t.Errorf("hang up %t: the time of %d challenges was taken, want each", hangUp, told)
		}
		asked := 0
		for _, r := range s.requests {
			if strings.HasSuffix(r, attestapi.ChallengePath) {
				asked++
			}
		}
		if want := 2; !hangUp && asked != want { // before the enrolment and behind it
			t.Errorf("asked %d times for a challenge, want %d", asked, want)
		}
		for _, v := range s.verdicts {
			if v.Reason() != attest.ReferenceNone {
				t.Errorf("hang up %t: %+v", hangUp, v.Findings)
			}
		}
	}
}

// TestUndelivered: a secret that could not be written is not opened again, which
// makes the TPM work.
func TestUndelivered(t *testing.T) {
	by := newAuthority(t, past, future)
	s := serve(t, by, past, future)
	s.secrets = map[string]string{"a": "x"}
	var sealed []attestapi.Secret
	s.spoil = func(one *attestapi.Secret) { // the same one each time
		sealed = append(sealed, *one)
		*one = sealed[0]
	}
	m := boot(t).at(s, by)
	m.Deliver = func(d proof.Delivery) error {
		m.delivered = append(m.delivered, d)
		return errors.New("a directory is in the way")
	}
	m.until(func(listener.Attestation) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.verdicts) >= 4
	})
	opened := 0
	for _, d := range m.delivered {
		opened += len(d.Secrets)
	}
	if opened != 1 || !slices.ContainsFunc(m.states, func(a listener.Attestation) bool { return strings.Contains(a.Error, "in the way") }) {
		t.Errorf("%d secrets opened in %d deliveries, reported %+v", opened, len(m.delivered), m.states)
	}
}

// TestPending: the machine asks on until an operator has approved it.
func TestPending(t *testing.T) {
	by := newAuthority(t, past, future)
	s := serve(t, by, past, future)
	s.pending = true
	m := boot(t).at(s, by)
	m.Hostname = "edge-1"
	time.AfterFunc(1500*time.Millisecond, func() { s.set(func() { s.pending = false }) })
	if got := m.run("trusted"); got.Name != "edge-1" {
		t.Errorf("the host is %q", got.Name)
	}
	if !slices.ContainsFunc(m.states, func(a listener.Attestation) bool { return a.State == "pending" }) {
		t.Errorf("was never pending: %+v", m.states)
	}
}

// TestRefused: the machine tells why, and gets nothing.
func TestRefused(t *testing.T) {
	by := newAuthority(t, past, future)
	s := serve(t, by, past, future)
	s.refuse, s.secrets = true, map[string]string{"a": "b"}
	m := boot(t).at(s, by)
	got := m.run("refused")
	want := listener.Finding{Code: "image.unknown", Detail: "PCR 11: section .initrd: another"}
	if len(got.Findings) != 1 || got.Findings[0] != want || len(m.delivered) != 0 {
		t.Errorf("reported %+v, delivered %d", got, len(m.delivered))
	}
}

// TestEnrolmentRefused: a refusal before there is any evidence.
func TestEnrolmentRefused(t *testing.T) {
	by := newAuthority(t, past, future)
	s := serve(t, by, past, future)
	m := boot(t).at(s, by)
	m.Hostname = "edge-1"
	s.Config.Handler = refuseAll(attest.EnrolKnown, "the name is enrolled")
	if got := m.run("refused"); got.Findings[0].Code != "enrol.known" || got.Error != "" {
		t.Errorf("reported %+v", got)
	}
}

// TestSpoiledSecrets: what does not open is told, and not delivered.
func TestSpoiledSecrets(t *testing.T) {
	for name, spoil := range map[string]func(*attestapi.Secret){
		"ciphertext": func(s *attestapi.Secret) { s.Ciphertext[0] ^= 1 },
		"name":       func(s *attestapi.Secret) { s.Name = "b" },
		"nonce":      func(s *attestapi.Secret) { s.Nonce = nil },
		"credential": func(s *attestapi.Secret) { s.Credential.Blob[10] ^= 1 },
	} {
		by := newAuthority(t, past, future)
		s := serve(t, by, past, future)
		s.secrets, s.spoil = map[string]string{"a": "x"}, spoil
		m := boot(t).at(s, by)
		if got := m.run("trusted"); !strings.Contains(got.Error, "open secret") || len(m.delivered) != 1 || len(m.delivered[0].Secrets) != 0 {
			t.Errorf("%s: reported %+v, delivered %+v", name, got, m.delivered)
		}
		empty(t, m)
	}
}

// TestServersCertificate: whom the machine does not talk to, and when.
func TestServersCertificate(t *testing.T) {
	then := time.Date(2031, 5, 1, 0, 0, 0, 0, time.UTC)
	good := newAuthority(t, then.AddDate(-1, 0, 0), then.AddDate(1, 0, 0))
	evil := newAuthority(t, then.AddDate(-1, 0, 0), then.AddDate(1, 0, 0))
	for _, c := range []struct {
		name      string
		by        *authority
		from, to  time.Time
		now       time.Time
		known     bool
		floor     time.Time
		want      string // in the error; empty: trusted
		connected bool   // the server was asked for something
	}{
		{"time from the server", good, then.AddDate(0, -1, 0), then.AddDate(0, 1, 0), then, false, time.Unix(1000, 0), "", true},
		{"another authority", evil, then.AddDate(0, -1, 0), then.AddDate(0, 1, 0), then, false, time.Unix(1000, 0), "signed by unknown authority", false},
		{"the machine knows better", good, then.AddDate(0, -1, 0), then.AddDate(0, 1, 0), then, true, time.Unix(1000, 0), "not yet valid", false},
		{"time before the floor", good, then.AddDate(0, -1, 0), then.AddDate(0, 1, 0), then, false, then.AddDate(1, 0, 0), "before this image's", true},
		{"expired at its own time", good, then.AddDate(0, -2, 0), then.AddDate(0, -1, 0), then, false, time.Unix(1000, 0), "expired", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.by, c.from, c.to)
			s.now = func() time.Time { return c.now }
			m := boot(t).at(s, good)
			m.known, m.Floor = c.known, c.floor
			if c.want == "" {
				if m.run("trusted"); !m.clock.Equal(c.now) {
					t.Errorf("the clock is set to %s", m.clock)
				}
				return
			}
			got := m.run("failed")
			if !strings.Contains(got.Error, c.want) {
				t.Errorf("error %q, want %q", got.Error, c.want)
			}
			if !m.clock.IsZero() || len(m.delivered) > 0 || len(s.verdicts) > 0 || (len(s.requests) > 0) != c.connected {
				t.Errorf("clock %s, %d requests, %d verdicts", m.clock, len(s.requests), len(s.verdicts))
			}
		})
	}
}

// TestNameOfServer: a certificate for another name is another server.
func TestNameOfServer(t *testing.T) {
	by := newAuthority(t, past, future)
	s := serve(t, by, past, future)
	m := boot(t).at(s, by)
	m.Server = func() (string, string) { return strings.Replace(s.URL, "127.0.0.1", "localhost", 1), "dhcp" }
	if got := m.run("failed"); !strings.Contains(got.Error, "localhost") {
		t.Errorf("reported %+v", got)
	}
}

// TestFallback: when nobody answers at the address that DHCP names, the recipe's is
// tried, and after it the first again.
func TestFallback(t *testing.T) {
	a := &attester{m: proof.Machine{Server: func() (string, string) { return "https://named", "dhcp" }}}
	for range 3 * connectTries {
		if _, by := a.server(); by != "dhcp" {
			t.Fatalf("%s without a fallback", by)
		}
		a.missed++
	}
	a.m.Fallback = func() (string, string) { return "https://own", "recipe" }
	var tried []string
	for a.missed = 0; a.missed < 3*connectTries; a.missed++ {
		if _, by := a.server(); a.missed%connectTries == 0 {
			tried = append(tried, by)
		}
	}
	if want := []string{"dhcp", "recipe", "dhcp"}; !slices.Equal(tried, want) {
		t.Errorf("tried %q, want %q", tried, want)
	}
}

// TestLogChanges: a quote that another extend has overtaken is made again.
func TestLogChanges(t *testing.T) {
	by := newAuthority(t, past, future)
	s := serve(t, by, past, future)
	m := boot(t).at(s, by)
	real, calls := m.InitLog, 0
	m.InitLog = func() []byte {
		if calls++; calls == 1 {
			return nil // as it was before the statement was logged
		}
		return real()
	}
	m.run("trusted")
	if calls < 4 {
		t.Errorf("the log was read %d times", calls)
	}
}

func TestWithoutTPM(t *testing.T) {
	by := newAuthority(t, past, future)
	m := boot(t).at(serve(t, by, past, future), by)
	m.TPM = func(context.Context) (string, error) { return "", errors.New("the machine has no TPM 2.0") }
	if got := m.run("absent"); !strings.Contains(got.Error, "no TPM") {
		t.Errorf("reported %+v", got)
	}
	m = boot(t)
	m.Server = func() (string, string) { return "", "" }
	if got := m.run("waiting"); !strings.Contains(got.Error, "no server") {
		t.Errorf("reported %+v", got)
	}
}
