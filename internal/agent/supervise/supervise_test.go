package supervise

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func plan(t *testing.T, units ...Unit) *Plan {
	t.Helper()
	for i := range units {
		u := &units[i]
		if u.Policy == "" {
			u.Policy = Always
		}
		if u.Backoff == 0 {
			u.Backoff, u.Max = time.Second, 8*time.Second
		}
		if u.StopTimeout == 0 {
			u.StopTimeout = 10 * time.Second
		}
	}
	p, err := New(units)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sim is a machine without processes: it records actions and answers them as
// the test says.
type sim struct {
	t   *testing.T
	p   *Plan
	s   State
	now time.Duration
	log []string
	// answer gives the events that an action causes at once.
	answer func(a Action) []Event
}

func newSim(t *testing.T, p *Plan) *sim {
	return &sim{t: t, p: p, s: p.Initial(), answer: obey}
}

// obey starts what is started, passes every check and ends on SIGTERM.
func obey(a Action) []Event {
	switch a.Do {
	case Start:
		return []Event{{Kind: Started, Unit: a.Unit, Run: a.Run}}
	case Probe:
		return []Event{{Kind: Checked, Unit: a.Unit, Run: a.Run, OK: true}}
	}
	return []Event{{Kind: Exited, Unit: a.Unit, Run: a.Run, Detail: "stopped"}}
}

func (m *sim) send(evs ...Event) {
	for len(evs) > 0 {
		before := fmt.Sprintf("%v", m.s)
		next, actions := m.p.Step(m.s, evs[0], m.now)
		if fmt.Sprintf("%v", m.s) != before {
			m.t.Fatal("Step changed the state it was given")
		}
		m.s, evs = next, evs[1:]
		for _, a := range actions {
			m.log = append(m.log, fmt.Sprintf("%s %s", m.now, a))
			evs = append(evs, m.answer(a)...)
		}
	}
}

// until runs timers up to a time.
func (m *sim) until(end time.Duration) {
	for range 100000 {
		at, ok := m.s.Next()
		if !ok || at > end {
			m.now = end
			return
		}
		if at < m.now {
			m.t.Fatalf("Next() = %s lies before now %s: the edge would spin", at, m.now)
		}
		m.now = at
		m.send(Event{Kind: Tick})
	}
	m.t.Fatal("the state machine never rests")
}

func (m *sim) exit(i int, ok bool) {
	m.send(Event{Kind: Exited, Unit: i, Run: m.s.Units[i].Run, OK: ok, Detail: "exited"})
}

func (m *sim) starts() []string {
	var out []string
	for _, l := range m.log {
		if strings.Contains(l, "start") {
			out = append(out, l)
		}
	}
	return out
}

func TestNewReportsEveryError(t *testing.T) {
	_, err := New([]Unit{{Name: "a", After: []string{"b"}}, {Name: "b", After: []string{"a", "ghost"}}, {Name: "c"}, {Name: "c"}})
	for _, want := range []string{`"c": name is used twice`, `after "ghost": no such service`, "depends on itself"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New() = %v, want it to contain %q", err, want)
		}
	}
}

func TestStartOrderFollowsHealth(t *testing.T) {
	p := plan(t, Unit{Name: "web", After: []string{"db", "job"}}, Unit{Name: "db", Check: &Check{Interval: time.Second, Retries: 3}}, Unit{Name: "job", Policy: Never})
	m := newSim(t, p)
	failing := true
	m.answer = func(a Action) []Event {
		if a.Do == Probe && failing {
			return []Event{{Kind: Checked, Unit: a.Unit, Run: a.Run, Detail: "refused"}}
		}
		return obey(a)
	}
	m.send(Event{Kind: Tick})
	m.until(500 * time.Millisecond)
	if want := []string{"0s start 1#1", "0s start 2#1"}; !slices.Equal(m.starts(), want) {
		t.Fatalf("starts = %q, want %q", m.starts(), want)
	}
	failing = false
	m.until(700 * time.Millisecond)
	if m.s.Units[0].Phase != Running || m.s.Units[0].Started != 600*time.Millisecond {
		t.Errorf("web = %+v, want it started by db's first success at 600ms", m.s.Units[0])
	}
	if !m.s.AllReady() {
		t.Error("AllReady() = false, want true")
	}
	m.exit(2, true)
	if got := m.s.Units[2].Phase; got != Completed || !m.s.AllReady() {
		t.Errorf("job is %s, AllReady() = %v; want completed and ready", got, m.s.AllReady())
	}
}

