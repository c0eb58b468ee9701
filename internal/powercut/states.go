package powercut

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/ingot-os/ingot/boot/slot"
)

// State is what one cut leaves.
type State struct {
	Row   string // P0 to P17
	Op    int    // index in History.Ops
	Where string // "sector 3 of 8", "sectors 0, 2 of 8"
	m     *Machine
	lost  lost
}

// lost is the lowest offset of each area that was written and did not arrive.
type lost [areas]int64

// nothing is lost.
var nothing = lost{none, none, none, none, none}

const none = math.MaxInt64

func (l lost) with(o Op) lost {
	l[o.Area] = min(l[o.Area], o.Off)
	return l
}

// Machine returns a machine in that state, switched off. It is the caller's.
func (s State) Machine() *Machine { return s.m.clone() }

// exhaustive is the largest number of unflushed sectors of which all subsets are
// made; of more, samples.
const exhaustive = 8

// States calls f for every state that a cut can leave, in order: each prefix
// sector by sector, and for the sectors between two flushes each subset, or
// samples of the subsets where they are many. It stops at f's first error.
func (h *History) States(f func(State) error) error {
	m := h.before.clone()
	for i := 0; i < len(h.Ops); {
		end, err := h.step(m, i, f)
		if err != nil {
			return err
		}
		i = end
	}
	return nil
}

// After returns the machine, switched off, as it is once operation i is done and
// durable.
func (h *History) After(i int) *Machine {
	m := h.before.clone()
	for _, o := range h.Ops[:i+1] {
		switch o.Kind {
		case Write:
			m.put(o)
		case SetVar:
			m.Vars = o.Vars
		case Count:
			m.Counter = o.Counter
		}
	}
	return m.clone()
}

// step makes the states of one operation, or of all writes until a flush, and
// leaves m after it.
func (h *History) step(m *Machine, i int, f func(State) error) (int, error) {
	switch o := h.Ops[i]; o.Kind {
	case SetVar:
		err := f(State{o.Row, i, "before", m, nothing})
		m.Vars = o.Vars
		if err == nil {
			err = f(State{o.Row, i, "after", m, nothing})
		}
		return i + 1, err
	case Count:
		m.Counter = o.Counter
		return i + 1, f(State{o.Row, i, "after", m, nothing})
	case Mark:
		return i + 1, f(State{o.Row, i, "then", m, nothing})
	case Flush:
		return i + 1, nil
	}
	end := i
	var sectors []Op
	for ; end < len(h.Ops) && h.Ops[end].Kind == Write; end++ {
		o := h.Ops[end]
		for n := 0; n < len(o.Data); n += sector {
			sectors = append(sectors, Op{Row: o.Row, Area: o.Area, Off: o.Off + int64(n), Data: o.Data[n : n+sector]})
		}
	}
	return end, writes(m, sectors, i, f)
}

// writes makes the states of unflushed sectors: first the subsets on the disk as
// it was, then the prefixes, which leave it as it will be.
func writes(m *Machine, sectors []Op, at int, f func(State) error) error {
	for _, set := range subsets(len(sectors), uint64(at)) {
		c, l := m.clone(), nothing
		for n, in := range set {
			if in {
				c.put(sectors[n])
			} else {
				l = l.with(sectors[n])
			}
		}
		if err := f(State{rowOfSubset(sectors), at, fmt.Sprintf("subset of %d sectors", len(sectors)), c, l}); err != nil {
			return err
		}
	}
	rest := make([]lost, len(sectors)+1)
	rest[len(sectors)] = nothing
	for n, s := range slices.Backward(sectors) {
		rest[n] = rest[n+1].with(s)
	}
	for n, s := range sectors {
		if err := f(State{s.Row, at, fmt.Sprintf("sector %d of %d", n, len(sectors)), m, rest[n]}); err != nil {
			return err
		}
		m.put(s)
	}
	return nil
}

// rowOfSubset: streaming without a flush is the row of its own, P3.
func rowOfSubset(sectors []Op) string {
	if sectors[0].Row == "P2" {
		return "P3"
	}
	return sectors[0].Row
}

func (m *Machine) put(s Op) {
	// A sector of a memory is always whole: WriteAt refuses nothing here.
	_, _ = m.Disk.Part(s.Area).WriteAt(s.Data, s.Off)
}

// samples is the number of subsets of many sectors.
const samples = 150

// subsets returns all subsets of n sectors but the prefixes' empty one, or
// samples: runs of sectors that are missing, and any half.
func subsets(n int, seed uint64) [][]bool {
	var out [][]bool
	if n <= exhaustive {
		for bits := 1; bits < 1<<n; bits++ {
			set := make([]bool, n)
			for i := range set {
				set[i] = bits>>i&1 == 1
			}
			out = append(out, set)
		}
		return out
	}
	rnd := rand.New(rand.NewPCG(seed, uint64(n)))
	for k := range samples {
		set := make([]bool, n)
		from, to := rnd.IntN(n), rnd.IntN(n)
		for i := range set {
			set[i] = i < min(from, to) || i > max(from, to)
			if k%4 == 0 {
				set[i] = rnd.IntN(2) == 0
			}
		}
		out = append(out, set)
	}
	return out
}

// Key is the same for two states that nothing can tell apart after the cut: the
// newest journal, list and record of the update, variables, counter, what both
// slots hold, and whether the update would go on behind bytes that are lost.
func (s State) Key() string {
	m := *s.m
	return fmt.Sprintf("%s %+v %d %+v %+v %t", m.readRegions().text, m.Vars, m.Counter, m.look(slot.A), m.look(slot.B), s.Overreaches())
}

// Overreaches says whether the record of how far the update is counts bytes that
// are lost.
func (s State) Overreaches() bool {
	p := s.m.readRegions().progress
	for a, off := range s.lost {
		if p.trusts(Area(a), off) {
			return true
		}
	}
	return false
}

// Resumes is from where the update goes on in the part that it was at: 0 = from its
// begin.
func (s State) Resumes() int64 { return s.m.readRegions().progress.From }

// First returns the version that the firmware starts in this state, "" when it
// falls to the selector.
func (s State) First() string {
	m := *s.m // its disk is only read
	x := m.choose()
	if x == slot.None {
		return ""
	}
	return m.look(x).name()
}

// Torn returns a slot that firmware would start although its root is another
// one's; None when there is none.
func (s State) Torn() slot.Slot {
	for _, x := range []slot.Slot{slot.A, slot.B} {
		if s.m.look(x).torn {
			return x
		}
	}
	return slot.None
}
