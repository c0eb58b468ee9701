package slot

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// chaos is what happens to the variables of a firmware (proof 3).
var chaos = []struct {
	name  string
	do    func(v *vars)
	means Means  // that must be used in the end
	says  string // why
}{
	{"deleted", func(v *vars) { v.entries, v.next = false, None }, Firmware, ""},
	{"reordered", func(v *vars) { v.order = []Slot{B, A} }, Firmware, ""},
	{"order without one", func(v *vars) { v.order = v.order[:min(1, len(v.order))] }, Firmware, ""},
	{"stale try", func(v *vars) { v.next = B }, Firmware, ""},
	{"wiped", func(v *vars) { *v = vars{} }, Firmware, ""},
	{"full", func(v *vars) { v.err = errors.New("no space left on device") }, Selector, "cannot be written"},
	{"read-only", func(v *vars) { v.err = errors.New("read-only file system") }, Selector, "cannot be written"},
	{"forgetful", func(v *vars) { v.forgets = true }, Selector, "cannot be written"},
	{"deaf", func(v *vars) { v.deaf = true }, Selector, "does not use BootNext"},
	{"wiped and read-only", func(v *vars) { *v = vars{err: errors.New("read-only file system")} }, Selector, "cannot be written"},
}

// Between any two steps of an update: the machine starts, comes to the new
// version, and says what it did about its variables.
func TestChaos(t *testing.T) {
	steps := 0
	probe := newMachine(t, Firmware)
	start := probe.acts
	probe.update(v2)
	steps = probe.acts - start
	for _, c := range chaos {
		t.Run(c.name, func(t *testing.T) {
			for at := 1; at <= steps; at++ {
				m := newMachine(t, Firmware)
				from := m.acts
				m.hook = func(n int) {
					if n == from+at {
						c.do(&m.vars)
					}
				}
				m.update(v2)
				m.power()
				for range 4 { // the server offers it again
					if m.holds[m.running.index()].Version != "2.0" {
						m.update(v2)
					}
				}
				if m.running != B || m.state.Good != B {
					t.Fatalf("at step %d: runs %s, good %s, %s\n%v\n%s", at, m.running, m.state.Good, m.state.Phase, m.chain, strings.Join(m.state.Why(), "\n"))
				}
				m.update(v3) // whatever was left must not hinder the next update
				if m.running != A || m.state.Means != c.means {
					t.Errorf("at step %d: then runs %s by %s, want by %s: %v", at, m.running, m.state.Means, c.means, m.log)
				}
				if !strings.Contains(strings.Join(m.reports, "\n"), c.says) {
					t.Errorf("at step %d: not said: %v", at, m.reports)
				}
				if len(m.state.Rejections) > 0 {
					t.Errorf("at step %d: a good release is rejected: %v", at, m.state.Rejections)
				}
			}
		})
	}
}

// An idle machine heals its variables, once, and counts it.
func TestHeals(t *testing.T) {
	for _, c := range chaos[:5] {
		m := newMachine(t, Firmware)
		c.do(&m.vars)
		m.holds[1] = Content{}
		m.power()
		m.want(A, "1.0", Idle)
		if !m.vars.entries || fmt.Sprint(m.vars.order) != "[slot a slot b]" || m.vars.next != None {
			t.Errorf("%s: not repaired: %+v", c.name, m.vars)
		}
		if c.name != "stale try" && !strings.Contains(strings.Join(m.reports, "\n"), "boot entries") {
			t.Errorf("%s: not said: %v", c.name, m.reports)
		}
		n := m.journalWrites + m.varWrites
		m.power()
		if m.journalWrites+m.varWrites > n+1 { // the bounce of a wiped machine is cleared once
			t.Errorf("%s: repaired again", c.name)
		}
	}
}

// Firmware that loses its variables at every boot is not written to for ever.
func TestLosesVariablesAgainAndAgain(t *testing.T) {
	m := newMachine(t, Firmware)
	for range 20 {
		m.vars.order = []Slot{B, A}
		m.power()
	}
	if m.state.Means != Selector || m.varWrites > 10 {
		t.Errorf("means %s after %d repairs", m.state.Means, m.varWrites)
	}
	m.update(v2) // slot b is what this firmware starts: 1.0 goes there first
	m.want(B, "1.0", Idle)
	m.update(v2)
	m.want(A, "2.0", Blessed)
	m.give(Event{Kind: SelfTested, OK: true})
	m.power()
	if m.state.Means != Firmware {
		t.Errorf("means %s after a self-test that went well", m.state.Means)
	}
}