func TestBackoffDoublesAndResets(t *testing.T) {
	m := newSim(t, plan(t, Unit{Name: "a"}))
	m.send(Event{Kind: Tick})
	for range 6 {
		m.exit(0, false)
		m.until(m.now + 20*time.Second - 1)
		m.now = m.s.Units[0].Started + time.Millisecond // it always runs for a millisecond
	}
	want := []string{"0s start 0#1", "1s start 0#2", "3.001s start 0#3", "7.002s start 0#4", "15.003s start 0#5", "23.004s start 0#6", "31.005s start 0#7"}
	if !slices.Equal(m.starts(), want) {
		t.Errorf("starts = %q, want %q", m.starts(), want)
	}
	m.now += 8 * time.Second // as long as Max: a good run
	m.exit(0, false)
	if got := m.s.Units[0].Until - m.now; got != time.Second {
		t.Errorf("backoff after a good run = %s, want 1s", got)
	}
	if got := m.s.Units[0].Restarts(); got != 6 {
		t.Errorf("Restarts() = %d, want 6", got)
	}
}

func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		ok     bool
		want   Phase
	}{
		{Always, true, Backoff}, {Always, false, Backoff}, {OnFailure, true, Completed}, {OnFailure, false, Backoff},
		{Never, true, Completed}, {Never, false, Failed},
	} {
		m := newSim(t, plan(t, Unit{Name: "a", Policy: c.policy}))
		m.send(Event{Kind: Tick})
		m.exit(0, c.ok)
		if got := m.s.Units[0].Phase; got != c.want {
			t.Errorf("policy %s, ok %v: phase %s, want %s", c.policy, c.ok, got, c.want)
		}
	}
}

func TestHealthNeedsRetriesInARow(t *testing.T) {
	m := newSim(t, plan(t, Unit{Name: "a", Check: &Check{Interval: 5 * time.Second, Retries: 3}}))
	verdicts := []bool{true, false, false, true, false, false, false, true}
	var healths []Health
	m.answer = func(a Action) []Event {
		if a.Do != Probe {
			return obey(a)
		}
		ok := verdicts[0]
		verdicts = verdicts[1:]
		return []Event{{Kind: Checked, Unit: 0, Run: a.Run, OK: ok}}
	}
	m.send(Event{Kind: Tick}) // the first check is at once
	healths = append(healths, m.s.Units[0].Health)
	for len(verdicts) > 0 {
		at, _ := m.s.Next()
		m.until(at)
		healths = append(healths, m.s.Units[0].Health)
	}
	want := []Health{Healthy, Healthy, Healthy, Healthy, Healthy, Healthy, Unhealthy, Healthy}
	if !slices.Equal(healths, want) {
		t.Errorf("healths = %v, want %v", healths, want)
	}
	if m.s.Units[0].Run != 1 {
		t.Errorf("run = %d, want 1: an unhealthy service is not restarted", m.s.Units[0].Run)
	}
}

