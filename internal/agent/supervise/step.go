package supervise

import (
	"fmt"
	"time"
)

// Kind is the kind of an event.
type Kind int

// The events. Run tells which run of the unit an event belongs to; an answer
// about an earlier run is ignored.
const (
	Tick        Kind = iota // time has passed; also the first event of all
	Started                 // Start succeeded
	StartFailed             // Start did not; Detail says why
	Exited                  // the process ended; OK for status 0, Detail says how
	Checked                 // a Check ended; OK and Detail are its answer
	Shutdown                // stop everything
	Held                    // Detail says what holds the unit; empty: nothing does
)

// Event is something that happened.
type Event struct {
	Kind   Kind
	Unit   int // index in Plan.Units
	Run    int
	OK     bool
	Detail string
}

// Do is the kind of an action.
type Do int

// The actions.
const (
	Start Do = iota // start the unit's process as run Run
	Probe           // run its check once and answer with Checked
	Term            // ask the process group to end
	Kill            // end it and everything it started
)

// Action is something to be done by the edge.
type Action struct {
	Do   Do
	Unit int
	Run  int
}

// Step applies one event. It does not change s.
func (p *Plan) Step(s State, ev Event, now time.Duration) (State, []Action) {
	st := &step{p: p, s: s.clone(), now: now}
	st.event(ev)
	for i := range st.s.Units {
		st.timers(i)
	}
	if st.s.Stopping {
		st.stop()
	} else {
		st.start()
	}
	return st.s, st.out
}

type step struct {
	p   *Plan
	s   State
	now time.Duration
	out []Action
}

func (st *step) act(do Do, i int) {
	st.out = append(st.out, Action{do, i, st.s.Units[i].Run})
}

func (st *step) event(ev Event) {
	if ev.Kind == Shutdown {
		st.s.Stopping = true
	}
	if ev.Kind == Held {
		st.held(ev.Unit, ev.Detail)
		return
	}
	if ev.Kind == Tick || ev.Kind == Shutdown || ev.Run != st.s.Units[ev.Unit].Run {
		return
	}
	switch ev.Kind {
	case Started:
		st.started(ev.Unit)
	case StartFailed, Exited:
		st.exited(ev.Unit, ev)
	case Checked:
		st.checked(ev.Unit, ev)
	}
}

func (st *step) held(i int, why string) {
	u := &st.s.Units[i]
	if u.Phase == Waiting && u.Detail == u.Hold {
		u.Detail = why
	}
	u.Hold = why
}

func (st *step) started(i int) {
	u := &st.s.Units[i]
	if u.Phase == Starting {
		u.Phase, u.Started, u.CheckAt = Running, st.now, st.now
	}
}

// exited applies the restart policy.
func (st *step) exited(i int, ev Event) {
	u, plan := &st.s.Units[i], st.p.units[i]
	switch u.Phase {
	case Completed, Failed, Stopped, Backoff, Waiting:
		return // the run is over already
	}
	if u.Phase == Running && st.now-u.Started >= plan.Max {
		u.Delay = plan.Backoff
	}
	u.Detail, u.Checking, u.Passed, u.Failures = ev.Detail, false, false, 0
	if plan.Check != nil {
		u.Health = Pending
	}
	switch {
	case st.s.Stopping:
		u.Phase = Stopped
	case plan.Policy == Never || plan.Policy == OnFailure && ev.OK:
		u.Phase = Failed
		if ev.OK {
			u.Phase = Completed
		}
	default:
		u.Phase, u.Until = Backoff, st.now+u.Delay
		u.Delay = min(u.Delay*2, plan.Max)
	}
}

func (st *step) checked(i int, ev Event) {
	u, c := &st.s.Units[i], st.p.units[i].Check
	if u.Phase != Running || !u.Checking || c == nil {
		return
	}
	u.Checking = false
	if ev.OK {
		u.Health, u.Passed, u.Failures, u.Detail = Healthy, true, 0, ""
		u.CheckAt = st.now + c.Interval
		return
	}
	u.Failures++
	u.Detail = ev.Detail
	u.CheckAt = st.now + c.Interval
	if u.Passed {
		if u.Failures >= c.Retries {
			u.Health = Unhealthy
		}
		return
	}
	u.CheckAt = st.now + min(Eager, c.Interval)
	if st.now-u.Started >= c.Interval*time.Duration(c.Retries) {
		u.Health, u.CheckAt = Unhealthy, st.now+c.Interval
	}
}

// timers fires what is due for unit i.
func (st *step) timers(i int) {
	u := &st.s.Units[i]
	at, ok := u.deadline()
	if !ok || at > st.now {
		return
	}
	switch u.Phase {
	case Backoff:
		u.Phase = Waiting
	case Stopping:
		st.act(Kill, i)
		u.Until = st.now + time.Second // a process in uninterruptible sleep is killed again
	case Running:
		if !st.s.Stopping {
			u.Checking = true
			st.act(Probe, i)
		}
	}
}

// start begins every waiting unit whose dependencies are ready.
func (st *step) start() {
	for i := range st.s.Units {
		u := &st.s.Units[i]
		if u.Phase != Waiting || u.Hold != "" || !st.ready(st.p.after[i]) {
			continue
		}
		u.Phase, u.Started = Starting, st.now
		u.Run++
		st.act(Start, i)
	}
}

func (st *step) ready(deps []int) bool {
	for _, j := range deps {
		if !st.s.Ready(j) {
			return false
		}
	}
	return true
}

// stop ends, from the leaves down, every unit that nothing alive depends on.
func (st *step) stop() {
	for i := range st.s.Units {
		u := &st.s.Units[i]
		switch u.Phase {
		case Waiting, Backoff:
			u.Phase = Stopped
		case Running:
			if !st.alive(st.p.needs[i]) {
				u.Phase, u.Until, u.Checking = Stopping, st.now+st.p.units[i].StopTimeout, false
				st.act(Term, i)
			}
		}
	}
	st.s.Halted = true
	for i := range st.s.Units {
		if st.s.Units[i].alive() {
			st.s.Halted = false
		}
	}
}

func (st *step) alive(units []int) bool {
	for _, j := range units {
		if st.s.Units[j].alive() {
			return true
		}
	}
	return false
}

// alive reports whether the unit has or is about to have a process.
func (u UnitState) alive() bool {
	return u.Phase == Starting || u.Phase == Running || u.Phase == Stopping
}

// String names an action for logs and tests: "start 0#1".
func (a Action) String() string {
	return fmt.Sprintf("%s %d#%d", [...]string{"start", "probe", "term", "kill"}[a.Do], a.Unit, a.Run)
}
