package slots

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/netslot"
)

// machine is what a story is about, whatever chooses its boots.
type machine interface {
	power()
	event(slot.Event)
	now() (version string, s slot.State)
	evident(slot.Cause)
	break_(version string, c slot.Cause)
	wrote() string
}

// actuators are the three, each on the real code for everything but firmware,
// processor and network.
var actuators = map[string]func(*testing.T) machine{
	"firmware": func(t *testing.T) machine { return newRack(t) },
	"selector": func(t *testing.T) machine {
		r := newRack(t)
		r.power()
		r.event(slot.Event{Kind: slot.SelfTested})
		r.power()
		if _, s := r.now(); s.Means != slot.Selector {
			t.Fatalf("the means are %s", s.Means)
		}
		// The firmware starts slot a for ever, as it does when nothing is written.
		for _, name := range []string{efivar.BootOrder, efivar.BootNext} {
			path := r.at("vars/" + efivar.FileName(name, efivar.Global))
			_ = os.Remove(path)
			if err := os.Mkdir(path, 0o755); err != nil { // no write is kept
				t.Fatal(err)
			}
		}
		return r
	},
	"netboot": newNetboot,
}

func TestStories(t *testing.T) {
	for name, start := range actuators {
		for story, tell := range stories {
			t.Run(name+"/"+story, func(t *testing.T) {
				m := start(t)
				m.power()
				tell(t, m)
			})
		}
	}
}

var stories = map[string]func(*testing.T, machine){
	"two updates": func(t *testing.T, m machine) {
		update(t, m, "2.0")
		want(t, m, "2.0", slot.Blessed)
		update(t, m, "3.0")
		want(t, m, "3.0", slot.Blessed)
		before := m.wrote()
		for range 5 {
			m.power()
		}
		if after := m.wrote(); after != before {
			t.Errorf("healthy boots have written:\n%s\nbefore:\n%s", after, before)
		}
		want(t, m, "3.0", slot.Blessed)
	},
	"unhealthy": func(t *testing.T, m machine) {
		m.break_("2.0", slot.Unhealthy)
		update(t, m, "2.0")
		want(t, m, "1.0", slot.Failed)
		rest(m)
		want(t, m, "1.0", slot.Rejected)
		stage(t, m, "2.0")
		want(t, m, "1.0", slot.Rejected)
	},
	"panic": func(t *testing.T, m machine) {
		m.break_("2.0", slot.Panic)
		update(t, m, "2.0")
		rest(m)
		want(t, m, "1.0", slot.Rejected)
		if _, s := m.now(); s.Cause != slot.Panic {
			t.Errorf("the cause is %s", s.Cause)
		}
	},
	"lost before init": func(t *testing.T, m machine) {
		m.break_("2.0", slot.LostBeforeInit)
		update(t, m, "2.0")
		want(t, m, "1.0", slot.Failed)
		rest(m)
		want(t, m, "1.0", slot.Rejected)
		if _, s := m.now(); s.Cause != slot.LostBeforeInit || s.Arms != 2 {
			t.Errorf("the cause is %s after %d starts", s.Cause, s.Arms)
		}
	},
	"does not load": func(t *testing.T, m machine) {
		m.break_("2.0", slot.CorruptPE)
		update(t, m, "2.0")
		want(t, m, "1.0", slot.Rejected)
		if _, s := m.now(); s.Cause != slot.CorruptPE {
			t.Errorf("the cause is %s", s.Cause)
		}
	},
	"rollback": func(t *testing.T, m machine) {
		update(t, m, "2.0")
		m.event(slot.Event{Kind: slot.Rollback})
		want(t, m, "1.0", slot.RolledBack)
		update(t, m, "2.0")
		want(t, m, "1.0", slot.RolledBack)
		m.event(slot.Event{Kind: slot.Override, Release: slot.Content{Version: "2.0"}})
		m.power()
		want(t, m, "1.0", slot.Idle)
	},
	"crash loop": func(t *testing.T, m machine) {
		update(t, m, "2.0")
		for range 4 {
			m.evident(slot.Panic)
			m.power()
		}
		want(t, m, "1.0", slot.CrashLoop)
	},
}

func stage(t *testing.T, m machine, version string) {
	m.event(slot.Event{Kind: slot.Stage, Release: release(t, version, uint32(version[0]-'0'))})
}

func update(t *testing.T, m machine, version string) {
	stage(t, m, version)
	m.event(slot.Event{Kind: slot.Approve})
}

// rest tries as often as the machine allows.
func rest(m machine) {
	for range 10 {
		if _, s := m.now(); s.Phase != slot.Failed {
			return
		}
		m.event(slot.Event{Kind: slot.Approve})
	}
}

func want(t *testing.T, m machine, version string, phase slot.Phase) {
	t.Helper()
	v, s := m.now()
	if v == version && s.Phase == phase {
		return
	}
	more := ""
	if r, ok := m.(*rack); ok {
		more = fmt.Sprintf("%v\n%s", r.chain, strings.Join(r.log, "\n"))
	}
	t.Fatalf("version %s in %s, want %s in %s\n%s\n%s", v, s.Phase, version, phase, strings.Join(s.Why(), "\n"), more)
}

// netboot is a machine without slots, and its server.
type netboot struct {
	t        *testing.T
	entry    netslot.Entry
	server   *netslot.Server
	behave   map[string]slot.Cause
	evidence []slot.Evidence
	running  string
	state    slot.State
}

const time10 = 10 * time.Second

func newNetboot(t *testing.T) machine {
	m := &netboot{t: t, behave: map[string]slot.Cause{}}
	m.server = &netslot.Server{Store: m, Ready: func(c slot.Content) error {
		if m.behave[c.Version] == slot.CorruptPE && m.state.Phase == slot.Armed {
			return errors.New("its bytes are not those of the release")
		}
		return nil
	}}
	if err := m.server.Enrol("host", release(t, "1.0", 1)); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *netboot) power() {
	for range 12 {
		if !m.boot() {
			return
		}
	}
	m.t.Fatal("does not come to rest")
}

func (m *netboot) took(out netslot.Outcome, err error) bool {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	m.state = out.State
	return out.Reset
}

func (m *netboot) boot() (again bool) {
	out, err := m.server.Serve("host")
	m.took(out, err)
	m.running = out.Content.Version
	switch why := m.behave[m.running]; why {
	case slot.LostBeforeInit:
		return true
	case slot.Panic:
		m.evident(why)
		return true
	}
	again = m.took(m.server.Booted("host", out.Content.Image, m.evidence))
	m.evidence = nil
	why := m.behave[m.running]
	for up := time10; m.state.Phase == slot.Trying && !again; up += 6 * time10 {
		again = m.took(m.server.Health("host", why == slot.NoCause, why, "check", up))
	}
	return again
}

func (m *netboot) event(e slot.Event) {
	if m.took(m.server.Handle("host", e)) {
		m.power()
	}
}

func (m *netboot) now() (string, slot.State)           { return m.running, m.state }
func (m *netboot) evident(c slot.Cause)                { m.evidence = append(m.evidence, slot.Evidence{Cause: c}) }
func (m *netboot) break_(version string, c slot.Cause) { m.behave[version] = c }

func (m *netboot) wrote() string { return fmt.Sprintf("%x", m.entry) }

// Change implements netslot.Store, of one host.
func (m *netboot) Change(_ string, f func(*netslot.Entry) error) error {
	next := m.entry
	if err := f(&next); err != nil {
		return err
	}
	m.entry = next
	return nil
}
