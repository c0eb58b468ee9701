package dispatch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
)

func can(b *updateapi.BootReport) { b.Installs = true }

// TestOrderIsNoTry: a boot by ticket makes nothing good, and blesses nothing: neither
// what a host without slots runs by it, nor a candidate that waits for its try.
func TestOrderIsNoTry(t *testing.T) {
	t.Run("no slots", func(t *testing.T) {
		r := newRig(t, "default: hello@1.0\nrescue: hello@3.0\n")
		m := r.machine("web-1", 1)
		m.start()
		m.report(0) // known, and not well yet
		r.order("web-1", "rescue", false)
		m.want("hello-3.0", m.start())
		m.report(90 * time.Second)
		m.report(5 * time.Minute)
		if g := m.good(); g != "" {
			t.Errorf("a rescue boot made %s good", g)
		}
		if b := m.boots(); b.Ticket != nil || b.Handed != bootrule.Rescue || b.Spent != nil {
			t.Errorf("it leaves %+v", b)
		}
		m.want("hello-1.0", m.start())
		m.report(90 * time.Second)
		if m.good() != release(1).Digest {
			t.Errorf("%s is good", m.good())
		}
	})
	t.Run("armed", func(t *testing.T) {
		r, m := settled(t)
		a := assign.Assignment{Release: release(2).Digest, Version: "2.0", By: "alice", At: r.at, Approved: true}
		if err := r.store.Update(ctx, m.name, func(c *fleet.Change) error { c.Assign(&a); return nil }); err != nil {
			t.Fatal(err)
		}
		m.report(5 * time.Minute)
		r.order("web-1", "hello@2.0", false)
		m.want("hello-2.0", m.start())
		for i := range 3 {
			m.report(time.Duration(90+i) * time.Second)
		}
		if p := m.phase(); p != slot.Armed || m.good() != release(1).Digest {
			t.Errorf("one boot by order: %s, %s is good", p, m.good())
		}
	})
	t.Run("reset before the report", func(t *testing.T) {
		r, m := settled(t)
		r.order("web-1", "hello@3.0", false)
		m.want("hello-3.0", m.start())
		m.attest(true)
		m.want("hello-1.0", m.start())
		m.report(0)
		if b := m.boots(); b.Handed != "" || b.Spent != nil {
			t.Errorf("the boot after it: %+v", b)
		}
	})
	t.Run("not trusted at first", func(t *testing.T) {
		r, m := settled(t)
		r.order("web-1", "hello@3.0", false)
		m.want("hello-3.0", m.start())
		m.attest(false)
		h, err := r.store.Host(ctx, m.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.d.Booted(ctx, h, updateapi.BootReport{Boot: fmt.Sprintf("%032x", m.boot), Name: "hello", Version: "3.0", Path: "pxe", Uptime: 1}); err != nil {
			t.Fatal(err)
		}
		if m.boots().Ticket == nil {
			t.Fatal("a report that is not trusted has spent the ticket")
		}
		m.report(0)
		if b := m.boots(); b.Ticket != nil || b.Handed != bootrule.Once {
			t.Errorf("trusted by now: %+v", b)
		}
	})
}

// TestTicketNotFollowed: a machine that begins to follow a ticket, and boots something
// else, neither spends it nor is handed an install.
func TestTicketNotFollowed(t *testing.T) {
	for _, order := range []string{"install:hello@2.0", "hello@2.0", "rescue"} {
		for name, boots := range map[string]func(m *machine){
			"its disk, as before":          func(m *machine) { m.elsewhere("disk", "1.0") },
			"from another server":          func(m *machine) { m.elsewhere("pxe", "1.0") },
			"its disk, the same by chance": func(m *machine) { m.elsewhere("disk", "2.0") },
		} {
			t.Run(order+", "+name, func(t *testing.T) {
				r := newRig(t, "default: hello@1.0\nrescue: hello@2.0\n")
				m := r.machine("web-1", 1)
				m.want("hello-1.0", m.start())
				m.report(90 * time.Second)
				r.order("web-1", order, false)
				m.want("hello-2.0", m.start()) // power is cut
				boots(m)
				if o := m.report(0, can); o.Install != nil {
					t.Errorf("it is told to install %+v", o.Install)
				}
				if b := m.boots(); b.Ticket == nil || !b.Ticket.Handed.IsZero() || b.Handed != "" {
					t.Fatalf("the ticket is %+v, made by %q", b.Ticket, b.Handed)
				}
				m.want("hello-2.0", m.start())
				if o := m.report(0, can); (o.Install != nil) != strings.HasPrefix(order, bootrule.Install) {
					t.Errorf("the boot by ticket gets %+v", o)
				}
			})
		}
	}
}

// TestInstallEnds: an install that was handed out ends with the disk that boots what
// was to be written, and with no other.
func TestInstallEnds(t *testing.T) {
	for name, reports := range map[string]bool{"attests": false, "reports": true} {
		t.Run(name, func(t *testing.T) {
			r, m := settled(t)
			r.order("web-1", "install:hello@2.0", true)
			m.want("hello-2.0", m.start())
			o := m.report(0, can)
			if o.Install == nil || o.Install.Release != release(2).Digest || o.Install.Version != "2.0" {
				t.Fatalf("it gets %+v", o)
			}
			says := func() {
				if m.attest(true); reports {
					m.report(time.Minute)
				}
			}
			m.elsewhere("disk", "1.0") // power was cut while it wrote
			says()
			if b := m.boots(); b.Ticket == nil || b.Ticket.Handed.IsZero() {
				t.Fatalf("the ticket is %+v", b.Ticket)
			}
			m.want("hello-2.0", m.start())
			if o := m.report(0, can); o.Install == nil {
				t.Fatalf("again it gets %+v", o)
			}
			if o := m.report(0, can); o.Install == nil { // until it is done
				t.Fatalf("its second report gets %+v", o)
			}
			m.elsewhere("disk", "2.0")
			says()
			if k := m.boots().Ticket; k != nil {
				t.Errorf("the ticket is still %+v", k)
			}
			m.want("hello-1.0", m.would())
		})
	}
}

// TestInstallOfAnother: an order to install that follows the rules is for what they say
// now; and it is for the machine that it was given for, whoever reports its address.
func TestInstallOfAnother(t *testing.T) {
	t.Run("release", func(t *testing.T) {
		r, m := settled(t)
		r.site.rule(t, "default: hello@2.0\n")
		r.order("web-1", "install", false)
		m.want("hello-2.0", m.start())
		if o := m.report(0, can); o.Install == nil || o.Install.Release != release(2).Digest {
			t.Fatalf("it gets %+v", o)
		}
		r.site.rule(t, "default: hello@3.0\n")
		m.want("hello-3.0", m.start()) // power is cut
		m.elsewhere("disk", "3.0")
		m.attest(true)
		if k := m.boots().Ticket; k == nil || !k.Handed.IsZero() {
			t.Errorf("the ticket is %+v", k)
		}
	})
	t.Run("machine", func(t *testing.T) {
		r, m := settled(t)
		x := r.machine("web-2", 2)
		r.order(x.mac.String(), "install:hello@3.0", false)
		x.want("hello-3.0", x.start()) // power is cut
		x.elsewhere("pxe", "1.0")
		x.report(0)
		m.elsewhere("pxe", "3.0")
		o := m.report(0, can, func(b *updateapi.BootReport) { b.MACs = append(b.MACs, x.mac.String()) })
		if o.Install != nil || m.boots().Handed != "" {
			t.Errorf("another host gets %+v, made by %q", o, m.boots().Handed)
		}
	})
}
