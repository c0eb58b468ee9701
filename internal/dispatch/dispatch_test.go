package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/quote"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

var ctx = context.Background()

// site is what is served, changed by tests.
type site struct {
	mu    sync.Mutex
	rules *bootrule.Rules
	list  []bootrule.Release
}

func (s *site) Rules() *bootrule.Rules       { s.mu.Lock(); defer s.mu.Unlock(); return s.rules }
func (s *site) Releases() []bootrule.Release { s.mu.Lock(); defer s.mu.Unlock(); return s.list }

func (s *site) rule(t testing.TB, text string) {
	t.Helper()
	r, err := bootrule.Parse("rules.yaml", []byte("format: 1\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = r
}

func release(n int) bootrule.Release {
	return bootrule.Release{Digest: fmt.Sprintf("%064x", n), Name: "hello", Version: fmt.Sprintf("%d.0", n), Arch: "amd64"}
}

// rig is a dispatcher on a store on the disk, with a clock of its own.
type rig struct {
	t     testing.TB
	dir   string
	store *fleet.SQLite
	site  *site
	d     *Dispatcher
	at    time.Time
	hosts map[string]*machine
}

func newRig(t testing.TB, rules string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), site: &site{list: []bootrule.Release{release(1), release(2), release(3)}}, at: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), hosts: map[string]*machine{}}
	r.dir += "/state"
	r.site.rule(t, rules)
	r.open()
	t.Cleanup(func() { r.store.Close() })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.store, err = fleet.Open(r.dir, fleet.Options{}); err != nil {
		r.t.Fatal(err)
	}
	if r.d, err = New(ctx, Options{Store: r.store, Site: r.site, Now: func() time.Time { return r.at }}); err != nil {
		r.t.Fatal(err)
	}
}

