package slotdisk

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/agent/nvram"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Variables are the firmware's, of a running machine or out of a file.
type Variables struct {
	From  string // file or directory
	store nvram.Store
	temp  string
}

// maxStore bounds a variable store in bytes; flash chips have at most 64 MiB.
const maxStore = 64 << 20

// LoadVariables reads a variable store of OVMF or AAVMF, as ingot run --disk
// keeps it in DISK.machine/vars.fd.
func LoadVariables(path string) (*Variables, error) {
	data, err := regular.Read(path, maxStore)
	if err != nil {
		return nil, fmt.Errorf("read variables: %w", err)
	}
	store, err := varstore.Open(data)
	if err != nil {
		return nil, fmt.Errorf("read variables of %s: %w", path, err)
	}
	// As the files of efivarfs, so that one reader does for both.
	dir, err := os.MkdirTemp("", "ingot-variables-")
	if err != nil {
		return nil, err
	}
	v := &Variables{From: path, store: nvram.Store{Dir: dir}, temp: dir}
	for _, x := range store.List() {
		if x.GUID != efivar.Global || !strings.HasPrefix(x.Name, "Boot") || strings.ContainsAny(x.Name, "/\x00") {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, efivar.FileName(x.Name, x.GUID)), efivar.MarshalFile(x.Attributes, x.Data), 0o600); err != nil {
			return nil, errors.Join(err, v.Close())
		}
	}
	return v, nil
}

// VariablesBeside finds the variables that belong to a disk: those of the virtual
// machine whose disk it is, or those of this machine when it was started from the
// disk. Nil without an error means that there are none.
func (d *Disk) VariablesBeside() (*Variables, error) {
	beside := filepath.Join(d.Path+".machine", "vars.fd")
	if _, err := os.Stat(beside); err == nil {
		return LoadVariables(beside)
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir) {
		return nil, err
	}
	if v := thisMachine(); d.running(v) != slot.None {
		return v, nil
	}
	return nil, nil
}

func thisMachine() *Variables { return &Variables{From: nvram.Dir, store: nvram.Store{Dir: nvram.Dir}} }

// Close removes what LoadVariables has made.
func (v *Variables) Close() error {
	if v == nil || v.temp == "" {
		return nil
	}
	return os.RemoveAll(v.temp)
}

// running is the slot that this machine was started from, by the stub's word
// (StubDevicePartUUID, which stubs before version 257 do not set; a boot loader in
// front of them sets LoaderDevicePartUUID to its own partition).
func (d *Disk) running(v *Variables) slot.Slot {
	id, err := gpt.ParseGUID(cmp.Or(v.store.Text("StubDevicePartUUID"), v.store.Text("LoaderDevicePartUUID")))
	if err != nil {
		return slot.None
	}
	for _, x := range letters {
		if p, ok := d.Layout.Part(x.Role()); ok && p.GUID == id {
			return x
		}
	}
	return slot.None
}

// firmware sees the variables as the machine's own actuator does.
func (d *Disk) firmware(v *Variables, arch string) slots.Firmware {
	f := slots.Firmware{Vars: v.store}
	for _, x := range letters {
		p, _ := d.Layout.Part(x.Role())
		sector := int64(d.Layout.SectorSize)
		hd := efivar.HDPartition{Number: uint32(p.Index), Start: uint64(p.Start / sector), Size: uint64(p.Size / sector), GUID: p.GUID}
		f.Entries = append(f.Entries, nvram.Entry{Role: p.Role, Option: boot.SlotOption(arch, "", p.Role, hd)})
	}
	return f
}

var letters = [2]slot.Slot{slot.A, slot.B}

func rootRole(x slot.Slot) string {
	if x == slot.B {
		return partition.RootB
	}
	return partition.RootA
}
