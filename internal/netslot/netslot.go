// Package netslot keeps the slot journal of machines that boot over the network
// and have no slots of their own (DESIGN S18): the server tries a new release
// once, serves the last good one otherwise, and blesses what an attested machine
// reports as healthy. It is the third actuator of package boot/slot: what is
// served is what starts.
//
//	s := &netslot.Server{Store: store, Ready: catalog.Ready}
//	err := s.Enrol("web-1", content)        // the first release of a machine
//	out, err := s.Handle("web-1", slot.Event{Kind: slot.Stage, Release: next})
//	out, err = s.Serve("web-1")             // its firmware asks for the first byte
//	out, err = s.Booted("web-1", digest, nil)
//
// A slot is a name for a release here: nothing is written into it. Serve uses up
// a try, so a server calls it with the first byte of the payload and not for a
// probe. What it would serve, Serve says on a copy of the entry.
//
// Limits: whether a machine is who it says is for the caller to know. State of
// one boot (since when checks hold) is in memory; after a restart of the server
// the time of health is counted again.
package netslot

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
)

// Entry is what is kept of one machine: the payloads of package boot/slot. Both
// are empty for a machine that was never seen.
type Entry struct {
	Journal  []byte `json:"journal,omitempty"`
	Rejected []byte `json:"rejected,omitempty"`
}

// Store keeps the entries of all machines.
type Store interface {
	// Change gives f the entry of a host and keeps what f has made of it. When f
	// fails, nothing is changed. What was kept is durable when Change returns.
	// Changes of one host come one after the other.
	Change(host string, f func(*Entry) error) error
}

// Server chooses what machines boot.
type Server struct {
	Store Store
	// Rules are those of the release or of the site.
	Rules slot.Rules
	// Ready says why a release cannot be served now; nil serves all.
	Ready func(slot.Content) error

	mu    sync.Mutex
	hosts map[string]slot.State // of boots under way
}

// Outcome is what follows from an event.
type Outcome struct {
	State slot.State
	// Slot and Content are what is to be served. Only Serve has them.
	Slot    slot.Slot
	Content slot.Content
	// Reset asks the machine to start again.
	Reset bool
	// Failed is why the boot is to be given up; it is kept by the machine's log.
	Failed slot.Cause
	// Reports are for people, in order.
	Reports []string
}

// ErrUnknown means that a machine was not enrolled.
var ErrUnknown = errors.New("the machine has no slots at this server")

// Enrol gives a machine its first release, as its good one. A machine that has
// one already is refused.
func (s *Server) Enrol(host string, c slot.Content) error {
	err := s.Store.Change(host, func(e *Entry) error {
		if len(e.Journal) > 0 {
			return errors.New("it has slots already")
		}
		c.Condition = slot.Good
		r := slot.Record{Good: slot.A, Means: slot.Netboot, Schema: c.Schema, Slots: [2]slot.Content{c}}
		b, err := r.AppendBinary(nil)
		e.Journal = b
		return err
	})
	if err != nil {
		return fmt.Errorf("enrol %s: %w", host, err)
	}
	return nil
}

// Serve says what a machine that asks for it boots now.
func (s *Server) Serve(host string) (Outcome, error) {
	out, err := s.handle(host, slot.Event{Kind: slot.Booted})
	if err == nil && out.Slot == slot.None {
		err = fmt.Errorf("serve %s: no release that it may run is there: %s", host, out.State.Notice)
	}
	return out, err
}

// Booted takes an attested machine's word which release it runs, by the digest
// of its image, and what it found of earlier boots. An image that is in neither
// slot is an error.
func (s *Server) Booted(host string, image slot.Digest, evidence []slot.Evidence) (Outcome, error) {
	return s.change(host, func(b *boot) error {
		x := slot.None
		for _, y := range []slot.Slot{b.state.Good, b.state.Good.Other()} {
			if c := b.state.Of(y); x == slot.None && c.Version != "" && c.Image == image {
				x = y
			}
		}
		if x == slot.None {
			return fmt.Errorf("it runs %x, which is in no slot of it", image[:8])
		}
		return b.give(slot.Event{Kind: slot.Booted, Boot: slot.Boot{Running: x, Evidence: evidence}})
	})
}

// Handle gives any other event to a machine's slots.
func (s *Server) Handle(host string, e slot.Event) (Outcome, error) {
	if e.Kind == slot.Booted {
		return Outcome{}, fmt.Errorf("slots of %s: a boot is told by Serve and Booted", host)
	}
	return s.handle(host, e)
}

// Health tells how a machine is, uptime after its boot.
func (s *Server) Health(host string, ok bool, cause slot.Cause, detail string, uptime time.Duration) (Outcome, error) {
	return s.handle(host, slot.Event{Kind: slot.Checked, OK: ok, Cause: cause, Detail: detail, Uptime: uptime})
}

func (s *Server) handle(host string, e slot.Event) (Outcome, error) {
	return s.change(host, func(b *boot) error { return b.give(e) })
}

func (s *Server) change(host string, f func(*boot) error) (Outcome, error) {
	var b boot
	err := s.Store.Change(host, func(e *Entry) error {
		b = boot{server: s, entry: e}
		if err := b.load(); err != nil {
			return err
		}
		s.mu.Lock()
		if old, ok := s.hosts[host]; ok {
			old.Record, old.Rejections = b.state.Record, b.state.Rejections
			b.state = old
		}
		s.mu.Unlock()
		return f(&b)
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("slots of %s: %w", host, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		s.hosts = map[string]slot.State{}
	}
	s.hosts[host] = b.state
	b.out.State = b.state
	return b.out, nil
}
