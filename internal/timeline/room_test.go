package timeline

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// flood is who forges an address with each packet: every machine asks, and is
// answered, in words of its own, and fetches when fetch says so.
func flood(l *Timeline, at time.Time, from, count int, fetch bool) {
	for i := from; i < from+count; i++ {
		m := netboot.MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}
		for n := range 12 {
			words := strings.Repeat(fmt.Sprint(i, n), 100)
			l.Saw(netboot.Event{Time: at, Stage: netboot.Asked, MAC: m, Detail: words})
			l.Saw(netboot.Event{Time: at, Stage: netboot.Offered, MAC: m, Detail: words})
		}
		if fetch {
			l.Saw(netboot.Event{Time: at, Stage: netboot.First, MAC: m, Path: "boot/x.efi"})
		}
	}
}

// holds counts the steps that are there, and fails when there are too many.
func holds(t *testing.T, l *Timeline, at time.Time) (steps int) {
	t.Helper()
	for _, m := range l.Machines(at) {
		for _, b := range l.Of(m.MAC, at) {
			steps += len(b.Steps)
		}
	}
	if steps != l.steps || steps > l.o.Total || len(l.hosts) > l.o.Hosts || len(l.dirty) > l.o.Hosts {
		t.Fatalf("%d steps, counted as %d, of %d machines, %d of them changed; want at most %d of %d", steps, l.steps, len(l.hosts), len(l.dirty), l.o.Total, l.o.Hosts)
	}
	return steps
}

// TestFlood: forged addresses hold a bounded number of steps together. Who only
// asked makes room before who fetched something, and that one before who attested
// or was named: those have all of their boots still.
func TestFlood(t *testing.T) {
	named, fetched := netboot.MAC{0x52, 0x54, 0, 0, 0, 2}, netboot.MAC{0x52, 0x54, 0, 0, 0, 3}
	o := Options{Hosts: 300, Total: 2000, Named: func(m netboot.MAC) bool { return m == named }}
	for name, fetch := range map[string]bool{"who asks": false, "who fetches": true} {
		t.Run(name, func(t *testing.T) {
			p := &tape{t, New(o), begin}
			for range 3 {
				p.after(time.Hour).saw(asked, offered, probed, first, last, proven, healthy)
			}
			p.l.Saw(netboot.Event{Time: p.now, Stage: netboot.Offered, MAC: named})
			p.l.Saw(netboot.Event{Time: p.now, Stage: netboot.First, MAC: fetched, Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.8"), 9)})
			for i := range 20 {
				p.after(time.Minute)
				flood(p.l, p.now, i*100, 100, fetch)
				if n := holds(t, p.l, p.now); i > 0 && n < o.Total/2 {
					t.Fatalf("%d steps are left of %d", n, o.Total)
				}
			}
			p.want(3, "asked offered probed first last attested healthy", "healthy", netboot.Healthy, false)
			if got := len(p.l.Of(named, p.now)); got != 1 {
				t.Errorf("the named machine has %d boots", got)
			}
			if got, there := p.l.Of(fetched, p.now), !fetch; (len(got) == 1) != there || (p.l.At(netip.MustParseAddr("10.0.0.8")) == fetched) != there {
				t.Errorf("the machine that fetched has %d boots; kept is wanted: %v", len(got), there)
			}
			if got := p.l.Machines(p.now)[0].MAC; got != (netboot.MAC{2, 0, 0, 0, 1999 >> 8, 1999 & 0xff}) {
				t.Errorf("%s was seen last", got)
			}
		})
	}
}

// TestFleetOverTotal: when hosts that attested fill all room, each loses its own
// oldest boots, and none is forgotten.
func TestFleetOverTotal(t *testing.T) {
	l, at := New(Options{Boots: 8, Steps: 20, Total: 600}), begin
	for range 8 {
		at = at.Add(time.Hour)
		for i := range 100 {
			m := netboot.MAC{0x52, 0x54, 0, 0, 1, byte(i)}
			for _, s := range []netboot.Stage{netboot.Offered, netboot.First, netboot.Last, netboot.Attested} {
				l.Saw(netboot.Event{Time: at, Stage: s, MAC: m, Path: "boot/x.efi", Method: netboot.HTTP})
			}
		}
		holds(t, l, at)
	}
	list := l.Machines(at)
	for _, m := range list {
		if m.Boot == nil || !m.Boot.Begun.Equal(at) || len(m.Boot.Steps) != 4 {
			t.Fatalf("%s has %+v", m.MAC, m.Boot)
		}
	}
	if len(list) != 100 {
		t.Errorf("%d machines are left of 100", len(list))
	}
}

// TestNewcomer: when hosts that attested take all places, a machine that is new takes
// one of them, and the next new one takes that.
func TestNewcomer(t *testing.T) {
	l := New(Options{Hosts: 3})
	for i := range 3 {
		l.Saw(netboot.Event{Time: begin, Stage: netboot.Attested, MAC: netboot.MAC{0x52, 0x54, 0, 0, 2, byte(i)}})
	}
	for i := range 50 {
		m := netboot.MAC{2, 0, 0, 0, 3, byte(i)}
		l.Saw(netboot.Event{Time: begin, Stage: netboot.Offered, MAC: m})
		list := l.Machines(begin)
		if len(list) != 3 || list[0].MAC != m || list[1].MAC[5] != 2 || list[2].MAC[5] != 1 {
			t.Fatalf("after %d: %+v", i+1, list)
		}
		holds(t, l, begin)
	}
}

// TestStrangersAreNotKept: of machines that only asked nothing is written, also not
// that they are gone; with the first byte all of the boot is.
func TestStrangersAreNotKept(t *testing.T) {
	l := New(Options{Hosts: 50})
	l.Saw(netboot.Event{Time: begin, Stage: netboot.Offered, MAC: mac})
	flood(l, begin, 0, 40, false)
	if list, err := l.Changed(1000); err != nil || len(list) != 0 {
		t.Fatalf("%d are to be kept, %v", len(list), err)
	}
	l.Saw(netboot.Event{Time: begin, Stage: netboot.First, MAC: mac})
	flood(l, begin, 1000, 500, false)
	list, err := l.Changed(1000)
	if err != nil || len(list) != 1 || list[0].MAC != mac || !strings.Contains(string(list[0].Body), `"offered"`) {
		t.Errorf("%+v, %v", list, err)
	}
}
