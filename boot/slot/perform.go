package slot

import (
	"errors"
	"fmt"
)

// ErrRefused means that nothing can be launched here, whatever is in the slot:
// Secure Boot, a kernel that is locked down, or one without kexec.
var ErrRefused = errors.New("no slot can be started from here")

// Actuator makes the next boots start a slot. There are three, one for each
// Means; for the selector and the server SetDefault and SetNext have nothing to
// do, because the journal is what they act on.
type Actuator interface {
	// SetDefault makes first the default and second what starts when first
	// does not load. It creates missing entries and reads everything back.
	SetDefault(first, second Slot) error
	// SetNext starts s at the next boot only; None takes that back.
	SetNext(s Slot) error
	// Launch starts s now. It returns only when that is not possible, except
	// on a server. ErrRefused: no fault of the slot; ErrDigest: its bytes are
	// wrong. Any other error condemns no bytes that were good.
	Launch(s Slot) error
}

// Host performs actions.
type Host struct {
	Rules     Rules
	Actuators [3]Actuator        // by Means
	Do        func(Action) error // all actions but those of the actuators
}

// maxUndone bounds how many failures in a row are answered.
const maxUndone = 8

// Handle gives an event to the machine and performs what follows, until nothing
// does. The error tells of actions that failed; the machine has dealt with
// them.
func (h Host) Handle(s State, e Event) (State, error) {
	var errs []error
	for range maxUndone {
		next, acts := h.Rules.Next(s, e)
		durable := s.Record
		failed, err := h.perform(acts, &durable)
		s = next
		if err != nil {
			errs = append(errs, err)
		}
		if failed < 0 {
			return s, errors.Join(errs...)
		}
		s.Record = durable
		e = Event{Kind: Undone, Action: acts[failed], Rest: acts[failed+1:], Err: err, Detail: err.Error()}
	}
	return s, errors.Join(append(errs, errors.New("perform actions: too many failed"))...)
}

// perform does the actions in order and returns the number of the one that
// failed and ends the row; -1 when none did. The errors of those that nothing
// depends on do not end it.
func (h Host) perform(acts []Action, durable *Record) (int, error) {
	var errs []error
	for i, a := range acts {
		err := h.one(a)
		switch {
		case err == nil && a.Do == WriteJournal:
			*durable = a.Record
		case err == nil:
		case a.Do.optional():
			errs = append(errs, fmt.Errorf("%s: %w", a.Do, err))
		default:
			return i, errors.Join(append(errs, fmt.Errorf("%s: %w", a.Do, err))...)
		}
	}
	return -1, errors.Join(errs...)
}

// optional says that the actions after this one do not depend on it.
func (d Do) optional() bool {
	switch d {
	case WriteJournal, SetDefault, SetNext, Launch, Fill, KeepBaseline, TakeLock, RaiseFloor, Recover, Reset:
		return false
	}
	return true
}

func (h Host) one(a Action) error {
	switch a.Do {
	case SetDefault:
		return h.Actuators[a.Means].SetDefault(a.Slot, a.Slot.Other())
	case SetNext:
		return h.Actuators[a.Means].SetNext(a.Slot)
	case Launch:
		return h.Actuators[a.Means].Launch(a.Slot)
	}
	return h.Do(a)
}
