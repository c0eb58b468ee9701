package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/slotdisk"
	"github.com/ingot-os/ingot/internal/stick"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/partition/flash"
)

// usbUpdate is ingot update --usb: a release for machines without a network.
type usbUpdate struct {
	target string // device, disk file or directory
	image  string // image set
	yes    bool   // the device is meant, even when it is not removable
}

// usbResult is what was written where.
type usbResult struct {
	Target string        `json:"target"`
	Folder string        `json:"folder"`
	Files  []stick.File  `json:"files"`
	Flash  *flash.Result `json:"flash,omitempty"` // of a device
}

func (c usbUpdate) run(v *verb) error {
	info, err := os.Stat(c.target)
	fresh := c.mayMake(err)
	if err != nil && !fresh {
		return &ui.Error{Err: err, Hint: "name a stick such as /dev/sdb, or the directory where one is mounted"}
	}
	write := flashCmd{Image: c.image, Device: c.target, Yes: c.yes}
	var o flash.Options
	o.Progress = func(done, total int64) { v.ui.Progress("write", done, total, done == total) }
	dir := !fresh && info.IsDir()
	if !fresh && !dir { // ask before a minute of work
		if err := write.confirm(v, &o); err != nil {
			return err
		}
		if err := c.mayWrite(o); err != nil {
			return write.explain(v, err)
		}
	}
	f, err := stick.Prepare(v.ctx, c.image, func(done, total int64) { v.ui.Progress("compress", done, total, done == total) })
	if err != nil {
		return c.explain(err)
	}
	defer f.Close()
	r := usbResult{Target: c.target, Folder: f.Name, Files: f.Files}
	if dir {
		if err := f.CopyTo(c.target); err != nil {
			return err
		}
		return r.print(v, filepath.Join(c.target, f.Name))
	}
	if fresh {
		if err := f.NewImage(c.target); err != nil {
			return err
		}
	}
	res, err := f.Flash(v.ctx, c.target, o)
	if err != nil {
		return write.explain(v, err)
	}
	r.Flash = &res
	return r.print(v, res.Device.String())
}

// mayMake says whether the target is a file that can be made: the disk of a virtual
// machine, or an image for other programs. In /dev nothing is made.
func (c usbUpdate) mayMake(missing error) bool {
	if !errors.Is(missing, fs.ErrNotExist) || strings.HasPrefix(c.target, "/dev/") || strings.HasSuffix(c.target, "/") {
		return false
	}
	parent, err := os.Stat(filepath.Dir(c.target))
	return err == nil && parent.IsDir()
}

// mayWrite refuses the device before anything is prepared for it.
func (c usbUpdate) mayWrite(o flash.Options) error {
	d, err := flash.Probe(c.target)
	if err != nil {
		return err
	}
	return flash.Check(d, 0, o.Confirm)
}

func (c usbUpdate) explain(err error) error {
	var differs *stick.DiffersError
	var foreign *slotdisk.NoDiskError
	switch {
	case errors.Is(err, stick.ErrUnsigned):
		return &ui.Error{Code: ui.CodeRefused, Err: err, Hint: "no machine takes it: ingot build --keys DIR, or ingot sign"}
	case errors.As(err, &differs):
		return &ui.Error{Code: ui.CodeRefused, Err: err, Hint: "ingot verify says what differs; build the set again"}
	case errors.As(err, &foreign):
		return &ui.Error{Code: ui.CodeRefused, Err: err, Hint: foreign.Hint()}
	case errors.Is(err, fs.ErrNotExist):
		return &ui.Error{Err: err, Hint: "--image names an image set: OUT/NAME-VERSION as ingot build prints it, with its " + release.EnvelopeName}
	}
	return err
}

func (r usbResult) print(v *verb, where string) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(r)
	}
	var size int64
	for _, f := range r.Files {
		size += f.Size
	}
	if err := v.ui.Print("%s: %s, %s", where, r.Folder, ui.Size(size)); err != nil {
		return err
	}
	next(v, "plug it into a machine whose recipe says update: {usb: true}, then: ingot why HOST")
	return nil
}
