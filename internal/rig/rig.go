// Package rig prepares a virtual machine for an image set: the boot entries
// that a selector would make are written into the variable store beforehand,
// so a run is one boot (S1), and machine.yaml is put on the state partition of
// the throwaway disk. The image itself is never changed.
package rig

import (
	"fmt"
	"os"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/state"
)

// firstEntry is the number of slot A's boot entry; the others follow. The
// firmware fills the low numbers by itself.
const firstEntry = 0x10

// Vars returns the hook that writes the boot entries of both slots, of the
// selector's spare copy and of the recipe, and their order, into a copy of the
// firmware's variable store; nil when the appliance's own boot loader picks the
// slot.
func Vars(set *release.Set, spec *appliance.Spec) func([]byte) ([]byte, error) {
	if spec.Boot.Loader != "" && spec.Boot.Loader != "firmware" {
		return nil
	}
	return func(flash []byte) ([]byte, error) {
		l, err := layout(set.Image())
		if err != nil {
			return nil, err
		}
		s, err := varstore.Open(flash)
		if err != nil {
			return nil, err
		}
		options, err := bootOptions(spec, l)
		if err != nil {
			return nil, err
		}
		var order []uint16
		for i, o := range options {
			data, err := o.MarshalBinary()
			if err != nil {
				return nil, err
			}
			order = append(order, uint16(firstEntry+i))
			if err := s.Set(variable(efivar.BootName(order[i]), data)); err != nil {
				return nil, err
			}
		}
		if err := s.Set(variable(efivar.BootOrder, efivar.MarshalOrder(order...))); err != nil {
			return nil, err
		}
		return s.Bytes(), nil
	}
}

// bootOptions are slot A, slot B and those of the ESP, in order.
func bootOptions(spec *appliance.Spec, l partition.Layout) ([]efivar.LoadOption, error) {
	var out []efivar.LoadOption
	for _, role := range []string{partition.SlotA, partition.SlotB} {
		p, ok := l.Part(role)
		if !ok {
			return nil, fmt.Errorf("write boot entry: the image has no partition %s", role)
		}
		out = append(out, boot.SlotOption(spec.Arch, spec.Name, role, HD(p, l.SectorSize)))
	}
	esp, ok := l.Part(partition.ESP)
	if !ok {
		return nil, fmt.Errorf("write boot entry: the image has no partition %s", partition.ESP)
	}
	hd := HD(esp, l.SectorSize)
	var programs []efivar.LoadOption
	for _, e := range spec.Boot.Entries {
		programs = append(programs, efivar.SlotEntry(hd, e.EFI, e.Title, nil))
	}
	return append(out, boot.ESPOptions(spec.Arch, spec.Name, hd, programs)...), nil
}

func layout(image string) (partition.Layout, error) {
	f, err := os.Open(image)
	if err != nil {
		return partition.Layout{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return partition.Layout{}, err
	}
	return partition.Read(f, info.Size())
}

// HD is a partition as a device path names it: in logical sectors.
func HD(p partition.Part, sectorSize int) efivar.HDPartition {
	sector := uint64(sectorSize)
	return efivar.HDPartition{Number: uint32(p.Index), Start: uint64(p.Start) / sector, Size: uint64(p.Size) / sector, GUID: p.GUID}
}

func variable(name string, data []byte) varstore.Variable {
	return varstore.Variable{Name: name, GUID: efivar.Global, Attributes: efivar.BootAttributes, Data: data}
}

// State returns the hook that puts machine.yaml on the state partition of a
// disk; nil when there is nothing to put.
func State(machineYAML []byte) func(*os.File) error {
	if machineYAML == nil {
		return nil
	}
	return func(disk *os.File) error {
		info, err := disk.Stat()
		if err != nil {
			return err
		}
		l, err := partition.Read(disk, info.Size())
		if err != nil {
			return err
		}
		p, ok := l.Part(partition.State)
		if !ok {
			return fmt.Errorf("write machine.yaml: the disk has no partition %s", partition.State)
		}
		return state.Store(window{disk, p}, state.Machine, machineYAML)
	}
}

// window is one partition of a disk, readable and writable from offset 0.
type window struct {
	disk *os.File
	part partition.Part
}

// ReadAt implements io.ReaderAt.
func (w window) ReadAt(b []byte, off int64) (int, error) {
	return w.part.Section(w.disk).ReadAt(b, off)
}

// WriteAt implements io.WriterAt.
func (w window) WriteAt(b []byte, off int64) (int, error) {
	return w.part.Window(w.disk).WriteAt(b, off)
}

// Sync implements state.Syncer.
func (w window) Sync() error { return w.disk.Sync() }