func TestSlowStartIsUnhealthyInTheEnd(t *testing.T) {
	m := newSim(t, plan(t, Unit{Name: "a", Check: &Check{Interval: time.Second, Retries: 3}}))
	m.answer = func(a Action) []Event {
		if a.Do == Probe {
			return []Event{{Kind: Checked, Unit: 0, Run: a.Run, Detail: "refused"}}
		}
		return obey(a)
	}
	m.send(Event{Kind: Tick})
	m.until(2900 * time.Millisecond)
	if got := m.s.Units[0].Health; got != Pending {
		t.Errorf("after 2.9 s: %s, want pending", got)
	}
	m.until(3100 * time.Millisecond)
	if got := m.s.Units[0].Health; got != Unhealthy {
		t.Errorf("after 3.1 s: %s, want unhealthy", got)
	}
}

func TestStaleEventsAreIgnored(t *testing.T) {
	m := newSim(t, plan(t, Unit{Name: "a", Check: &Check{Interval: time.Second, Retries: 1}}))
	var late Event
	m.answer = func(a Action) []Event {
		if a.Do == Probe && a.Run == 1 {
			late = Event{Kind: Checked, Unit: 0, Run: 1, OK: true}
			return nil
		}
		if a.Do == Probe {
			return nil
		}
		return obey(a)
	}
	m.send(Event{Kind: Tick})
	m.until(0)
	m.exit(0, false)
	m.until(time.Second)
	m.send(late)
	if got := m.s.Units[0]; got.Run != 2 || got.Health != Pending {
		t.Errorf("unit = %+v, want run 2 still pending", got)
	}
}

func TestShutdownIsReverseOrder(t *testing.T) {
	p := plan(t, Unit{Name: "db"}, Unit{Name: "app", After: []string{"db"}}, Unit{Name: "web", After: []string{"app"}}, Unit{Name: "dead"})
	m := newSim(t, p)
	m.send(Event{Kind: Tick})
	m.exit(3, false)
	m.log = nil
	m.now = time.Minute
	m.answer = func(a Action) []Event {
		if a.Do == Term && a.Unit == 1 {
			return nil // app ignores SIGTERM
		}
		return obey(a)
	}
	m.send(Event{Kind: Shutdown})
	m.until(2 * time.Minute)
	want := []string{"1m0s term 2#1", "1m0s term 1#1", "1m10s kill 1#1", "1m10s term 0#1"}
	if !slices.Equal(m.log, want) {
		t.Errorf("actions = %q, want %q", m.log, want)
	}
	if !m.s.Halted {
		t.Error("Halted = false, want true")
	}
}

func TestShutdownWhileStarting(t *testing.T) {
	m := newSim(t, plan(t, Unit{Name: "a"}))
	m.answer = func(a Action) []Event {
		if a.Do == Start {
			return nil
		}
		return obey(a)
	}
	m.send(Event{Kind: Tick})
	m.send(Event{Kind: Shutdown})
	if m.s.Halted {
		t.Fatal("Halted with a start that is not answered")
	}
	m.send(Event{Kind: Started, Unit: 0, Run: 1})
	if !m.s.Halted {
		t.Errorf("state = %+v, want halted after term", m.s)
	}
}

func TestShutdownWithoutServices(t *testing.T) {
	m := newSim(t, plan(t))
	m.send(Event{Kind: Shutdown})
	if !m.s.Halted {
		t.Error("Halted = false, want true")
	}
}

