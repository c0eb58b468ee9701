package dispatch

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// byAddress is a machine that never attested, and that has begun to follow a ticket for
// release 2 which was given for its address and is over by now.
func byAddress(t *testing.T) (*rig, *machine) {
	t.Helper()
	r := newRig(t, "default: hello@1.0\n")
	m := r.machine("web-1", 2)
	r.order(m.mac.String(), "hello@2.0", false)
	m.want("hello-2.0", m.start())
	r.wait(2 * time.Hour)
	return r, m
}

// TestTicketOfAnAddressIsOver: what is left of a ticket for an address ends with the first
// report of the machine, and what it boots later is not by that order.
func TestTicketOfAnAddressIsOver(t *testing.T) {
	t.Run("power cut", func(t *testing.T) {
		r, m := byAddress(t)
		m.want("hello-1.0", m.start())
		m.report(90 * time.Second)
		r.site.rule(t, "default: hello@2.0\n")
		m.want("hello-2.0", m.start())
		r.wait(time.Minute)
		m.report(0)
		m.report(90 * time.Second)
		if p := m.phase(); p != slot.Blessed || m.boots().Handed != "" {
			t.Errorf("a try by the rules is %s, by order %q", p, m.boots().Handed)
		}
	})
	t.Run("approved late", func(t *testing.T) {
		r, m := byAddress(t)
		r.site.rule(t, "default: hello@2.0\n")
		m.report(90 * time.Second) // it runs what it booted by the ticket
		if m.boots().Handed != bootrule.Once || m.good() != "" {
			t.Fatalf("by order %q, %q is good", m.boots().Handed, m.good())
		}
		m.want("hello-2.0", m.start())
		m.report(90 * time.Second)
		if m.good() != release(2).Digest {
			t.Errorf("booted by the rules, by order %q: %q is good", m.boots().Handed, m.good())
		}
	})
}

// TestReleaseIsAway: a release that is not served at the moment of the first reports of
// its try is tried all the same when it is there again.
func TestReleaseIsAway(t *testing.T) {
	r, m := settled(t)
	var seen collected
	r.d.o.Watcher = &seen
	r.site.rule(t, "default: hello@2.0\n")
	m.want("hello-2.0", m.start())
	all := r.site.list
	r.site.list = []bootrule.Release{release(1), release(3)}
	for i := range 3 {
		m.report(time.Duration(i) * 10 * time.Second)
	}
	if p := m.phase(); p != slot.Armed {
		t.Fatalf("a try that nobody knows is %s", p)
	}
	if n := strings.Count(strings.Join(seen, ","), string(netboot.Healthy)); n != 1 {
		t.Errorf("that it is healthy was told %d times: %q", n, seen)
	}
	r.site.list = all
	m.report(30 * time.Second)
	if p := m.phase(); p != slot.Trying {
		t.Fatalf("a try that runs is %s", p)
	}
	m.report(90 * time.Second)
	if p := m.phase(); p != slot.Blessed {
		t.Errorf("after its health: %s", p)
	}
}

// TestInstallEndsLater: an install ends with a later verdict from the disk, when the first
// one could not be kept.
func TestInstallEndsLater(t *testing.T) {
	r, m := settled(t)
	r.order("web-1", "install:hello@2.0", true)
	m.want("hello-2.0", m.start())
	if o := m.report(0, can); o.Install == nil {
		t.Fatalf("it gets %+v", o)
	}
	m.elsewhere("disk", "2.0")
	r.breaks(errors.New("no space left on device"))
	m.attest(true)
	r.d.o.Store = r.store
	if m.boots().Ticket == nil {
		t.Fatal("the ticket has ended without being kept")
	}
	m.attest(true)
	if k := m.boots().Ticket; k != nil {
		t.Errorf("the ticket is still %+v", k)
	}
}

// TestRefusedLater: a try that is not trusted ends with a later verdict on the same boot, when
// the first one could not be kept.
func TestRefusedLater(t *testing.T) {
	r, m := settled(t)
	r.site.rule(t, "default: hello@2.0\n")
	m.want("hello-2.0", m.start())
	r.breaks(errors.New("no space left on device"))
	m.attest(false)
	r.d.o.Store = r.store
	if p := m.phase(); p != slot.Armed {
		t.Fatalf("a try of which nothing could be kept is %s", p)
	}
	m.attest(false)
	if p := m.phase(); p != slot.Failed {
		t.Errorf("a try that is not trusted is %s", p)
	}
	m.attest(false)
	m.want("hello-1.0", m.start())
}

