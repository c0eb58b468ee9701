package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/ingot-os/ingot/internal/slotdisk"
	"github.com/ingot-os/ingot/internal/ui"
)

type slotsCmd struct {
	slotFlags
	slotsHostFlags
}

// slotFlags are what slots and why share.
type slotFlags struct {
	Target string `arg:"" optional:"" help:"Disk, disk image, image set or host (default: the only disk of this machine with ingot's partitions). What exists as a file or has a slash is no host."`
	Vars   string `help:"Variable store of the firmware, as OVMF has it (default: what ingot run --disk keeps beside the disk, or this machine's own)." placeholder:"FILE" type:"existingfile"`
	Quick  bool   `help:"Do not read all bytes of the slots to compare their digests."`
}

// Run shows slots, versions, journal and boot entries.
func (c *slotsCmd) Run(v *verb) error {
	if c.isHost() {
		return hostSlots(v, c.Target, &c.slotsHostFlags)
	}
	if err := c.onlyHosts(); err != nil {
		return err
	}
	view, err := c.look(v)
	if err != nil {
		return err
	}
	return v.ui.SlotDisk(view)
}

// isHost tells a host from a disk: a path exists or has a slash.
func (f *slotFlags) isHost() bool {
	if f.Target == "" || strings.Contains(f.Target, "/") {
		return false
	}
	_, err := os.Lstat(f.Target)
	return errors.Is(err, fs.ErrNotExist)
}

// look reads the slots of the disk that is meant.
func (f *slotFlags) look(v *verb) (*slotdisk.View, error) {
	path := f.Target
	if path == "" {
		var err error
		if path, err = slotdisk.Find(); err != nil {
			return nil, err
		}
	}
	d, err := slotdisk.Open(path)
	if err != nil {
		return nil, explainDisk(path, err)
	}
	defer d.Close()
	o := slotdisk.Options{Quick: f.Quick}
	if o.Variables, err = f.variables(d); err != nil {
		return nil, err
	}
	defer o.Variables.Close()
	view, err := abandon(v.ctx, func() (slotdisk.View, error) { return d.View(o), nil })
	return &view, err
}

func (f *slotFlags) variables(d *slotdisk.Disk) (*slotdisk.Variables, error) {
	if f.Vars != "" {
		return slotdisk.LoadVariables(f.Vars)
	}
	return d.VariablesBeside()
}

func explainDisk(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &ui.Error{Err: err, Hint: "reading " + path + " needs root: sudo, or a group that may"}
	case errors.Is(err, fs.ErrNotExist):
		return &ui.Error{Err: err, Hint: "name a disk, a disk image, an image set or a host"}
	}
	return noArtifact(err)
}
