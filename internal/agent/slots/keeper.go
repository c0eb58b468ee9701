// Package slots is what makes package boot/slot real on a machine: it keeps the
// journal in the state partition, asks and changes the firmware's boot
// variables, starts slots by kexec where these are of no use, and performs what
// the state machine decides.
//
//	k := slots.New(options)
//	err := k.Boot()             // early init, before any service
//	err = k.Handle(slot.Event{Kind: slot.Stage, Release: content})
//
// A healthy boot of a blessed slot writes neither journal nor variables.
//
// It is part of every init, so it imports no cryptography but SHA-256 and no
// network: who fetches and writes slots registers with OnFill.
package slots

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Keeper owns the slots of a machine. All methods may be called from any
// goroutine.
type Keeper struct {
	o    Options
	host slot.Host

	turn    sync.Mutex  // one event at a time; State and Slots do not wait for it
	durable slot.Record // the journal as it is on the disk
	booted  bool        // the journal was read and the boot is judged

	mu       sync.Mutex
	state    slot.State
	found    slot.JournalState
	view     slot.View
	kept     Kept
	fill     func(slot.Action)
	waiting  *slot.Action          // a Recover that nobody was there for
	report   func(updateapi.Slots) // of OnReport
	last     updateapi.Slots
	checking bool
	looking  sync.Mutex // one look at the variables at a time
	looked   looked
	changes  uint64 // events that were handled
}

// New returns the keeper of a machine. Nothing is read before Boot.
func New(o Options) *Keeper {
	k := &Keeper{o: o}
	k.host = slot.Host{Rules: o.Rules, Do: k.do, Actuators: [3]slot.Actuator{
		slot.Firmware: seen{k, o.Firmware}, slot.Selector: checked{k, o.Selector}, slot.Netboot: nowhere{},
	}}
	return k
}

// State is the state machine's state as it is now.
func (k *Keeper) State() slot.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Handle gives an event to the state machine and performs what follows. A Reset
// does not return.
func (k *Keeper) Handle(e slot.Event) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	if !k.booted && e.Kind != slot.Booted {
		return errors.New("the slots of this machine are not known yet")
	}
	if e.Kind == slot.Stage || e.Kind == slot.Approve {
		if err := k.mayTry(e); err != nil {
			return err
		}
	}
	if e.Kind == slot.Stage {
		k.identifyNow()
	}
	err := k.handle(e)
	k.handled()
	return err
}

// handled is what follows each event.
func (k *Keeper) handled() {
	k.mu.Lock()
	k.changes++
	k.mu.Unlock()
	k.watch()
	k.tell()
}

// mayTry says why no slot can be tried here: Secure Boot leaves that to the
// firmware alone, and its variables cannot be written, or are not used. When they
// can be again, the firmware is in force again. Firmware that has passed over
// BootNext is asked again for another release, or the machine would reset for ever.
func (k *Keeper) mayTry(e slot.Event) error {
	if k.o.Selector.Refuse == nil {
		return nil
	}
	s := k.State()
	if s.Means != slot.Firmware && s.Deaf && (e.Kind == slot.Approve || e.Release.Image == s.Of(s.Candidate).Image) { // before Test, which writes
		return fmt.Errorf("no slot can be tried on this machine: its firmware does not use BootNext; %w", k.o.Selector.Refuse)
	}
	if err := k.o.Firmware.Test(); err != nil {
		return fmt.Errorf("no slot can be tried on this machine: %w; %w", err, k.o.Selector.Refuse)
	}
	if s.Means == slot.Firmware {
		return nil
	}
	return k.handle(slot.Event{Kind: slot.SelfTested, OK: true})
}

func (k *Keeper) handle(e slot.Event) error {
	s, err := k.host.Handle(k.State(), e)
	k.mu.Lock()
	k.state = s
	k.mu.Unlock()
	return err
}

// OnFill registers who writes slots. f must return at once; it answers by the
// event Written or Restored.
func (k *Keeper) OnFill(f func(slot.Action)) {
	k.mu.Lock()
	k.fill = f
	a := k.waiting
	k.waiting = nil
	k.mu.Unlock()
	if a != nil {
		f(*a)
	}
}

