package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/gpt"
)

// TestVariableChaos changes the firmware's variables between the steps of an
// update while the machine is off: lost, turned around, doubled, and no room
// left. Each time it starts the right version, repairs what it can or chooses by
// other means, and says so.
//
// A read-only efivarfs cannot be had on this firmware from outside; a store
// without room refuses writes the same way (EFI_OUT_OF_RESOURCES). Read-only
// variables, and firmware that does not use BootNext, are in internal/agent/slots:
// TestReadOnlyStore, TestDeafFirmware.
func TestVariableChaos(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "")
	b := newBox(t, f, f.release(t, "1.0.0", ""), nil)
	next := f.release(t, "1.1.0", "")
	b.on()
	b.runs("1.0.0")

	b.cut()
	b.variables(wipe)
	b.on()
	b.runs("1.0.0")
	b.came("esp", "slot-a")
	b.says("idle, wiped", `entries were repaired [1-9]`, slot.Idle)

	b.stage(next)
	b.cut()
	b.variables(reverse)
	b.on() // what is staged and not approved is no trial, even when the firmware starts it
	b.runs("1.0.0")
	b.came("slot-b", "slot-a")
	b.says("staged, turned around", `STAGED: version 1\.1\.0`, slot.Staged)

	b.arm(next)
	b.variables(func(s *varstore.Store) { s.Delete(efivar.BootNext, efivar.Global) })
	b.on() // the same as a try that ended before init
	b.runs("1.0.0")
	b.came("slot-a")
	b.says("armed, BootNext lost", `lost-before-init`, slot.Failed)

	b.arm(next)
	b.variables(double)
	b.on()
	b.sees(`ingot: tally 1\.1\.0 on Linux`)
	b.trying()
	b.came("slot-b")

	b.cut()
	b.variables(wipe)
	b.on()
	b.runs("1.0.0")
	b.came("esp", "slot-a")
	b.says("on trial, wiped", `power-cut`, slot.Failed)

	b.cut()
	b.variables(fill)
	b.on()
	b.runs("1.0.0")
	b.update(next) // BootNext cannot be set: it is started by kexec
	b.runs("1.1.0")
	b.came("slot-a", "slot-a")
	b.says("updated without room for variables", `chosen by: selector`, slot.Blessed, slot.Idle)
	b.cut()
	b.on() // the firmware starts slot a for ever; that starts slot b
	b.runs("1.1.0")
	b.came("slot-a")
	if got, want := b.starts(), []string{"1.0.0", "1.1.0"}; !slices.Equal(want, slices.Compact(slices.Sorted(slices.Values(got)))) {
		t.Errorf("the data partition knows of %q", got)
	}
}

// came wants what the firmware has started since power-on.
func (b *box) came(want ...string) {
	b.t.Helper()
	if got := b.chain(); !slices.Equal(got, want) {
		b.t.Errorf("the firmware started %q, want %q", got, want)
	}
}

// says wants a line of ingot why, and a phase.
func (b *box) says(when, line string, phases ...slot.Phase) {
	b.t.Helper()
	j := b.rests(phases...)
	why := b.operator("why")
	b.t.Logf("%s:\n%s", when, why.out)
	if why.code != 0 || !regexp.MustCompile(line).MatchString(why.out) {
		b.t.Errorf("%s: ingot why does not say %q (code %d):\n%s%s\n%+v", when, line, why.code, why.out, why.stderr, j)
	}
}

// arm approves what is staged, and pulls the plug when the machine is about to
// start it.
func (b *box) arm(set *release.Set) {
	b.t.Helper()
	b.approve(set)
	b.sees(`ingot: restarting now`)
	b.cut()
	b.variables(func(s *varstore.Store) {
		if _, ok := s.Get(efivar.BootNext, efivar.Global); !ok {
			b.t.Fatal("armed, but there is no BootNext")
		}
	})
}

// trying waits until the journal has the trial.
func (b *box) trying() { b.rests(slot.Trying) }

// wipe is an empty battery.
func wipe(s *varstore.Store) {
	for _, v := range slices.Clone(s.List()) {
		if strings.HasPrefix(v.Name, "Boot") {
			s.Delete(v.Name, v.GUID)
		}
	}
}

// reverse turns the order of the two slots around.
func reverse(s *varstore.Store) {
	change(s, efivar.BootOrder, func(b []byte) []byte {
		order, err := efivar.ParseOrder(b)
		if err != nil || len(order) < 2 {
			panic(fmt.Sprint(order, err))
		}
		slots := order[:0:0]
		for _, n := range order {
			if v, ok := s.Get(efivar.BootName(n), efivar.Global); ok && isSlot(v.Data) {
				slots = append(slots, n)
			}
		}
		slices.Reverse(slots)
		rest := slices.DeleteFunc(order, func(n uint16) bool { return slices.Contains(slots, n) })
		return efivar.MarshalOrder(append(slots, rest...)...)
	})
}

func isSlot(b []byte) bool {
	o, err := efivar.ParseLoadOption(b)
	return err == nil && strings.Contains(o.Description, "slot-")
}

// double has each entry of a slot three times, the copies in front and in the
// other order.
func double(s *varstore.Store) {
	var first []uint16
	at := uint16(0x80)
	for _, v := range slices.Clone(s.List()) {
		if _, ok := efivar.ParseBootName(v.Name); ok && isSlot(v.Data) {
			for range 2 {
				put(s, efivar.BootName(at), efivar.Global, v.Data)
				first = append([]uint16{at}, first...)
				at++
			}
		}
	}
	change(s, efivar.BootOrder, func(b []byte) []byte { return append(efivar.MarshalOrder(first...), b...) })
}

// fill leaves no room for another byte.
func fill(s *varstore.Store) {
	vendor := gpt.MustGUID("5a9c1c2e-8f0b-4f7d-9a51-3b7f0a0f3c11")
	for i, size := 0, 4096; size > 0; i++ {
		err := s.Set(varstore.Variable{Name: fmt.Sprintf("Dump%d", i), GUID: vendor, Attributes: efivar.BootAttributes, Data: make([]byte, size)})
		if errors.Is(err, varstore.ErrNoSpace) {
			size /= 2
		} else if err != nil {
			panic(err)
		}
	}
}

func change(s *varstore.Store, name string, f func([]byte) []byte) {
	v, ok := s.Get(name, efivar.Global)
	if !ok {
		panic("no variable " + name)
	}
	put(s, name, efivar.Global, f(slices.Clone(v.Data)))
}

func put(s *varstore.Store, name string, vendor gpt.GUID, data []byte) {
	if err := s.Set(varstore.Variable{Name: name, GUID: vendor, Attributes: efivar.BootAttributes, Data: data}); err != nil {
		panic(err)
	}
}
