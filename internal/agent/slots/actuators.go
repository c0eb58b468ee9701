package slots

import (
	"errors"

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
	defer s.k.look()
	return s.f.SetDefault(first, second)
}

func (s seen) SetNext(x slot.Slot) error {
	defer s.k.look()
	return s.f.SetNext(x)
}

func (s seen) Launch(x slot.Slot) error { return s.f.Launch(x) }

func (k *Keeper) look() {
	v := k.o.Firmware.View()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.view = v
}