// OnReport registers who is told after each change, instead of who was before: an
// update client that begins anew is one. f must return at once, and not call
// Handle.
func (k *Keeper) OnReport(f func(updateapi.Slots)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.report = f
}

// tell calls who wants to know when something has changed.
func (k *Keeper) tell() {
	now := k.Brief()
	k.mu.Lock()
	same, told := reflect.DeepEqual(now, k.last), []func(updateapi.Slots){k.o.Hooks.Report, k.report}
	k.last = now
	k.mu.Unlock()
	told = slices.DeleteFunc(told, func(f func(updateapi.Slots)) bool { return f == nil })
	if same || len(told) == 0 {
		return
	}
	all := k.Slots()
	for _, f := range told {
		f(all)
	}
}

// do performs all actions but those of the actuators.
func (k *Keeper) do(a slot.Action) error {
	h := k.o.Hooks
	switch a.Do {
	case slot.WriteJournal:
		return k.writeJournal(a.Record)
	case slot.WriteRejected:
		return k.writeRejected(a.Rejections)
	case slot.Fill:
		return k.write(a)
	case slot.Recover:
		k.recover(a)
	case slot.KeepBaseline:
		return k.keepBaseline(a.Release.Image)
	case slot.TakeLock, slot.ReleaseLock:
		// A lock of the whole fleet, so that not too many machines are away at
		// once, comes with rollouts: until then nobody could refuse.
	case slot.StartWatchdog:
		return call(h.StartWatchdog)
	case slot.StopWatchdog:
		return call(h.StopWatchdog)
	case slot.RunChecks:
		k.runChecks(a.Deferred)
	case slot.Migrate:
		return call(h.Migrate)
	case slot.KeepEvidence:
		if h.KeepEvidence != nil {
			return h.KeepEvidence(a.Cause, a.Detail)
		}
	case slot.EraseEvidence:
		return call(h.EraseEvidence)
	case slot.RaiseFloor:
		if h.RaiseFloor != nil {
			return h.RaiseFloor(a.Floor)
		}
	case slot.Reset:
		if k.o.Running == slot.None && k.found != slot.JournalRead {
			if err := k.countReset(); err != nil {
				return err
			}
		}
		k.o.Reset(k.resetReason())
	case slot.Report:
		k.o.Logf("slots: %s", a.Detail)
	default:
		return fmt.Errorf("perform %s: it is unknown", a.Do)
	}
	return nil
}

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

func (k *Keeper) resetReason() string {
	r := k.durable
	switch {
	case r.Phase == slot.Armed:
		return "trial of version " + r.Of(r.Candidate).Version
	case r.Phase == slot.Failed:
		return "the trial has failed"
	}
	return "to " + r.Good.String()
}

// write passes a Fill on.
func (k *Keeper) write(a slot.Action) error {
	k.mu.Lock()
	f := k.fill
	k.mu.Unlock()
	if f == nil {
		return errors.New("this image takes no updates: nothing here can write a slot")
	}
	f(a)
	return nil
}

// recover passes a Recover on as soon as somebody is there for it.
func (k *Keeper) recover(a slot.Action) {
	k.mu.Lock()
	f := k.fill
	if f == nil {
		k.waiting = &a
	}
	k.mu.Unlock()
	if f != nil {
		f(a)
	}
}

// keepBaseline keeps how the machine is, for the trial of an image alone. No try is
// armed without it.
func (k *Keeper) keepBaseline(image slot.Digest) error {
	if k.o.Hooks.Baseline == nil {
		return errors.New("nothing here tells how the machine is")
	}
	b, err := k.o.Hooks.Baseline()
	if err != nil {
		return err
	}
	if len(b) > MaxBaseline {
		return fmt.Errorf("%d bytes are more than %d", len(b), MaxBaseline)
	}
	return k.save(func(d *Kept) { d.Baseline, d.BaselineOf, d.Verdict = b, image, verdict{} })
}

// runChecks begins a trial. A baseline of another one is none.
func (k *Keeper) runChecks(deferred bool) {
	f := k.o.Hooks.RunChecks
	if f == nil {
		return
	}
	k.mu.Lock()
	kept := k.kept
	k.mu.Unlock()
	if kept.Of() != k.durable.Of(k.durable.Candidate).Image {
		kept.Baseline = nil
	}
	f(kept.Baseline, deferred)
}
