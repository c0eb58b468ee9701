package main

import (
	"errors"
	"fmt"
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

// mediumHint says what --usb takes.
const mediumHint = "name a stick such as /dev/sdb, the directory where one is mounted, or, for a disk image to be made, a name that ends in .img"

// usbResult is what was written where.
type usbResult struct {
	Target string        `json:"target"`
	Folder string        `json:"folder"`
	Files  []stick.File  `json:"files"`
	Flash  *flash.Result `json:"flash,omitempty"` // of a device
	Made   bool          `json:"made,omitempty"`  // Target is a disk image that was not there before
}

func (c usbUpdate) run(v *verb) error {
	info, err := os.Stat(c.target)
	fresh := c.mayMake(err)
	if err != nil && !fresh {
		return &ui.Error{Err: err, Hint: mediumHint}
	}
	if !fresh && !info.IsDir() && !info.Mode().IsRegular() && info.Mode().Type() != os.ModeDevice {
		return &ui.Error{Err: fmt.Errorf("write %s: neither a block device, nor a directory, nor a file", c.target), Hint: mediumHint}
	}
	write := flashCmd{Image: c.image, Device: c.target, Yes: c.yes}
	var o flash.Options
	o.Progress = func(done, total int64) { v.ui.Progress("write", done, total, done == total) }
	dir := !fresh && info.IsDir()
	if dir {
		if err := c.noSet(); err != nil {
			return err
		}
	}
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
	r.Flash, r.Made = &res, fresh
	return r.print(v, res.Device.String())
}

// mayMake says whether the target is a file that can be made: the disk of a virtual
// machine, or an image for other programs. Its name has to say so, because the place
// where a stick is mounted is easily mistyped. In /dev nothing is made.
func (c usbUpdate) mayMake(missing error) bool {
	if !errors.Is(missing, fs.ErrNotExist) || strings.HasPrefix(c.target, "/dev/") || !strings.HasSuffix(c.target, ".img") {
		return false
	}
	parent, err := os.Stat(filepath.Dir(c.target))
	return err == nil && parent.IsDir()
}

// noSet refuses the folder of an image set: a stick is meant, and not a release.
func (c usbUpdate) noSet() error {
	for _, name := range []string{release.ManifestName, release.EnvelopeName} {
		if _, err := os.Lstat(filepath.Join(c.target, name)); err == nil {
			return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("write %s: it holds a %s, so it is a release and no stick", c.target, name), Hint: "--usb names the stick, --image the release; a stick has its releases in folders of their own"}
		}
	}
	return nil
}

// mayWrite refuses the device before anything is prepared for it.
func (c usbUpdate) mayWrite(o flash.Options) error {
	d, err := flash.Probe(c.target)
	switch {
	case err != nil:
		return err
	case d.Kind == flash.File && d.Size == 0:
		return &ui.Error{Err: fmt.Errorf("write %s: the file has 0 bytes", c.target), Hint: "remove it, and a disk image as large as is needed is made under a name that ends in .img; or give it a size: truncate -s 4G " + c.target}
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
	}
	return noSet(err)
}

func (r usbResult) print(v *verb, where string) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(r)
	}
	var size int64
	for _, f := range r.Files {
		size += f.Size
	}
	made := ""
	if r.Made {
		made = "made a disk image: "
	}
	if err := v.ui.Print("%s: %s%s, %s", where, made, r.Folder, ui.Size(size)); err != nil {
		return err
	}
	next(v, "plug it into a machine whose recipe says update: {usb: true}, then: ingot why HOST")
	return nil
}
