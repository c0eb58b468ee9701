package timeline

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// rank orders stages as a boot goes through them.
var rank = map[netboot.Stage]int{netboot.Asked: 1, netboot.Refused: 2, netboot.Offered: 3, netboot.Probed: 4, netboot.First: 5, netboot.Broken: 6, netboot.Last: 7, Chained: 8, Started: 9,
	netboot.Attested: 10, Untrusted: 10, netboot.Healthy: 11, Released: 12}

func (b *Boot) furthest() (n int) {
	for _, s := range b.Steps {
		n = max(n, rank[s.Stage])
	}
	return n
}

// judge says how far a boot came, in which stage that is, and whether it died
// there. A boot whose last step is younger than limit may still go on. That
// firmware asks for a size, breaks off, and asks again is how it works, and no
// error.
func (b *Boot) judge(now time.Time, limit time.Duration) (outcome string, stage netboot.Stage, died bool) {
	if len(b.Steps) == 0 {
		return "nothing was seen", "", false
	}
	over := now.Sub(b.Steps[len(b.Steps)-1].Time) > limit
	tell := func(stage netboot.Stage, going, dead string) (string, netboot.Stage, bool) {
		if over {
			return dead, stage, true
		}
		return going, stage, false
	}
	file := b.file()
	switch {
	case b.has(Released):
		return "healthy, its release is good", Released, false
	case b.has(netboot.Healthy):
		return "healthy", netboot.Healthy, false
	case b.has(netboot.Attested):
		return tell(netboot.Attested, "attested", "attested, never healthy")
	case b.has(Untrusted):
		return "not trusted: " + b.last(Untrusted).Detail, Untrusted, true
	case file != nil && file.Stage != netboot.Last && b.last(Started).Time.After(file.Time): // the end of the download was not seen
		return tell(Started, "ingot-init runs", "ingot-init started, never attested")
	case file != nil && file.Stage == netboot.Broken:
		return "download of " + file.Path + " broken at " + percent(file), netboot.Broken, true
	case file != nil && file.Stage == netboot.First:
		return tell(netboot.First, "loads "+file.Path, "download of "+file.Path+" never ended")
	case b.has(Started):
		return tell(Started, "ingot-init runs", "ingot-init started, never attested")
	case b.has(Chained) && file != nil && isLoader(file.Path, b.Release):
		return tell(Chained, "iPXE runs", "iPXE runs, fetched nothing")
	case file != nil:
		return tell(netboot.Last, "loaded "+file.Path, "loaded "+file.Path+", never attested")
	}
	return b.judgeAnswer(tell)
}

// judgeAnswer is about a boot of which no byte went out: the newest answer counts.
func (b *Boot) judgeAnswer(tell func(stage netboot.Stage, going, dead string) (string, netboot.Stage, bool)) (string, netboot.Stage, bool) {
	for i := len(b.Steps) - 1; i >= 0; i-- {
		switch s := &b.Steps[i]; {
		case s.Stage == netboot.Refused && s.Path != "":
			return "told no for " + s.Path + ": " + s.Detail, netboot.Refused, true
		case s.Stage == netboot.Refused: // that is how it is meant to end
			return "told no: " + s.Detail, netboot.Refused, false
		case s.Stage == netboot.Probed:
			return tell(netboot.Probed, "asked for the size", "asked for the size, never fetched")
		case s.Stage == netboot.Offered:
			return tell(netboot.Offered, "offered", "offered, never fetched")
		}
	}
	return tell(netboot.Asked, "asked", "asked, never answered")
}

// file is the last step of a transfer of which bytes went out.
func (b *Boot) file() *Step {
	for i := len(b.Steps) - 1; i >= 0; i-- {
		switch s := &b.Steps[i]; s.Stage {
		case netboot.First, netboot.Broken, netboot.Last:
			return s
		}
	}
	return nil
}

func (b *Boot) last(stage netboot.Stage) *Step {
	for i := len(b.Steps) - 1; i >= 0; i-- {
		if b.Steps[i].Stage == stage {
			return &b.Steps[i]
		}
	}
	return &Step{}
}

func percent(s *Step) string {
	if s.Size <= 0 {
		return "an unknown part"
	}
	return fmt.Sprintf("%d %%", s.Bytes*100/s.Size)
}

// Of gives the boots of a machine, oldest first.
func (t *Timeline) Of(mac netboot.MAC, now time.Time) []Boot {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[mac]
	if h == nil {
		return nil
	}
	return t.copyOf(h, now)
}

func (t *Timeline) copyOf(h *host, now time.Time) []Boot {
	out := slices.Clone(h.boots)
	if len(h.pending) > 0 {
		out = append(out, Boot{Begun: h.pending[0].Time, Steps: h.pending})
	}
	for i := range out {
		b := &out[i]
		b.Steps = slices.Clone(b.Steps)
		at := now
		if i+1 < len(out) { // another boot has begun since
			at = b.Steps[len(b.Steps)-1].Time.Add(t.o.Limit + 1)
		}
		b.Outcome, b.Stage, b.Died = b.judge(at, t.o.Limit)
	}
	return out
}

// Machine is a machine that was seen, with its newest boot.
type Machine struct {
	MAC  netboot.MAC
	Seen time.Time
	Boot *Boot // nil: none is known
}

// Machines gives all machines, last seen first.
func (t *Timeline) Machines(now time.Time) []Machine {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Machine, 0, len(t.hosts))
	for _, h := range t.newestFirst() {
		m := Machine{MAC: h.mac, Seen: h.seen}
		if boots := t.copyOf(h, now); len(boots) > 0 {
			m.Boot = &boots[len(boots)-1]
		}
		out = append(out, m)
	}
	return out
}

// At gives the machine that an address was last seen to be of; zero for none.
func (t *Timeline) At(a netip.Addr) netboot.MAC {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addrs[a.Unmap()]
}