// reloading are releases of which the second look finds none: they are read anew.
type reloading struct {
	*site
	looks int
}

func (s *reloading) Releases() []bootrule.Release {
	if s.looks++; s.looks > 1 {
		return nil
	}
	return s.site.Releases()
}

// TestInstallOfWhatIsAway: an install is handed out by what the report was held against.
func TestInstallOfWhatIsAway(t *testing.T) {
	r, m := settled(t)
	r.order("web-1", "install:hello@2.0", true)
	m.want("hello-2.0", m.start())
	m.attest(true)
	h, err := r.store.Host(ctx, m.name)
	if err != nil {
		t.Fatal(err)
	}
	r.d.o.Site = &reloading{site: r.site}
	o, err := r.d.Booted(ctx, h, updateapi.BootReport{Boot: strings.Repeat("7", 32), Name: "hello", Version: "2.0", Path: "pxe", MACs: []string{m.mac.String()}, Uptime: 30, Installs: true})
	if err != nil || o.Install == nil || o.Install.Version != "2.0" {
		t.Errorf("it gets %+v, %v", o.Install, err)
	}
}

// TestForgedTicketOfAnAddress: a fetch under a host's address leaves a ticket as it was that
// was given for that address before the host attested.
func TestForgedTicketOfAnAddress(t *testing.T) {
	r := newRig(t, "default: hello@1.0\n")
	m := r.machine("web-1", 2)
	r.order(m.mac.String(), "hello@3.0", false)
	m.elsewhere("pxe", "1.0")
	m.report(0)
	m.want("hello-3.0", m.fetch())
	kept := func() *bootrule.Ticket {
		t.Helper()
		b, err := r.store.Boot(ctx, m.mac.String())
		if err != nil || b.Ticket == nil {
			t.Fatalf("%+v, %v", b, err)
		}
		return b.Ticket
	}
	if kept().Begun.IsZero() {
		t.Fatal("a fetch does not begin the ticket")
	}
	m.report(time.Minute)
	if k := kept(); !k.Begun.IsZero() {
		t.Errorf("it began %v", k.Begun)
	}
	m.want("hello-3.0", m.start())
}

// TestKeepAgain: what could not be written of timelines is written later, also that a
// machine is forgotten.
func TestKeepAgain(t *testing.T) {
	r := newRig(t, "default: hello@1.0\n")
	r.d.o.Timeline = timeline.New(timeline.Options{Hosts: 1})
	full := errors.New("no space left on device")
	for i := range 3 {
		mac := netboot.MAC{2, 0, 0, 0, 0, byte(i)}
		r.d.Saw(netboot.Event{Time: r.at, Stage: netboot.First, MAC: mac, Addr: netip.MustParseAddrPort("192.0.2.7:1")})
		r.breaks(full)
		if err := r.d.Keep(ctx); !errors.Is(err, full) {
			t.Fatalf("Keep = %v", err)
		}
		r.d.o.Store = r.store
		if err := r.d.Keep(ctx); err != nil {
			t.Fatal(err)
		}
		bodies, err := r.store.Timelines(ctx)
		if err != nil || len(bodies) != 1 || !strings.Contains(string(bodies[0]), mac.String()) {
			t.Fatalf("after machine %d: %q, %v", i+1, bodies, err)
		}
	}
}

// TestNoSaysWhy: a file that is not given says what was decided.
func TestNoSaysWhy(t *testing.T) {
	r, m := settled(t)
	for rules, want := range map[string]string{
		"default: local\n": "default: local boot",
		"deny:\n  - {mac: [\"" + m.mac.String() + "\"], reason: returned to the lessor}\ndefault: hello@1.0\n": "deny list: returned to the lessor",
	} {
		r.site.rule(t, rules)
		err := r.d.Begin(ctx, m.client(), release(1).Digest)
		if !errors.Is(err, netboot.ErrDenied) || errors.Is(err, ErrMoved) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Begin = %v, want %s", err, want)
		}
	}
	r.site.rule(t, "default: hello@2.0\n")
	if err := r.d.Begin(ctx, m.client(), release(3).Digest); !errors.Is(err, ErrMoved) {
		t.Errorf("Begin of another release = %v", err)
	}
}
