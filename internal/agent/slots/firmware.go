package slots

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/nvram"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Firmware is the actuator on the firmware's boot variables: BootNext for one
// try, BootOrder for good. It writes nothing that is there already, and reads
// back what it writes.
type Firmware struct {
	Vars    nvram.Store
	Entries []nvram.Entry // of slot a, then slot b
	Extra   []nvram.Entry // behind the slots: the selector's spare copy and the recipe's programs, on the ESP
	Timeout int           // seconds of the firmware's menu; 0 leaves it
	Place   nvram.Place   // of the slots among the entries of others
	// Missing is why there are no entries to be made; nil in nearly all machines.
	Missing error
}

// SetDefault implements slot.Actuator. Both slots stay in BootOrder: some
// firmware deletes entries that are not in it (fwupdate#55). Entries of others
// stay behind them, or where boot.policy leaves them.
func (f Firmware) SetDefault(first, second slot.Slot) error {
	if f.Missing != nil {
		return f.Missing
	}
	numbers, err := f.Vars.Ensure([]nvram.Entry{f.entry(first), f.entry(second)})
	if err != nil {
		return err
	}
	for _, e := range f.Extra { // no slot needs them: one that finds no room is no reason to give the firmware up
		if n, err := f.Vars.Ensure([]nvram.Entry{e}); err == nil {
			numbers = append(numbers, n...)
		}
	}
	if err := f.Vars.Timeout(f.Timeout); err != nil {
		return err
	}
	return f.Vars.Order(numbers, f.Place)
}

// SetNext implements slot.Actuator.
func (f Firmware) SetNext(x slot.Slot) error {
	if x == slot.None {
		return f.Vars.NoNext()
	}
	if f.Missing != nil {
		return f.Missing
	}
	numbers, err := f.Vars.Ensure([]nvram.Entry{f.entry(x)})
	if err != nil {
		return err
	}
	if err := f.Vars.Next(numbers[0]); err != nil {
		return fmt.Errorf("let %s start once: %w", x, err)
	}
	return nil
}

// Launch implements slot.Actuator.
func (f Firmware) Launch(slot.Slot) error { return errors.New("the firmware starts slots by itself") }

func (f Firmware) entry(x slot.Slot) nvram.Entry {
	if x == slot.B {
		return f.Entries[1]
	}
	return f.Entries[0]
}

// View is what the firmware would start, whatever is in force. Other programs
// that stand before the slots do not count as wrong: this boot came past them.
func (f Firmware) View() slot.View {
	if f.Missing != nil {
		return slot.View{}
	}
	c, err := f.Vars.Chain(f.Entries)
	if err != nil {
		return slot.View{}
	}
	v := slot.View{Entries: c.Right[0] && c.Right[1] && len(c.Order) == 2}
	of := func(i int) slot.Slot { return []slot.Slot{slot.A, slot.B}[i] }
	for _, i := range c.Order {
		v.Order = append(v.Order, of(i))
	}
	if c.Next >= 0 {
		v.Next = of(c.Next)
	}
	return v
}

// vendor is the GUID of the variables of this program.
var vendor = gpt.MustGUID("b1d3a5c7-6e2f-4c0d-9a3e-5f1d7c2b8e46")

// selfTest is a variable that this program alone uses.
const selfTest = "IngotSelfTest"

// Test asks whether the firmware keeps variables: it sets one, reads it and
// deletes it. Whether it uses BootNext is seen when it passes over the first try.
func (f Firmware) Test() error {
	const attributes = 1 | 2 | 4 // non-volatile, boot service and runtime access
	if err := f.Vars.Set(selfTest, vendor, attributes, []byte("1")); err != nil {
		return err
	}
	return f.Vars.Delete(selfTest, vendor)
}
