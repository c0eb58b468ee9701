package supervise

import (
	"slices"
	"time"
)

// Phase is where a unit is in its life.
type Phase string

// The phases. Completed, Failed and Stopped have no way out.
const (
	Waiting   Phase = "waiting"   // for its dependencies
	Starting  Phase = "starting"  // Start was given, the edge has not answered
	Running   Phase = "running"   // has a process
	Backoff   Phase = "backoff"   // exited, restarts at Until
	Stopping  Phase = "stopping"  // Term was given, Kill follows at Until
	Completed Phase = "completed" // exited with 0 and stays so
	Failed    Phase = "failed"    // exited otherwise and stays so
	Stopped   Phase = "stopped"   // by Shutdown
)

// Health is the answer of the checks of the present run.
type Health string

// The healths.
const (
	Unchecked Health = "unchecked" // no check is declared
	Pending   Health = "pending"   // no answer yet
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
)

// UnitState is one unit's part of a State.
type UnitState struct {
	Phase    Phase
	Health   Health
	Run      int           // number of the present or last run, from 1
	Started  time.Duration // when the run started
	Until    time.Duration // end of Backoff, or time of Kill in Stopping
	Delay    time.Duration // the next backoff delay
	Detail   string        // last exit or last failed check, for people
	CheckAt  time.Duration // next check, when Running and not Checking
	Checking bool          // a Check action is unanswered
	Passed   bool          // this run has passed a check
	Failures int           // failed checks in a row
	Hold     string        // why it must not start; also its Detail while it waits
}

// Restarts is the number of starts after the first.
func (u UnitState) Restarts() int { return max(u.Run-1, 0) }

// State is the whole machine. The zero value is not valid; see Plan.Initial.
type State struct {
	Units    []UnitState // in the order of Plan.Units
	Stopping bool
	Halted   bool // Shutdown is complete
}

// Initial is the state before the first event: all units wait.
func (p *Plan) Initial() State {
	s := State{Units: make([]UnitState, len(p.units))}
	for i, u := range p.units {
		s.Units[i] = UnitState{Phase: Waiting, Health: Pending, Delay: u.Backoff, Hold: u.Hold, Detail: u.Hold}
		if u.Check == nil {
			s.Units[i].Health = Unchecked
		}
	}
	return s
}

// Ready reports whether unit i satisfies those that come after it.
func (s State) Ready(i int) bool {
	u := s.Units[i]
	return u.Phase == Completed || u.Phase == Running && (u.Health == Healthy || u.Health == Unchecked)
}

// AllReady reports whether every unit is ready.
func (s State) AllReady() bool {
	for i := range s.Units {
		if !s.Ready(i) {
			return false
		}
	}
	return true
}

// Next returns the time of the next Tick that can change the state.
func (s State) Next() (at time.Duration, ok bool) {
	for _, u := range s.Units {
		t, has := u.deadline()
		if s.Stopping && u.Phase == Running {
			continue // checks end with the shutdown
		}
		if has && (!ok || t < at) {
			at, ok = t, true
		}
	}
	return at, ok
}

func (u UnitState) deadline() (time.Duration, bool) {
	switch u.Phase {
	case Backoff, Stopping:
		return u.Until, true
	case Running:
		return u.CheckAt, u.Health != Unchecked && !u.Checking
	}
	return 0, false
}

func (s State) clone() State {
	s.Units = slices.Clone(s.Units)
	return s
}