// TestRandomLives throws seeded event orders at a machine with ten services and
// checks what must always hold.
func TestRandomLives(t *testing.T) {
	for seed := range uint64(40) {
		r := new(lcg)
		*r = lcg(seed*2654435761 + 1)
		var units []Unit
		for i := range 10 {
			u := Unit{Name: fmt.Sprint(i), Policy: []Policy{Always, OnFailure, Never}[r.n(3)]}
			for j := range i {
				if r.n(4) == 0 {
					u.After = append(u.After, fmt.Sprint(j))
				}
			}
			if r.n(2) == 0 {
				u.Check = &Check{Interval: time.Second, Timeout: time.Second, Retries: 1 + r.n(3)}
			}
			units = append(units, u)
		}
		m := newSim(t, plan(t, units...))
		running := map[int]bool{}
		m.answer = func(a Action) []Event {
			switch a.Do {
			case Start:
				if running[a.Unit] {
					t.Fatalf("seed %d: unit %d started twice", seed, a.Unit)
				}
				for _, j := range m.p.after[a.Unit] {
					if !m.s.Ready(j) {
						t.Fatalf("seed %d: unit %d started before %d was ready", seed, a.Unit, j)
					}
				}
				if r.n(8) == 0 {
					return []Event{{Kind: StartFailed, Unit: a.Unit, Run: a.Run}}
				}
				running[a.Unit] = true
				return []Event{{Kind: Started, Unit: a.Unit, Run: a.Run}}
			case Probe:
				return []Event{{Kind: Checked, Unit: a.Unit, Run: a.Run, OK: r.n(3) > 0}}
			case Term:
				if r.n(2) == 0 {
					return nil
				}
			}
			delete(running, a.Unit)
			return []Event{{Kind: Exited, Unit: a.Unit, Run: a.Run, OK: r.n(2) == 0}}
		}
		m.send(Event{Kind: Tick})
		for range 200 {
			m.until(m.now + time.Duration(r.n(1500))*time.Millisecond)
			if i := r.n(10); running[i] {
				delete(running, i)
				m.exit(i, r.n(2) == 0)
			}
		}
		m.send(Event{Kind: Shutdown})
		m.until(m.now + time.Hour)
		if !m.s.Halted || len(running) > 0 {
			t.Fatalf("seed %d: halted %v with %v running", seed, m.s.Halted, running)
		}
	}
}

// lcg is a small generator, so that a seed means the same life on every Go.
type lcg uint64

func (l *lcg) next() uint64 {
	*l = *l*6364136223846793005 + 1442695040888963407
	return uint64(*l >> 33)
}

func (l *lcg) n(k int) int { return int(l.next() % uint64(k)) }

// TestHeld: a unit that is held waits, says why and keeps those waiting that
// come after it; what is held while it runs is of no consequence to the run.
func TestHeld(t *testing.T) {
	m := newSim(t, plan(t, Unit{Name: "db", Hold: "secret password has not come"}, Unit{Name: "web", After: []string{"db"}}))
	m.send(Event{Kind: Tick})
	if u := m.s.Units[0]; u.Phase != Waiting || u.Detail != "secret password has not come" || len(m.log) != 0 {
		t.Fatalf("%+v after %q", u, m.log)
	}
	m.send(Event{Kind: Held, Unit: 0, Detail: "secret key has not come"})
	if u := m.s.Units[0]; u.Phase != Waiting || u.Detail != "secret key has not come" {
		t.Errorf("%+v", u)
	}
	m.send(Event{Kind: Held, Unit: 0})
	if want := []string{"0s start 0#1", "0s start 1#1"}; !slices.Equal(m.log, want) || m.s.Units[0].Detail != "" {
		t.Errorf("actions %q, want %q; %+v", m.log, want, m.s.Units[0])
	}
	m.send(Event{Kind: Held, Unit: 0, Detail: "again"})
	if u := m.s.Units[0]; u.Phase != Running || u.Detail != "" {
		t.Errorf("%+v", u)
	}
	m.send(Event{Kind: Exited, Unit: 0, Run: 1, Detail: "exit 1"})
	m.until(time.Minute)
	if u := m.s.Units[0]; u.Phase != Waiting || u.Run != 1 {
		t.Errorf("a held unit was started again: %+v", u)
	}
}

// TestHeldStops: the machine can be turned off while a unit is held.
func TestHeldStops(t *testing.T) {
	m := newSim(t, plan(t, Unit{Name: "db", Hold: "x"}))
	m.send(Event{Kind: Tick}, Event{Kind: Shutdown})
	if !m.s.Halted || m.s.Units[0].Phase != Stopped {
		t.Errorf("%+v", m.s)
	}
}
