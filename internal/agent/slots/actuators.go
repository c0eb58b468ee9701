package slots

import (
	"errors"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
)

// nowhere is the actuator of machines without slots: their journal is kept by
// the server (package netslot), so none of them has a keeper.
type nowhere struct{}

var errNetboot = errors.New("the server chooses what this machine boots")

func (nowhere) SetDefault(_, _ slot.Slot) error { return errNetboot }
func (nowhere) SetNext(slot.Slot) error         { return errNetboot }
func (nowhere) Launch(slot.Slot) error          { return errNetboot }

// seen remembers what the variables are after a change.
type seen struct {
	k *Keeper
	f Firmware
}

func (s seen) SetDefault(first, second slot.Slot) error {
	defer s.k.see()
	return s.f.SetDefault(first, second)
}

func (s seen) SetNext(x slot.Slot) error {
	defer s.k.see()
	return s.f.SetNext(x)
}

func (s seen) Launch(x slot.Slot) error { return s.f.Launch(x) }

// lookAge is how old what is told of the firmware's variables may be. Anybody may
// ask for the slots, and reading the variables can take firmware a second.
const lookAge = 5 * time.Second

// looked is what was last read of the firmware's variables.
type looked struct {
	entries []string
	at      time.Time
	changes uint64 // events until then
}

// look reads the firmware's variables, once for all who ask within lookAge, and
// again after an event.
func (k *Keeper) look() []string {
	k.looking.Lock()
	defer k.looking.Unlock()
	k.mu.Lock()
	last, changes := k.looked, k.changes
	k.mu.Unlock()
	if !last.at.IsZero() && last.changes == changes && time.Since(last.at) < lookAge {
		return last.entries
	}
	v, entries := k.o.Firmware.View(), k.o.Firmware.Vars.Snapshot()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view, k.looked = v, looked{entries, time.Now(), changes}
	return entries
}

// see reads what the variables say of the slots.
func (k *Keeper) see() {
	v := k.o.Firmware.View()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view = v
}
