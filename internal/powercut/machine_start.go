package powercut

import (
	"errors"

	"github.com/ingot-os/ingot/boot/slot"
)

// firmware is the actuator on the variables.
type firmware struct{ m *Machine }

func (f firmware) SetDefault(first, second slot.Slot) error {
	v := f.m.Vars
	v.Entries, v.Order, v.Spare = true, [2]slot.Slot{first, second}, true
	if v == f.m.Vars {
		return nil // written only when it differs
	}
	f.m.setVars("P15", v)
	f.m.mark("P16")
	return nil
}

func (f firmware) SetNext(x slot.Slot) error {
	v := f.m.Vars
	v.Next = x
	f.m.setVars("P7", v)
	f.m.mark("P8")
	return nil
}

func (f firmware) Launch(slot.Slot) error { return errors.New("the firmware starts slots by itself") }

// kexec is the actuator of a machine whose variables are of no use.
type kexec struct{ m *Machine }

func (k kexec) SetDefault(_, _ slot.Slot) error { return nil }

func (k kexec) SetNext(slot.Slot) error { return nil }

func (k kexec) Launch(x slot.Slot) error {
	if !k.m.loads(x) {
		return errors.New("no boot file")
	}
	return k.m.boot(x)
}
