package slots

import (
	"time"

	"github.com/ingot-os/ingot/boot/slot"
)

// watch starts to look at health when that is of interest: in a trial, and until
// a blessed version has soaked. It ends by itself.
func (k *Keeper) watch() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.checking || k.o.Hooks.Health == nil || interval(k.state) == 0 {
		return
	}
	k.checking = true
	k.o.Go(k.checks)
}

// interval is the time between two looks at health; 0: nobody needs one.
func interval(s slot.State) time.Duration {
	switch {
	case s.Running == slot.None:
		return 0
	case s.Phase == slot.Trying && s.Running == s.Candidate:
		return CheckInterval
	case s.Running == s.Good && !s.FloorTried && (s.Phase == slot.Blessed || s.Failures > 0):
		return SoakInterval
	}
	return 0
}

func (k *Keeper) checks() {
	for {
		k.mu.Lock()
		wait := interval(k.state)
		k.checking = wait != 0
		k.mu.Unlock()
		if wait == 0 {
			return
		}
		time.Sleep(wait)
		k.check()
	}
}

// check looks at health once.
func (k *Keeper) check() {
	ok, cause, detail := k.o.Hooks.Health()
	err := k.Handle(slot.Event{Kind: slot.Checked, OK: ok, Cause: cause, Detail: detail, Uptime: k.o.Uptime()})
	if err != nil {
		k.o.Problem("slots: %v", err)
	}
}
