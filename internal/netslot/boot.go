package netslot

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/boot/slot"
)

// boot is one machine's state while an event is handled.
type boot struct {
	server *Server
	entry  *Entry
	state  slot.State
	out    Outcome
	filled slot.Slot // a slot has got a release, and nobody was told yet
}

// load reads the entry. What runs is not in it: during a trial the candidate
// does, else the good slot.
func (b *boot) load() error {
	if len(b.entry.Journal) == 0 {
		return ErrUnknown
	}
	r, err := slot.Parse(b.entry.Journal)
	if err != nil {
		return fmt.Errorf("read its journal: %w", err)
	}
	b.state = slot.State{Record: r, Running: r.Good}
	if r.Phase == slot.Trying {
		b.state.Running = r.Candidate
	}
	if b.state.Rejections, err = slot.ParseRejections(b.entry.Rejected); err != nil {
		return fmt.Errorf("read its list of rejected versions: %w", err)
	}
	return nil
}

// give handles an event and what follows of it at once: a release is "written"
// as soon as the server has it.
func (b *boot) give(e slot.Event) error {
	h := slot.Host{Rules: b.server.Rules, Actuators: [3]slot.Actuator{slot.Netboot: b}, Do: b.do}
	s, err := h.Handle(b.state, e)
	b.state = s
	if err != nil {
		b.out.Reports = append(b.out.Reports, err.Error())
	}
	if x := b.filled; x != slot.None {
		b.filled = slot.None
		kind := slot.Written
		if s.Recovering {
			kind = slot.Restored
		}
		return b.give(slot.Event{Kind: kind, Slot: x, OK: true})
	}
	return nil
}

// do performs all actions but those of the actuator.
func (b *boot) do(a slot.Action) (err error) {
	switch a.Do {
	case slot.WriteJournal:
		if b.entry.Journal, err = a.Record.AppendBinary(nil); err != nil {
			return err
		}
	case slot.WriteRejected:
		if b.entry.Rejected, err = slot.EncodeRejections(a.Rejections); err != nil {
			return err
		}
	case slot.Fill:
		if err := b.server.ready(a.Release); err != nil {
			return err
		}
		b.filled = a.Slot
	case slot.Recover:
		if b.server.ready(a.Release) == nil {
			b.filled = a.Slot
		}
	case slot.KeepEvidence:
		b.out.Failed = a.Cause
	case slot.Reset:
		b.out.Reset = true
	case slot.Report:
		b.out.Reports = append(b.out.Reports, a.Detail)
	}
	return nil // locks, watchdogs and checks are the machine's, the floor is the verifier's
}

// SetDefault implements slot.Actuator: the journal says it already.
func (b *boot) SetDefault(_, _ slot.Slot) error { return nil }

// SetNext implements slot.Actuator, as SetDefault does.
func (b *boot) SetNext(slot.Slot) error { return nil }

// Launch implements slot.Actuator: the slot is what is served.
func (b *boot) Launch(x slot.Slot) error {
	r, err := slot.Parse(b.entry.Journal) // the state as it will be is not known yet
	if err != nil {
		return err
	}
	c := r.Of(x)
	if c.Version == "" {
		return errors.New("no release is in it")
	}
	if err := b.server.ready(c); err != nil {
		return err
	}
	b.out.Slot, b.out.Content = x, c
	return nil
}

func (s *Server) ready(c slot.Content) error {
	if s.Ready == nil {
		return nil
	}
	return s.Ready(c)
}
