package slot

import (
	"slices"
	"strings"
	"testing"
)

// TestDriftedWhileGood: damage that was found in a running good slot keeps nobody from
// starting it as long as it starts, by any means, also where no other slot could be.
func TestDriftedWhileGood(t *testing.T) {
	for _, means := range []Means{Firmware, Selector} {
		t.Run(means.String(), func(t *testing.T) {
			m := newMachine(t, means)
			m.give(Event{Kind: Drifted, Slot: A, Detail: "its bytes are not those that were written"})
			if m.state.Of(A).Condition != Damaged || !strings.Contains(m.state.Notice, "its bytes are not") {
				t.Fatalf("%+v", m.state)
			}
			for range 3 {
				m.power()
				m.want(A, "1.0", Idle)
			}
			if m.state.Of(A).Condition != Damaged {
				t.Errorf("it was written again: %v", m.log)
			}
			m.broken[0] = true // now it does not start any more
			m.chain = nil
			m.power()
			m.want(A, "1.0", Idle)
			if m.broken[0] || m.state.Of(A).Condition != Good {
				t.Errorf("it was not restored: %+v, %v", m.state, m.chain)
			}
		})
	}
}

// TestDriftedWithFallback: where the other slot can be started, it is as soon as the
// selector has to choose.
func TestDriftedWithFallback(t *testing.T) {
	m := newMachine(t, Selector)
	m.update(v2)
	m.want(B, "2.0", Blessed)
	m.give(Event{Kind: Drifted, Slot: B})
	m.power()
	if m.running != A || m.state.Good != A {
		t.Errorf("%s runs, %s is good", m.running, m.state.Good)
	}
}

// TestDriftedInTrial: nobody judges a trial whose slot has changed, so it ends.
func TestDriftedInTrial(t *testing.T) {
	s := State{Record: Record{Good: A, Candidate: B, Phase: Trying, TriesLeft: 3, Slots: [2]Content{v1, v2}}, Running: B}
	s.Slots[0].Condition, s.Slots[1].Condition = Good, Ready
	after, acts := Rules{}.Next(s, Event{Kind: Drifted, Slot: B})
	if !slices.ContainsFunc(acts, func(a Action) bool { return a.Do == Reset }) {
		t.Errorf("it goes on: %v", acts)
	}
	if after.Phase != Staging || after.TriesLeft != 2 || after.Good != A {
		t.Errorf("after it: %+v", after)
	}
}
