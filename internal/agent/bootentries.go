package agent

import (
	"fmt"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/nvram"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/partition/gpt"
)

// place is where a boot.policy has the slots in BootOrder.
func place(policy string) nvram.Place {
	switch policy {
	case "net-first":
		return nvram.BehindNetwork
	case "external":
		return nvram.Kept
	}
	return nvram.First
}

// bootDisk is a disk as boot entries name it: one that was found, or that was just written.
type bootDisk struct {
	node      string
	sector    int // bytes
	partition func(role string) (gpt.Partition, bool)
}

// firmwareSlots are the boot entries of the disk that this system was started from.
func (m *Machine) firmwareSlots() slots.Firmware {
	return m.entriesOf(bootDisk{m.disk.Node, m.disk.Table.SectorSize, m.disk.Partition})
}

func (m *Machine) entriesOf(d bootDisk) slots.Firmware {
	f := slots.Firmware{Vars: m.vars, Extra: m.extraEntries(d), Timeout: m.spec.Boot.Timeout, Place: place(m.spec.Boot.Policy)}
	for _, role := range []string{partSlotA, partSlotB} {
		p, ok := d.partition(role)
		if !ok {
			f.Missing = fmt.Errorf("find partition %s: not on %s", role, d.node)
			return f
		}
		f.Entries = append(f.Entries, nvram.Entry{Role: role, Option: boot.SlotOption(m.spec.Arch, m.spec.Name, role, d.hardDrive(p))})
	}
	return f
}

// extraEntries are those of programs on the ESP: the selector's spare copy, and the
// recipe's.
func (m *Machine) extraEntries(d bootDisk) (out []nvram.Entry) {
	esp, ok := d.partition(partESP)
	if !ok {
		return nil
	}
	hd := d.hardDrive(esp)
	var options []efivar.LoadOption
	for _, e := range m.spec.Boot.Entries {
		options = append(options, efivar.SlotEntry(hd, e.EFI, e.Title, nil))
	}
	if m.spec.Boot.Loader != systemdBoot {
		options = boot.ESPOptions(m.spec.Arch, m.spec.Name, hd, options)
	}
	for _, o := range options {
		out = append(out, nvram.Entry{Role: o.Description, Option: o})
	}
	return out
}

// hardDrive names a partition as a boot entry does: in sectors of the disk.
func (d bootDisk) hardDrive(p gpt.Partition) efivar.HDPartition {
	sector := uint64(d.sector)
	return efivar.HDPartition{Number: uint32(p.Index), Start: uint64(p.Start) / sector, Size: uint64(p.Size) / sector, GUID: p.GUID}
}

// installEntries makes the boot entries of a disk that is being installed. BootNext, too:
// firmware whose order is not ours to change (a management controller's, boot.policy)
// starts the disk once, and its journal then says that it is installed.
func (m *Machine) installEntries(t gpt.Table) error {
	f := m.entriesOf(bootDisk{"the disk", t.SectorSize, func(role string) (gpt.Partition, bool) {
		for _, p := range t.Partitions {
			if p.Name == role {
				return p, true
			}
		}
		return gpt.Partition{}, false
	}})
	if err := f.SetDefault(slot.A, slot.B); err != nil {
		return err
	}
	return f.SetNext(slot.A)
}
