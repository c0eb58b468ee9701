package netslot

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/boot/slot"
)

// Return gives a try back that Serve has used up: what was fetched was not for
// the machine, which runs on as before (S18). Only a try of which nothing was
// seen yet is given back; else nothing changes.
func (s *Server) Return(host string) (Outcome, error) {
	return s.edit(host, func(r *slot.Record) bool {
		ok := r.Phase == slot.Armed && r.Launched
		if ok {
			r.Launched = false
		}
		return ok
	})
}

// Disarm takes a try back that was not begun: another release is wanted. The
// candidate stays, and can be approved again.
func (s *Server) Disarm(host string) (Outcome, error) {
	return s.edit(host, func(r *slot.Record) bool {
		ok := r.Phase == slot.Armed && !r.Launched
		if ok {
			r.Phase, r.Arms = slot.Staged, r.Arms-min(r.Arms, 1)
		}
		return ok
	})
}

// edit changes the record by hand: both changes undo what nobody has seen, so
// they are no events of the state machine.
func (s *Server) edit(host string, f func(*slot.Record) bool) (Outcome, error) {
	return s.change(host, func(b *boot) error {
		if !f(&b.state.Record) {
			return nil
		}
		journal, err := b.state.Record.AppendBinary(nil)
		if err == nil {
			b.entry.Journal = journal
		}
		return err
	})
}

// State is how a machine's slots are. Nothing changes.
func (s *Server) State(host string) (slot.State, error) {
	var out slot.State
	err := s.Store.Change(host, func(e *Entry) error {
		b := boot{server: s, entry: &Entry{e.Journal, e.Rejected}}
		if err := b.load(); err != nil {
			return err
		}
		out = b.state
		return errNothing
	})
	if !errors.Is(err, errNothing) {
		return slot.State{}, fmt.Errorf("slots of %s: %w", host, err)
	}
	return out, nil
}

// errNothing has a store keep nothing.
var errNothing = errors.New("nothing is kept")