// crash opens the store anew: nothing but what is on the disk is left.
func (r *rig) crash() {
	r.t.Helper()
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

func (r *rig) wait(d time.Duration) { r.at = r.at.Add(d) }

// machine is an enrolled host with one link.
type machine struct {
	r      *rig
	name   string
	mac    netboot.MAC
	resets uint32
	boot   int
	runs   string // version; "" is off
	serial string
	arch   netboot.Arch // that it asks with; zero: UEFI on amd64
	path   string       // that it boots by; empty: pxe
	is     []string     // digests of the releases that its verdict names; none: its version alone
}

func (r *rig) machine(name string, n int) *machine {
	r.t.Helper()
	m := &machine{r: r, name: name, mac: netboot.MAC{0x52, 0x54, 0, 0, byte(n >> 8), byte(n)}}
	err := r.store.Update(ctx, name, func(c *fleet.Change) error {
		c.Host = &fleet.Host{Host: attest.Host{Record: attest.Record{Name: name, State: attest.Active, EKName: []byte("ek " + name), AKName: []byte("ak " + name)}}}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.hosts[name] = m
	return m
}

func (m *machine) client() netboot.Client {
	return netboot.Client{MAC: m.mac, Arch: cmp.Or(m.arch, netboot.EFIX64)}
}

// elsewhere is a reset after which the machine runs what this server did not serve.
func (m *machine) elsewhere(path, version string) {
	m.resets++
	m.boot++
	m.path, m.runs = path, version
}

// would is what DHCP says.
func (m *machine) would() string {
	m.r.t.Helper()
	x, err := m.r.d.Decide(ctx, m.client())
	if err != nil {
		m.r.t.Fatal(err)
	}
	return would(&x.Decision)
}

// fetch is the first byte of what DHCP says, by this machine or by who forges its
// address.
func (m *machine) fetch() string {
	m.r.t.Helper()
	m.r.d.Asked(m.client())
	x, err := m.r.d.Decide(ctx, m.client())
	if err != nil {
		m.r.t.Fatal(err)
	}
	if x.Verb != netboot.Boot {
		return "local"
	}
	if err := m.r.d.Begin(ctx, m.client(), x.names()); err != nil {
		m.r.t.Fatalf("%s: Begin: %v", m.name, err)
	}
	return would(&x.Decision)
}

// start is a reset, and a boot until ingot-init runs.
func (m *machine) start() string {
	m.r.t.Helper()
	m.resets++
	m.boot++
	m.path = ""
	got := m.fetch()
	m.runs = strings.TrimPrefix(got, "hello-")
	return got
}

// attest is a verdict about what runs.
func (m *machine) attest(trusted bool) {
	m.r.t.Helper()
	var before fleet.Host
	v := &attest.Verdict{Trusted: trusted, Host: m.name, At: m.r.at, Release: "hello", Version: m.runs, Boot: cmp.Or(m.path, "pxe"), Clock: quote.Clock{ResetCount: m.resets}}
	if !trusted {
		v.Findings = []attest.Finding{{Code: "pcr.mismatch", Detail: "PCR 11"}}
	}
	err := m.r.store.Update(ctx, m.name, func(c *fleet.Change) error {
		before = *c.Host
		c.Host.Trusted, c.Host.At = trusted, m.r.at
		c.Host.LastSeen = &attest.LastSeen{Clock: v.Clock, At: m.r.at}
		c.Host.Last = &fleet.Last{Release: "hello", Version: m.runs, Boot: cmp.Or(m.path, "pxe"), Manifests: m.is}
		return nil
	})
	if err != nil {
		m.r.t.Fatal(err)
	}
	m.r.d.Attested(ctx, &before, v, "192.0.2.7:999")
}

// report is a verdict and a report, healthy for so long or not at all.
func (m *machine) report(healthy time.Duration, more ...func(*updateapi.BootReport)) updateapi.BootOrder {
	m.r.t.Helper()
	m.attest(true)
	h, err := m.r.store.Host(ctx, m.name)
	if err != nil {
		m.r.t.Fatal(err)
	}
	b := updateapi.BootReport{Boot: fmt.Sprintf("%032x", m.boot), Name: "hello", Version: m.runs, Path: cmp.Or(m.path, "pxe"), MACs: []string{m.mac.String()}, Serial: m.serial,
		Uptime: healthy.Seconds() + 30, Healthy: healthy.Seconds()}
	for _, f := range more {
		f(&b)
	}
	o, err := m.r.d.Booted(ctx, h, b)
	if err != nil {
		m.r.t.Fatal(err)
	}
	return o
}

func (m *machine) phase() slot.Phase {
	m.r.t.Helper()
	b, err := m.r.store.Boot(ctx, m.name)
	if err != nil {
		m.r.t.Fatal(err)
	}
	rec, err := slot.Parse(b.Journal)
	if err != nil {
		m.r.t.Fatal(err)
	}
	return rec.Phase
}

func (m *machine) want(what, got string) {
	m.r.t.Helper()
	if got != what {
		d, _ := m.r.d.Boot(ctx, m.mac.String())
		m.r.t.Fatalf("%s boots %s, want %s\n%+v", m.name, got, what, d.Machines[0].Steps)
	}
}

// settled is a machine that runs release 1, and has slots.
func settled(t testing.TB) (*rig, *machine) {
	t.Helper()
	r := newRig(t, "default: hello@1.0\n")
	m := r.machine("web-1", 1)
	m.want("hello-1.0", m.start())
	r.wait(time.Minute)
	m.report(90 * time.Second)
	if p := m.phase(); p != slot.Idle {
		t.Fatalf("a machine that runs well is in %s", p)
	}
	return r, m
}

// TestTrial: another release is tried once, blessed by attested health, and served
// from then on; every step survives a crash of the server.
func TestTrial(t *testing.T) {
	r, m := settled(t)
	r.site.rule(t, "default: hello@2.0\n")
	for range 5 {
		m.want("hello-2.0", m.would()) // a question is no attempt
	}
	m.want("hello-2.0", m.start())
	r.crash()
	m.want("hello-2.0", m.would()) // within the window the try goes on
	r.wait(time.Minute)
	m.report(0)
	if p := m.phase(); p != slot.Trying {
		t.Fatalf("a try that runs is in %s", p)
	}
	r.crash()
	m.want("hello-1.0", m.would()) // not good yet
	m.report(30 * time.Second)
	if p := m.phase(); p != slot.Trying {
		t.Fatalf("30 s of health make %s", p)
	}
	m.report(70 * time.Second)
	if p := m.phase(); p != slot.Blessed {
		t.Fatalf("70 s of health make %s", p)
	}
	r.crash()
	m.want("hello-2.0", m.start())
	rep, err := r.store.Report(ctx, m.name)
	if err != nil || rep == nil || rep.Slots.Means != "netboot" || rep.Brief().Version != "2.0" {
		t.Errorf("a list would show %+v, %v", rep, err)
	}
}

// TestPowerCutInDownload: the window stays open, and nothing is lost.
func TestPowerCutInDownload(t *testing.T) {
	r, m := settled(t)
	r.site.rule(t, "default: hello@2.0\n")
	for range 4 {
		m.want("hello-2.0", m.start())
		r.wait(3 * time.Minute)
	}
	m.report(90 * time.Second)
	if p := m.phase(); p != slot.Blessed {
		t.Errorf("after the boot came through: %s", p)
	}
}

// TestDies: a release that never attests is served once, and once more, and is
// rejected; the last good one boots in between.
func TestDies(t *testing.T) {
	r, m := settled(t)
	r.site.rule(t, "default: hello@2.0\n")
	for range 2 {
		m.want("hello-2.0", m.start())
		r.wait(16 * time.Minute)
		m.want("hello-1.0", m.start())
		r.wait(time.Minute)
		if o := m.report(90 * time.Second); o.Reset {
			t.Error("the good release is told to start again")
		}
		r.wait(time.Hour)
	}
	if p := m.phase(); p != slot.Rejected {
		t.Fatalf("after two lost tries: %s", p)
	}
	m.want("hello-1.0", m.start())
	x, _ := r.d.Decide(ctx, m.client())
	if !strings.Contains(x.Reason, "hello-2.0 is rejected") {
		t.Errorf("the reason is %q", x.Reason)
	}
	r.site.rule(t, "default: hello@3.0\n") // another one is tried
	m.want("hello-3.0", m.start())
}

// TestUnhealthyAndUntrusted: a try that says it is unwell, and one whose evidence
// is not that of the release, end; the last good release is next.
func TestUnhealthyAndUntrusted(t *testing.T) {
	r, m := settled(t)
	r.site.rule(t, "default: hello@2.0\n")
	m.want("hello-2.0", m.start())
	m.report(0)
	o := m.report(0, func(b *updateapi.BootReport) {
		b.Uptime, b.Cause, b.Detail = 700, "network-dead", "no link"
	})
	if !o.Reset || m.phase() != slot.Failed {
		t.Errorf("an unhealthy try: %+v, %s", o, m.phase())
	}
	m.want("hello-1.0", m.start())
	m.report(90 * time.Second)
	m.want("hello-2.0", m.start()) // armed once more
	m.attest(false)
	if m.phase() != slot.Failed {
		t.Errorf("a try that is not trusted is in %s", m.phase())
	}
	m.want("hello-1.0", m.start())
}

// TestForged: whoever fetches under a host's address costs it nothing.
func TestForged(t *testing.T) {
	r, m := settled(t)
	r.site.rule(t, "default: hello@2.0\n")
	for range 10 { // while the host runs
		m.want("hello-2.0", m.fetch())
		r.wait(time.Minute)
		m.report(10 * time.Minute)
		if b, _ := r.store.Boot(ctx, m.name); b.Attempt != nil {
			t.Fatal("the attempt of somebody else goes on")
		}
	}
	m.want("hello-2.0", m.fetch()) // while it is off
	r.wait(time.Hour)
	m.want("hello-1.0", m.start())
	r.wait(time.Minute)
	m.report(90 * time.Second)
	m.want("hello-2.0", m.start())
	r.wait(time.Minute)
	m.report(90 * time.Second)
	if p := m.phase(); p != slot.Blessed {
		t.Errorf("the host's own try is %s", p)
	}
}

// TestStrangers: forged addresses write nothing.
func TestStrangers(t *testing.T) {
	r := newRig(t, "default: hello@1.0\n")
	for i := range 5000 {
		c := netboot.Client{MAC: netboot.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, Arch: netboot.EFIX64}
		r.d.Asked(c)
		if err := r.d.Begin(ctx, c, release(1).Digest); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := r.store.Boots(ctx); err != nil || len(all) != 0 {
		t.Errorf("%d rows were written, %v", len(all), err)
	}
	if list, err := r.store.Machines(ctx); err != nil || len(list) != 0 {
		t.Errorf("%d machines were written, %v", len(list), err)
	}
}

// TestMoved: what is not decided any more is not begun.
func TestMoved(t *testing.T) {
	r, m := settled(t)
	if err := r.d.Begin(ctx, m.client(), release(2).Digest); !errors.Is(err, netboot.ErrDenied) {
		t.Errorf("Begin of another release = %v", err)
	}
	// One without slots, and one that nobody knows: the decision alone says no.
	n := r.machine("web-2", 2)
	stranger := netboot.Client{MAC: netboot.MAC{2, 0, 0, 0, 0, 1}, Arch: netboot.EFIX64}
	for who, c := range map[string]netboot.Client{"a host without slots": n.client(), "a stranger": stranger} {
		if err := r.d.Begin(ctx, c, release(2).Digest); !errors.Is(err, ErrMoved) {
			t.Errorf("Begin of another release by %s = %v", who, err)
		}
		if err := r.d.Begin(ctx, c, release(1).Digest); err != nil {
			t.Errorf("Begin of its own by %s = %v", who, err)
		}
	}
}

func (r *rig) order(name, boot string, force bool) {
	r.t.Helper()
	if err := r.d.Order(ctx, name, verifier.BootOrder{Action: verifier.OrderOnce, Boot: boot, TTL: 3600, Force: force}, "alice"); err != nil {
		r.t.Fatal(err)
	}
}

// TestTicket: one boot, not lost in a power cut, spent on attestation, and no try
// of the slots.
func TestTicket(t *testing.T) {
	r, m := settled(t)
	r.order("web-1", "hello@3.0", false)
	r.crash()
	m.want("hello-3.0", m.start())
	r.crash()
	r.wait(20 * time.Minute) // longer than a window
	m.want("hello-3.0", m.start())
	r.wait(time.Minute)
	m.report(90 * time.Second)
	r.crash()
	m.want("hello-1.0", m.would())
	if p := m.phase(); p != slot.Idle {
		t.Errorf("a boot by ticket left the slots in %s", p)
	}
	r.order("web-1", "hello@3.0", false)
	r.wait(time.Hour)
	m.want("hello-1.0", m.would()) // its time is over
}

// TestTicketForged: who forges the address spends no ticket.
func TestTicketForged(t *testing.T) {
	r, m := settled(t)
	r.order("web-1", "hello@3.0", false)
	m.fetch()
	m.report(10 * time.Minute)
	m.want("hello-3.0", m.would())
	if b, _ := r.store.Boot(ctx, "web-1"); b.Ticket == nil || !b.Ticket.Begun.IsZero() {
		t.Errorf("the ticket is %+v", b.Ticket)
	}
}

// TestInstall: the ticket is handed to the boot that it made, again until the disk
// is written, and a finished host is not installed again.
func TestInstall(t *testing.T) {
	for name, order := range map[string]string{"by host": "web-1", "by address": "52:54:00:00:00:02"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "default: local\n")
			m := r.machine("web-1", 2)
			if name == "by host" { // it is known from an earlier boot
				r.site.rule(t, "default: hello@1.0\n")
				m.start()
				m.report(90 * time.Second)
				r.site.rule(t, "default: local\n")
			}
			m.want("local", m.start())
			r.order(order, "install:hello@2.0", true)
			m.want("hello-2.0", m.start())
			can := func(b *updateapi.BootReport) { b.Installs = true }
			first := m.report(0, can)
			if i := first.Install; i == nil || i.Release != release(2).Digest || !i.Force {
				t.Fatalf("the first report gets %+v", first)
			}
			r.crash()
			m.start() // power was cut while it wrote
			again := m.report(0, can)
			if again.Install == nil || again.Install.ID != first.Install.ID {
				t.Fatalf("after a power cut it gets %+v", again)
			}
			done := m.report(90*time.Second, can, func(b *updateapi.BootReport) {
				b.Install = &updateapi.Installing{Ticket: again.Install.ID, Phase: updateapi.InstallDone}
			})
			if done.Install != nil {
				t.Errorf("a finished host gets %+v", done)
			}
			m.want("local", m.start())
			if err := r.d.Order(ctx, order, verifier.BootOrder{Action: verifier.OrderNoOnce}, "alice"); err == nil {
				t.Error("a spent ticket was taken back")
			}
		})
	}
}

func TestOrdersRefused(t *testing.T) {
	r, _ := settled(t)
	for boot, want := range map[string]string{"rescue": "name no release", "memtest": "no program memtest", "hello@9": "no release hello@9", "a b": "blanks", "install:local": "none", "": "not a release"} {
		err := r.d.Order(ctx, "web-1", verifier.BootOrder{Action: verifier.OrderOnce, Boot: boot}, "alice")
		var e *updateapi.Error
		if !errors.As(err, &e) || !strings.Contains(e.Detail, want) {
			t.Errorf("boot once %q = %v, want %q", boot, err, want)
		}
	}
	for _, o := range []verifier.BootOrder{{Action: "odd"}, {Action: verifier.OrderOnce, Boot: "hello", TTL: 1e9}, {Action: verifier.OrderOnce, Boot: "hello", Force: true}, {Action: verifier.OrderUnquarantine}, {Action: verifier.OrderNoOnce}} {
		if err := r.d.Order(ctx, "web-1", o, "alice"); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	for _, name := range []string{"web-9", "52:54:00", "00:00:00:00:00:00"} {
		if _, err := r.d.Boot(ctx, name); err == nil {
			t.Errorf("%s is known", name)
		}
	}
}

// TestAssigned: an assignment waits until it is approved, has the machine start
// again once, and an override offers once more what was rejected.
func TestAssigned(t *testing.T) {
	r, m := settled(t)
	give := func(a *assign.Assignment) {
		t.Helper()
		if err := r.store.Update(ctx, m.name, func(c *fleet.Change) error { c.Assign(a); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	a := assign.Assignment{Release: release(2).Digest, Version: "2.0", By: "alice", At: r.at}
	give(&a)
	if o := m.report(5 * time.Minute); o.Reset || m.phase() != slot.Staged {
		t.Fatalf("what waits for approval: %+v, %s", o, m.phase())
	}
	m.want("hello-1.0", m.would())
	a.Approved = true
	give(&a)
	if o := m.report(6 * time.Minute); !o.Reset || m.phase() != slot.Armed {
		t.Fatalf("what is approved: %+v, %s", o, m.phase())
	}
	for range 2 { // it dies, twice
		m.want("hello-2.0", m.start())
		r.wait(time.Hour)
		m.want("hello-1.0", m.start())
		if o := m.report(90 * time.Second); o.Reset {
			t.Error("a lost try has the machine start again by itself")
		}
	}
	if m.phase() != slot.Rejected {
		t.Fatalf("after two lost tries: %s", m.phase())
	}
	a.Override = true
	give(&a)
	r.wait(time.Hour)
	m.report(time.Hour)
	m.want("hello-2.0", m.start())
	r.wait(time.Minute)
	m.report(90 * time.Second)
	if m.phase() != slot.Blessed {
		t.Errorf("offered once more: %s", m.phase())
	}
	if got, _ := r.store.Assignment(ctx, m.name); got == nil || got.Override {
		t.Errorf("the override is not used up: %+v", got)
	}
}

// TestQuarantine: an address that attests as another host than before boots
// nothing until an operator has looked.
func TestQuarantine(t *testing.T) {
	r, m := settled(t)
	x := r.machine("web-2", 1) // the same address
	x.runs, x.boot, x.resets = "1.0", 77, 5
	x.report(90 * time.Second)
	m.want("local", m.would())
	d, err := r.d.Boot(ctx, m.mac.String())
	if err != nil || !strings.Contains(d.Machines[0].Quarantine, "booted as web-1 and attested as web-2") {
		t.Fatalf("%+v, %v", d, err)
	}
	r.crash()
	m.want("local", m.would())
	y := r.machine("web-3", 1) // a third one, after somebody has looked
	y.runs, y.boot, y.resets = "1.0", 78, 6
	y.report(90 * time.Second)
	if d, err = r.d.Boot(ctx, m.mac.String()); err != nil || d.Machines[0].ClaimedHost != "web-2" {
		t.Fatalf("it is shown as %q, %v", d.Machines[0].ClaimedHost, err)
	}
	for _, host := range []string{"", "web-1", "web-3"} {
		if err := r.d.Order(ctx, m.mac.String(), verifier.BootOrder{Action: verifier.OrderUnquarantine, Host: host}, "alice"); err == nil {
			t.Errorf("an order for %q was taken", host)
		}
	}
	if err := r.d.Order(ctx, m.mac.String(), verifier.BootOrder{Action: verifier.OrderUnquarantine, Host: "web-2"}, "alice"); err != nil {
		t.Fatal(err)
	}
	if k, _ := r.d.Machine(m.mac); k.Host != "web-2" || k.Quarantine != "" {
		t.Errorf("after an operator has looked: %+v", k)
	}
	m.want("hello-1.0", m.would())
	x.serial = "A1"
	x.report(2 * time.Minute)
	x.serial = "B2"
	x.report(3 * time.Minute)
	m.want("local", m.would())
}

// TestRulesByRecord: serial, asset tag and endorsement key are those of the host
// that attested with the address.
func TestRulesByRecord(t *testing.T) {
	r := newRig(t, "rules:\n  - {serial: [\"CZ*\"], boot: hello@2.0}\n  - {ek: [\"656b207765622d32\"], boot: hello@3.0}\ndefault: hello@1.0\n")
	m, n := r.machine("web-1", 1), r.machine("web-2", 2)
	m.serial = "CZ77"
	m.want("hello-1.0", m.start())
	n.want("hello-1.0", n.start())
	m.report(0)
	n.report(0)
	m.want("hello-2.0", m.would())
	n.want("hello-3.0", n.would())
}

// TestRecentIsBounded: forged addresses take no memory without end, and those that
// ask again and again are kept.
func TestRecentIsBounded(t *testing.T) {
	r := recent[netboot.Arch]{limit: 1000}
	mine := netboot.MAC{2, 0, 0, 0, 0, 1}
	r.put(mine, netboot.BIOS)
	for i := range 30_000 {
		r.put(netboot.MAC{1, 2, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}, netboot.EFIX64)
		if a, ok := r.get(mine); !ok || a != netboot.BIOS {
			t.Fatalf("after %d others it is %v, %v", i, a, ok)
		}
		if n := len(r.now) + len(r.old); n > 1000 {
			t.Fatalf("%d are remembered", n)
		}
	}
}
