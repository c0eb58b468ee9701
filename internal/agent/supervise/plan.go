// Package supervise decides when the services of a machine start, restart and
// stop. It is a pure state machine: Step takes a state, an event and the time
// and returns the next state and what is to be done. It starts no process and
// reads no clock, so a test runs an hour of a machine in a millisecond.
//
// Rules:
//   - A service starts when every service in After is ready. Ready means
//     healthy, or running when it has no check, or completed with status 0.
//   - A unit that is held waits all the same; what holds it is its Detail. The
//     event Held changes that, and is of no consequence while it runs.
//   - After an exit the policy decides. The delay is Backoff, doubled with
//     each restart up to Max, with no jitter: a machine restarts in the same
//     rhythm each time. A run of at least Max resets the delay.
//   - Until a run's first success its check is repeated every Eager (or
//     Interval, when that is shorter); a service that has not succeeded after
//     Interval x Retries is unhealthy, and still checked.
//   - An unhealthy service is reported, not killed: a check can be wrong about
//     a service that works, and only an exit is certain.
//   - On Shutdown a service is asked to stop once nothing that runs depends on
//     it, and killed when StopTimeout has passed.
//
// Times are durations since one arbitrary origin (the boot of the machine).
package supervise

import (
	"errors"
	"fmt"
	"time"
)

// Policy says what an exit leads to.
type Policy string

// The policies of appliance.Restart.
const (
	Always    Policy = "always"
	OnFailure Policy = "on-failure"
	Never     Policy = "never"
)

// Eager is the interval of checks before the first success.
const Eager = 100 * time.Millisecond

// Unit is one service as the state machine sees it.
type Unit struct {
	Name        string
	After       []string
	Policy      Policy
	Backoff     time.Duration // first delay
	Max         time.Duration // last delay
	Check       *Check        // nil: healthy while it runs
	StopTimeout time.Duration
	// Hold is why the unit must not start yet; empty when nothing holds it.
	Hold string
}

// Check is the rhythm of a health check.
type Check struct {
	Interval time.Duration
	Timeout  time.Duration
	Retries  int // failures in a row until unhealthy
}

// Plan is a checked set of units. Make it with New; it is read only.
type Plan struct {
	units []Unit
	after [][]int // indexes that a unit waits for
	needs [][]int // indexes that wait for a unit
}

// New checks names and dependencies: every error of the units at once.
func New(units []Unit) (*Plan, error) {
	p := &Plan{units: units, after: make([][]int, len(units)), needs: make([][]int, len(units))}
	index := map[string]int{}
	var errs []error
	for i, u := range units {
		if _, ok := index[u.Name]; ok {
			errs = append(errs, fmt.Errorf("plan service %q: name is used twice", u.Name))
		}
		index[u.Name] = i
	}
	for i, u := range units {
		for _, dep := range u.After {
			j, ok := index[dep]
			if !ok {
				errs = append(errs, fmt.Errorf("plan service %q: after %q: no such service", u.Name, dep))
				continue
			}
			p.after[i] = append(p.after[i], j)
			p.needs[j] = append(p.needs[j], i)
		}
	}
	if name := p.cycle(); name != "" {
		errs = append(errs, fmt.Errorf("plan service %q: depends on itself", name))
	}
	return p, errors.Join(errs...)
}

// Units returns the units in plan order; State.Units has the same order.
func (p *Plan) Units() []Unit { return p.units }

// cycle names a unit on a dependency cycle, or is empty.
func (p *Plan) cycle() string {
	mark := make([]byte, len(p.units)) // 1: on the path, 2: finished
	var visit func(i int) bool
	visit = func(i int) bool {
		if mark[i] != 0 {
			return mark[i] == 1
		}
		mark[i] = 1
		for _, j := range p.after[i] {
			if visit(j) {
				return true
			}
		}
		mark[i] = 2
		return false
	}
	for i := range p.units {
		if visit(i) {
			return p.units[i].Name
		}
	}
	return ""
}
