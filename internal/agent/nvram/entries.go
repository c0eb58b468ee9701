package nvram

import (
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/boot/efivar"
)

// Entry is a boot entry that should exist.
type Entry struct {
	Role   string // "slot-a"; for messages
	Option efivar.LoadOption
}

// Ensure makes every entry exist and returns their numbers in order. An entry
// is recognised by the partition and file that it loads; one with these but
// another content is rewritten in place, so entries do not pile up.
func (s Store) Ensure(entries []Entry) ([]uint16, error) {
	have, err := s.options()
	if err != nil {
		return nil, err
	}
	var numbers []uint16
	for _, e := range entries {
		n, err := s.ensure(e, have)
		if err != nil {
			return nil, fmt.Errorf("ensure boot entry of %s: %w", e.Role, err)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

func (s Store) options() (map[uint16]efivar.LoadOption, error) {
	names, err := s.Names(efivar.Global)
	if err != nil {
		return nil, err
	}
	out := map[uint16]efivar.LoadOption{}
	for _, name := range names {
		n, ok := efivar.ParseBootName(name)
		if !ok {
			continue
		}
		b, err := s.Get(name, efivar.Global)
		if err != nil {
			continue
		}
		// A broken entry of somebody else keeps its number and is left alone.
		out[n], _ = efivar.ParseLoadOption(b)
	}
	return out, nil
}

func (s Store) ensure(e Entry, have map[uint16]efivar.LoadOption) (uint16, error) {
	want, err := e.Option.MarshalBinary()
	if err != nil {
		return 0, err
	}
	n, ok := find(e.Option, have)
	if !ok {
		n = free(have)
	}
	have[n] = e.Option
	return n, s.Set(efivar.BootName(n), efivar.Global, efivar.BootAttributes, want)
}

func find(o efivar.LoadOption, have map[uint16]efivar.LoadOption) (uint16, bool) {
	for n := range 1 << 16 {
		if h, ok := have[uint16(n)]; ok && loadsSame(o, h) {
			return uint16(n), true
		}
	}
	return 0, false
}

// free picks a number from 0x0010 on: firmware fills the low ones by itself.
func free(have map[uint16]efivar.LoadOption) uint16 {
	for n := uint16(0x10); ; n++ {
		if _, ok := have[n]; !ok {
			return n
		}
	}
}

// Next sets BootNext: the firmware starts this entry once and forgets it.
func (s Store) Next(n uint16) error {
	return s.Set(efivar.BootNext, efivar.Global, efivar.BootAttributes, efivar.MarshalOrder(n))
}

// Timeout sets how many seconds the firmware's menu waits; 0 leaves what the
// firmware has.
func (s Store) Timeout(seconds int) error {
	if seconds == 0 {
		return nil
	}
	return s.Set("Timeout", efivar.Global, efivar.BootAttributes, efivar.MarshalOrder(uint16(min(seconds, 0xfffe))))
}

// Snapshot names Boot####, BootOrder and BootNext with their values, for the
// status: "Boot0010: ingot slot-a ...", in order of the names.
func (s Store) Snapshot() []string {
	names, err := s.Names(efivar.Global)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	var out []string
	for _, name := range names {
		b, err := s.Get(name, efivar.Global)
		if err != nil {
			continue
		}
		switch _, boot := efivar.ParseBootName(name); {
		case boot:
			if o, err := efivar.ParseLoadOption(b); err == nil {
				out = append(out, name+": "+o.String())
			}
		case name == efivar.BootOrder || name == efivar.BootNext || name == efivar.BootCurrent:
			if order, err := efivar.ParseOrder(b); err == nil {
				out = append(out, fmt.Sprintf("%s: %04X", name, order))
			}
		}
	}
	return out
}
