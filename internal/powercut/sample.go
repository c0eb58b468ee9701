package powercut

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/ingot-os/ingot/boot/slot"
)

// Sample returns n states of a history, the same for the same seed: as many of
// each row, all of a row that has fewer. They are in the order of the update.
func (h *History) Sample(n int, seed uint64) ([]State, error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	seen, kept := map[string]int{}, map[string][]State{}
	err := h.States(func(s State) error {
		k := seen[s.Row]
		seen[s.Row]++
		if k < n {
			kept[s.Row] = append(kept[s.Row], s.keep())
		} else if i := rnd.IntN(k + 1); i < n {
			kept[s.Row][i] = s.keep()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fair(kept, n, rnd), nil
}

// keep is the state as it is now: States goes on to change its disk.
func (s State) keep() State {
	s.m = s.m.clone()
	return s
}

// fair takes from all rows in turn.
func fair(rows map[string][]State, n int, rnd *rand.Rand) (out []State) {
	names := slices.Sorted(maps.Keys(rows))
	for _, name := range names {
		rnd.Shuffle(len(rows[name]), func(i, j int) { rows[name][i], rows[name][j] = rows[name][j], rows[name][i] })
	}
	for round := 0; len(out) < n; round++ {
		before := len(out)
		for _, name := range names {
			if round < len(rows[name]) && len(out) < n {
				out = append(out, rows[name][round])
			}
		}
		if len(out) == before {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b State) int { return a.Op - b.Op })
	return out
}

// Vars returns the variables of the state.
func (s State) Vars() Vars { return s.m.Vars }

// Part returns an area of the state's disk. Do not write to it.
func (s State) Part(a Area) Part { return s.m.Disk.Part(a) }

// Alone starts a machine in this state without a server; the update was approved
// once. It returns what was started ("a=1.0") and where the machine came to rest.
func (s State) Alone() (chain []string, end *Machine, err error) {
	m := s.Machine()
	m.offer, m.approved = nil, true
	err = m.PowerOn()
	return m.Chain, m, err
}

// Runs returns the version that the machine runs.
func (m *Machine) Runs() string { return m.look(m.State.Running).name() }

// Settle starts a machine in this state, with a server that offers the update, and
// says what is wrong with how it ends.
func (s State) Settle() (chain []string, err error) {
	m := s.Machine()
	if err := m.PowerOn(); err != nil {
		return m.Chain, err
	}
	if now := m.look(m.State.Running); now.version != m.offer.Version || !now.whole || m.State.Good != m.State.Running || m.State.Phase != slot.Idle || m.Vars.Order[0] != m.State.Good {
		return m.Chain, fmt.Errorf("runs %s from %s in %s, first is %s: %v", now.name(), m.State.Running, m.State.Phase, m.Vars.Order[0], m.Reports)
	}
	if m.blind {
		return m.Chain, errors.New("a trial ran without its baseline")
	}
	return m.Chain, nil
}
