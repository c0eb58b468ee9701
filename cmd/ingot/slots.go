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
	Log bool `xor:"do" help:"Print the log of the last boot that failed and left one, instead."`
}

// slotFlags are what slots and why share.
type slotFlags struct {
	Target string `arg:"" optional:"" help:"Disk, disk image, image set or host (default: the only disk of this machine with ingot's partitions). What exists as a file or has a slash is no host."`
	Vars   string `help:"Variable store of the firmware, as OVMF has it (default: what ingot run --disk keeps beside the disk, or this machine's own)." placeholder:"FILE" type:"existingfile"`
	Quick  bool   `help:"Do not read all bytes of the slots to compare their digests."`
}

// Run shows slots, versions, journal and boot entries.
func (c *slotsCmd) Run(v *verb) error {
	switch host := c.isHost(); {
	case host && c.Log:
		return hostLog(v, c.Target, &c.hostFlags)
	case host:
		return hostSlots(v, c.Target, &c.slotsHostFlags)
	}
	if err := c.onlyHosts(); err != nil {
		return err
	}
	if c.Log {
		return c.diskLog(v)
	}
	view, err := c.look(v)
	if err != nil {
		return err
	}
	return v.ui.SlotDisk(view)
}

// diskLog prints the log of the last boot from the disk that failed.
func (f *slotFlags) diskLog(v *verb) error {
	d, err := f.open()
	if err != nil {
		return err
	}
	defer d.Close()
	log, err := d.FailedLog()
	if err != nil {
		return err
	}
	return v.ui.Log(log)
}

// isHost tells a host from a disk: a path exists or has a slash.
func (f *slotFlags) isHost() bool {
	if f.Target == "" || strings.Contains(f.Target, "/") {
		return false
	}
	_, err := os.Lstat(f.Target)
	return errors.Is(err, fs.ErrNotExist)
}

// open opens the disk that is meant.
func (f *slotFlags) open() (*slotdisk.Disk, error) {
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
	return d, nil
}

// look reads its slots.
func (f *slotFlags) look(v *verb) (*slotdisk.View, error) {
	d, err := f.open()
	if err != nil {
		return nil, err
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
