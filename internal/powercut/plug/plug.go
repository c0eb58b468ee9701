// Package plug pulls the plug of real machines: it writes states of package
// powercut to disks and variable stores, starts them with real firmware, and ends
// virtual machines in the middle of what they do.
package plug

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/powercut"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition"
)

// Site is a disk image of which a state replaces slots, roots and state partition.
// Everything else, as the data partition, comes from the image.
type Site struct {
	Image      string
	Name, Arch string // of the appliance
	Layout     partition.Layout
}

// NewSite looks at an image.
func NewSite(image, name, arch string) (Site, error) {
	f, err := os.Open(image)
	if err != nil {
		return Site{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Site{}, err
	}
	l, err := partition.Read(f, info.Size())
	return Site{image, name, arch, l}, err
}

// areas are the partitions that a state has.
var areas = map[string]powercut.Area{
	partition.SlotA: powercut.SlotA, partition.SlotB: powercut.SlotB,
	partition.RootA: powercut.RootA, partition.RootB: powercut.RootB, partition.State: powercut.StateArea,
}

// Put writes the disk of a state over a copy of the image. It is a hook of
// qemu.Machine.
func (s Site) Put(st powercut.State) func(disk *os.File) error {
	return func(disk *os.File) error {
		for role, area := range areas {
			p, ok := s.Layout.Part(role)
			if !ok {
				continue
			}
			if err := copyArea(p.Window(disk), p.Section(disk), st.Part(area), p.Size); err != nil {
				return fmt.Errorf("write %s: %w", role, err)
			}
		}
		return nil
	}
}

// copyArea writes what differs, so that the file keeps its holes.
func copyArea(w io.WriterAt, old io.ReaderAt, from powercut.Part, size int64) error {
	want, have := make([]byte, 1<<20), make([]byte, 1<<20)
	size = min(size, from.Size())
	for off := int64(0); off < size; off += int64(len(want)) {
		n := min(int64(len(want)), size-off)
		if _, err := from.ReadAt(want[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := old.ReadAt(have[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if string(want[:n]) == string(have[:n]) {
			continue
		}
		if _, err := w.WriteAt(want[:n], off); err != nil {
			return err
		}
	}
	return nil
}

// firstEntry is the number of slot a's boot entry, as package rig has it.
const firstEntry = 0x10

// Vars returns the variable store of a state: a hook of qemu.Machine.
func (s Site) Vars(v powercut.Vars) func(flash []byte) ([]byte, error) {
	return func(flash []byte) ([]byte, error) {
		store, err := varstore.Open(flash)
		if err != nil || !v.Entries {
			return flash, err
		}
		set := func(name string, data []byte) {
			err = errors.Join(err, store.Set(varstore.Variable{Name: name, GUID: efivar.Global, Attributes: efivar.BootAttributes, Data: data}))
		}
		number := map[slot.Slot]uint16{slot.A: firstEntry, slot.B: firstEntry + 1}
		for x, n := range number {
			p, ok := s.Layout.Part(x.Role())
			if !ok {
				return nil, fmt.Errorf("write boot entry: the image has no partition %s", x.Role())
			}
			option, optionErr := boot.SlotOption(s.Arch, s.Name, x.Role(), rig.HD(p, s.Layout.SectorSize)).MarshalBinary()
			err = errors.Join(err, optionErr)
			set(efivar.BootName(n), option)
		}
		order := []uint16{number[v.Order[0]], number[v.Order[1]]}
		if esp, ok := s.Layout.Part(partition.ESP); ok && v.Spare {
			option, optionErr := boot.ESPOptions(s.Arch, s.Name, rig.HD(esp, s.Layout.SectorSize), nil)[0].MarshalBinary()
			err = errors.Join(err, optionErr)
			order = append(order, firstEntry+2)
			set(efivar.BootName(firstEntry+2), option)
		}
		set(efivar.BootOrder, efivar.MarshalOrder(order...))
		if v.Next != slot.None {
			set(efivar.BootNext, efivar.MarshalOrder(number[v.Next]))
		}
		return store.Bytes(), err
	}
}

// Start powers a machine on in a state. m says what else is special about it.
func (s Site) Start(ctx context.Context, st powercut.State, m qemu.Machine) (*qemu.VM, error) {
	m.Arch, m.Image, m.State, m.Vars = s.Arch, s.Image, s.Put(st), s.Vars(st.Vars())
	return qemu.Start(ctx, m)
}
