package hosttest

import (
	"bytes"
	"errors"
	"sync"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/agent/traces"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// rules make a trial short: two checks decide it.
var rules = slot.Rules{Health: 1, Limit: 2}

// keeper is the state machine with a journal in memory, which outlives its boots.
type keeper struct {
	mu       sync.Mutex
	state    slot.State
	host     slot.Host
	journal  slot.Record
	rejected []slot.Rejection
	kept     []byte
	basis    slot.Digest // image that a baseline is kept for
	log      []byte      // of the last trial that failed
	next     slot.Slot   // for one boot
	fill     func(slot.Action)
	reset    chan struct{}
}

func newKeeper(runs slot.Content) *keeper {
	k := &keeper{journal: slot.Record{Good: slot.A, Slots: [2]slot.Content{runs, {}}}, reset: make(chan struct{}, 1)}
	k.host = slot.Host{Rules: rules, Do: k.do}
	for i := range k.host.Actuators {
		k.host.Actuators[i] = k
	}
	return k
}

// SetDefault implements slot.Actuator: the journal says which slot is good.
func (k *keeper) SetDefault(slot.Slot, slot.Slot) error { return nil }

// SetNext implements slot.Actuator.
func (k *keeper) SetNext(s slot.Slot) error {
	k.next = s
	return nil
}

// Launch implements slot.Actuator.
func (k *keeper) Launch(slot.Slot) error { return errors.New("no kexec here") }

func (k *keeper) do(a slot.Action) error {
	switch a.Do {
	case slot.WriteJournal:
		if _, err := a.Record.AppendBinary(nil); err != nil {
			return err
		}
		k.journal = a.Record
	case slot.WriteRejected:
		k.rejected = a.Rejections
	case slot.KeepBaseline:
		k.basis = a.Release.Image
	case slot.Fill, slot.Recover:
		k.fill(a)
	case slot.KeepEvidence:
		r := traces.Record{Cause: a.Cause, Slot: slot.B, Image: "imitated", Text: a.Detail}
		k.log = traces.Fill(r.Head(), "[    1.000000] web: cannot go on\n", 1<<10)
	case slot.Reset:
		select {
		case k.reset <- struct{}{}:
		default:
		}
	}
	return nil
}

// boot starts a slot: what was only in memory is gone.
func (k *keeper) boot(s slot.Slot) error {
	k.mu.Lock()
	k.state = slot.State{Record: k.journal, Rejections: k.rejected}
	k.mu.Unlock()
	return k.Handle(slot.Event{Kind: slot.Booted, Boot: slot.Boot{Running: s, Baseline: k.basis, View: slot.View{Entries: true, Order: []slot.Slot{k.journal.Good, k.journal.Good.Other()}}}})
}

// State implements updates.Keeper.
func (k *keeper) State() slot.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Handle implements updates.Keeper. A reset is ordered, and comes later.
func (k *keeper) Handle(e slot.Event) (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state, err = k.host.Handle(k.state, e)
	return err
}

// Slots implements updates.Keeper.
func (k *keeper) Slots() updateapi.Slots {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := slots.Describe(k.state, slot.JournalRead)
	if p := k.state.Phase; p == slot.Blessed || p == slot.Failed {
		s.Judged = 12.4
	}
	if k.log != nil {
		s.Why = append(s.Why, slots.LogLine)
	}
	return s
}

// OnFill implements updates.Keeper.
func (k *keeper) OnFill(f func(slot.Action)) { k.fill = f }

// OnReport implements updates.Keeper.
func (k *keeper) OnReport(func(updateapi.Slots)) {}

// SaveProgress implements updates.Keeper.
func (k *keeper) SaveProgress(b []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = bytes.Clone(b)
	return nil
}

// failedLog is what a failed trial has left.
func (k *keeper) failedLog() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.log
}

// Progress implements updates.Keeper.
func (k *keeper) Progress() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return bytes.Clone(k.kept)
}
