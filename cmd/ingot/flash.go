package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/ingot-os/ingot/internal/machine"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/partition/blockmap"
	"github.com/ingot-os/ingot/partition/flash"
	"github.com/ingot-os/ingot/partition/frames"
)

type flashCmd struct {
	Image   string `arg:"" help:"Image set directory, .img or .img.zst file." type:"path"`
	Device  string `arg:"" help:"Whole disk such as /dev/sdb, or the disk file of a virtual machine." type:"path"`
	Yes     bool   `help:"DEVICE is meant exactly as written; do not ask, even when it is not removable."`
	Machine string `help:"machine.yaml to put on the state partition." type:"existingfile"`
	Rekey   bool   `help:"Give disk and partitions GUIDs of this one machine."`
	HostID  string `help:"What --rekey derives the GUIDs from (default: the device's WWID or serial number)."`
}

// Run writes the image and reads every byte back.
func (c *flashCmd) Run(v *verb) error {
	image, err := imagePath(c.Image)
	if err != nil {
		return err
	}
	o := flash.Options{
		Rekey: c.Rekey, HostID: c.HostID,
		Progress: func(done, total int64) { v.ui.Progress("flash", done, total, done == total) },
	}
	if o.MachineYAML, err = readMachine(c.Machine); err != nil {
		return err
	}
	if err := c.confirm(v, &o); err != nil {
		return err
	}
	res, err := flash.Write(v.ctx, image, c.Device, o)
	if err != nil {
		return c.explain(v, err)
	}
	if v.ui.JSON {
		return v.ui.PrintJSON(res)
	}
	return v.ui.Print("%s: wrote %s, zeroed %s, read back %s", res.Device, ui.Size(res.Written), ui.Size(res.Zeroed), ui.Size(res.Verified))
}

// confirm asks for the name of a disk that is not removable media, unless
// --yes says that it is meant.
func (c *flashCmd) confirm(v *verb, o *flash.Options) error {
	if c.Yes {
		o.Confirm.Device = c.Device
		return nil
	}
	d, err := flash.Probe(c.Device)
	if err != nil {
		return c.explain(v, err)
	}
	o.Confirm.Seen = &d
	if d.Removable || d.Kind == flash.File || !v.ui.Terminal {
		return nil // flash.Check refuses what needs a word that nobody gave
	}
	v.ui.Say("this erases %s", d)
	fmt.Fprintf(v.env.Stderr, "type its name to go on: ")
	o.Confirm.Device, err = readLine(v)
	return err
}

// readLine reads one line from standard input, and ends when the operator
// interrupts: a read of a terminal cannot be called off.
func readLine(v *verb) (string, error) {
	in := bufio.NewReader(v.env.Stdin)
	line, err := abandon(v.ctx, func() (string, error) { return in.ReadString('\n') })
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(v.env.Stderr) // the words that follow begin a line
		return "", err
	case err != nil:
		return "", fmt.Errorf("read confirmation: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// explain gives a refused device and a bad medium the exit code for "a
// verification says no", and what happened to the device its words.
func (c *flashCmd) explain(v *verb, err error) error {
	var refused *flash.RefusedError
	var mismatch *flash.MismatchError
	var unfinished *flash.UnfinishedError
	switch {
	case flash.Refused(err, flash.NotRemovable) && errors.As(err, &refused) && len(refused.Refusals) == 1:
		return &ui.Error{Code: ui.CodeRefused, Err: err, Hint: "add --yes when " + c.Device + " is the disk to erase"}
	case errors.As(err, &refused), errors.As(err, &mismatch), errors.Is(err, blockmap.ErrMismatch), errors.Is(err, frames.ErrDamaged):
		return &ui.Error{Code: ui.CodeRefused, Err: err}
	case errors.Is(err, context.Canceled) && errors.As(err, &unfinished):
		v.ui.Warn("%s is not finished: %s", c.Device, unfinished.Hint())
	case errors.Is(err, fs.ErrPermission):
		return &ui.Error{Err: err, Hint: "writing " + c.Device + " needs root: sudo, or a group that may"}
	case errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(c.Device, "/dev/"):
		return &ui.Error{Err: err, Hint: "name a disk, or make a file to write to: truncate -s 4G " + c.Device}
	}
	return err
}

// imagePath takes an image set directory or a file.
func imagePath(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return path, nil
	}
	set, err := openSet(path)
	if err != nil {
		return "", err
	}
	return set.Image(), nil
}

// readMachine reads and checks a machine.yaml; nil without a path.
func readMachine(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read machine configuration: %w", err)
	}
	if _, err := machine.Parse(path, data); err != nil {
		return nil, err
	}
	return data, nil
}
