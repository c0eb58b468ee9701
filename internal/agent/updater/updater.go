// Package updater takes updates on a machine: from an operator over the
// management listener, from the server that the machine follows, or from a USB
// stick. All three end in Offer and Write.
//
// A release is looked at by package accept before anything is written. Then the
// state machine (boot/slot, through updates.Keeper) is asked, and the other slot
// is written in this order, so that power may go at any moment:
//
//  1. the first 4 KiB of the slot are zeroed: what it held cannot start any more
//  2. the root partition, if there is one: flushed, read back, compared
//  3. the slot as package slot does it, its first 4 KiB last
//
// Nothing is kept on the way: a body goes through its decoder to the disk. What
// was flushed is remembered every 16 MiB, over resets too, so a cut transfer
// goes on from there. Zeros at the end of a part are not sent, and not written
// where the disk can make them by itself; all of a partition is read back past
// the page cache in any case.
//
// Memory is about 8 MiB for pieces on their way, the window of zstd (at most 8
// MiB), and for a patch the content of the running partition and of the new one.
package updater

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Updater implements updates.Client.
type Updater struct {
	m      updates.Machine
	accept accept.Accepter
	broken error // why nothing can be accepted

	writing sync.Mutex // held while a slot is written
	mu      sync.Mutex
	update  *update // under way; nil: none
	resets  bool    // a reset was ordered
	grace   time.Duration
	lookTry time.Duration                          // between two looks whether a try is owed
	again   time.Duration                          // before a cut transfer goes on
	tap     func(role string, off int64, b []byte) // sees what reaches the disk, for tests

	said   string       // what was last told of servers and sticks
	asking sync.Mutex   // of these alone: the keeper holds its own lock when it takes it
	fill   *slot.Action // the last Fill or Recover of the keeper
	ended  bool         // Run has: nothing is added to tasks
	tasks  sync.WaitGroup
}

// grace is the time between an answer and the reset that it announces.
const grace = time.Second

// New makes the client of a machine. A machine whose image cannot take updates
// gets one that says why.
func New(m updates.Machine) *Updater {
	u := &Updater{m: m, grace: grace, again: firstRetry, lookTry: lookTry}
	if m.Keeper == nil {
		u.broken = errors.New("this machine was not started from a disk with slots")
		return u
	}
	if m.Spec.Update == nil {
		u.broken = errors.New("the image takes no updates: its recipe has no key update")
		return u
	}
	m.Keeper.OnFill(u.asked)
	a, err := accept.ForMachine(m.Spec, u.sizeOf)
	if err != nil {
		u.broken = err
		return u
	}
	u.accept = a
	return u
}

func (u *Updater) sizeOf(role string) int64 {
	_, size, err := u.m.Partition(role)
	if err != nil {
		return 0
	}
	return size
}

// Slots implements updates.Client.
func (u *Updater) Slots() updateapi.Slots {
	if u.m.Keeper == nil {
		return updateapi.Slots{Journal: "absent", Why: []string{u.broken.Error()}}
	}
	s := u.explained()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.said != "" && len(s.Why) < maxWhy {
		s.Why = append(s.Why, u.said)
	}
	return s
}

// explained are the keeper's slots, with who approved.
func (u *Updater) explained() updateapi.Slots {
	s := u.m.Keeper.Slots()
	if line := parseKept(u.m.Keeper.Progress()).approved(u.m.Keeper.State()); line != "" {
		why := slices.Insert(slices.Clone(s.Why), min(2, len(s.Why)), line)
		s.Why = why[:min(len(why), maxWhy)]
	}
	return s
}

// maxWhy bounds the lines of an explanation.
const maxWhy = 20

// say tells what happens with servers and sticks: on the console once, and to
// whoever asks for the slots.
func (u *Updater) say(format string, args ...any) {
	line := "update: " + fmt.Sprintf(format, args...)
	u.mu.Lock()
	same := line == u.said
	u.said = line
	u.mu.Unlock()
	if !same {
		u.m.Logf("%s", line)
	}
}

// asked is told of each Fill and Recover by the keeper, within Handle.
func (u *Updater) asked(a slot.Action) {
	u.asking.Lock()
	defer u.asking.Unlock()
	u.fill = &a
	if a.Do == slot.Recover {
		restore := func() { u.guard("restore "+a.Slot.String(), func() { u.restore(a) }) }
		if u.ended {
			go restore()
			return
		}
		u.tasks.Go(restore)
	}
}

// takeFill returns what the keeper has asked for since the last call.
func (u *Updater) takeFill() *slot.Action {
	u.asking.Lock()
	defer u.asking.Unlock()
	a := u.fill
	u.fill = nil
	return a
}

// guard keeps a panic inside its task: this runs in PID 1.
func (u *Updater) guard(what string, f func()) {
	defer func() {
		if v := recover(); v != nil {
			u.m.Problem("%s: %v", what, v)
		}
	}()
	f()
}

// able is the refusal of a machine that takes no updates.
func (u *Updater) able() error {
	if u.broken != nil {
		return refuse(updateapi.Unavailable, "", "%v", u.broken)
	}
	return nil
}

func refuse(code, hint, format string, args ...any) error {
	return &updateapi.Error{Code: code, Detail: fmt.Sprintf(format, args...), Hint: hint}
}

// notAllowed is the state machine's no.
func notAllowed(s slot.State) error {
	return refuse(updateapi.NotAllowed, "ask the machine why: ingot why HOST", "%s", s.Notice)
}

// progress tells how far things are. It is called with mu held.
func (u *Updater) progress(s slot.State) updateapi.Progress {
	p := updateapi.Progress{Phase: s.Phase.String(), Notice: s.Notice}
	if s.Candidate != slot.None {
		p.Version, p.Slot = s.Of(s.Candidate).Version, letter(s.Candidate)
	}
	if u.update != nil {
		p.Version, p.Slot, p.Wants = u.update.content.Version, letter(u.update.target), u.update.wants(s)
	}
	return p
}

func letter(s slot.Slot) string { return string(rune(s)) }