// Every action of an update is once the last one before a power cut.
func TestCutAnywhere(t *testing.T) {
	onAll(t, func(t *testing.T, probe *machine) {
		start := probe.acts
		probe.update(v2)
		for at := 1; at <= probe.acts-start+1; at++ {
			m := newMachine(t, probe.means)
			m.life = at
			m.update(v2)
			m.power()
			if v := m.holds[m.running.index()].Version; v != "1.0" && v != "2.0" {
				t.Fatalf("cut at %d: runs %q", at, v)
			}
			for range 4 {
				if m.running == A {
					m.update(v2)
				}
			}
			m.want(B, "2.0", Blessed)
		}
	})
}

// 10,000 machines live through random lives. What must hold at every moment is
// in machine.invariants and in the model of the firmware.
func TestRandomLives(t *testing.T) {
	n := 10000
	if testing.Short() {
		n = 500
	}
	recovering := 0
	for seed := range uint64(n) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		m := newMachine(t, Means(seed%3))
		m.rules.Attested = seed%5 == 0
		for range 30 {
			live(m, rnd)
		}
		m.vars.err, m.vars.forgets, m.vars.deaf, m.locked, m.offline, m.polluted = nil, false, false, false, false, false
		m.power()
		switch {
		case m.running != None:
		case m.state.Recovering:
			recovering++
		default:
			t.Fatalf("machine %d does not run: %v", seed, m.chain)
		}
	}
	if recovering > 0 {
		t.Errorf("%d machines ended without a slot to start", recovering)
	}
}

var ends = []Cause{NoCause, NoCause, NoCause, Panic, Hang, InitExit, Unhealthy, CorruptPE, CorruptRoot, LostBeforeInit, NotAttested, DataFull}

// live is one thing that happens to a machine.
func live(m *machine, rnd *rand.Rand) {
	release := func() Content {
		n := 1 + rnd.IntN(9)
		return Content{Version: fmt.Sprintf("%d.1", n), Image: Digest{byte(n), 1}, Epoch: uint32(rnd.IntN(n) + 1)}
	}
	if rnd.IntN(4) == 0 {
		m.life = 1 + rnd.IntN(20)
	}
	switch rnd.IntN(12) {
	case 0, 1, 2:
		c := release()
		if m.holds[0].Version != c.Version && m.holds[1].Version != c.Version { // what is installed does not change
			m.behave[c.Version] = ends[rnd.IntN(len(ends))]
			m.update(c)
		}
	case 3:
		m.give(Event{Kind: Approve})
	case 4:
		m.give(Event{Kind: Rollback})
	case 5:
		m.give(Event{Kind: Override, Release: release()})
	case 6:
		m.evidence = append(m.evidence, Evidence{Cause: Panic, ID: rnd.Uint64()})
	case 7:
		m.give(Event{Kind: Checked, OK: true, Uptime: 5 * time.Hour})
	case 8:
		if m.running != None && m.running == m.state.Good && m.holds[m.running.Other().index()].Version != "" {
			m.broken[m.running.Other().index()] = true // one slot at a time
			if rnd.IntN(2) == 0 {
				m.give(Event{Kind: Drifted, Slot: m.running.Other()})
			}
		}
	case 9:
		// Firmware that puts an untested slot first by itself is beyond help.
		if m.means == Firmware && m.says().Candidate == None {
			chaos[rnd.IntN(len(chaos))].do(&m.vars)
			m.power() // firmware does such things when it starts
		}
	case 10:
		m.locked, m.offline, m.polluted = rnd.IntN(3) == 0, rnd.IntN(4) == 0, rnd.IntN(5) == 0
	case 11:
		if m.means == Firmware {
			m.give(Event{Kind: SelfTested, OK: m.vars.err == nil && !m.vars.forgets})
		}
	}
	if rnd.IntN(3) == 0 || m.cut || m.reset {
		m.power()
	}
}
