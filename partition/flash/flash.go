// Package flash writes a disk image to a real block device, or to the file that
// is the disk of a virtual machine, with all guard rails.
//
// The order of work decides what an interruption leaves behind. First the
// places of both partition table copies are zeroed, so that the device looks
// empty to every firmware; then the partitions are written and read back; only
// then come the backup and the primary table, each flushed and read back. A
// flash that was cut, or that met a medium which returns other bytes than it
// was given, has no partition table and does not boot. Running it again starts
// from the beginning and is always right.
//
// The image's table is converted, never copied: for the device's logical
// sector size, with the backup copy at the device's end, data grown to it, and
// with Rekey ids of this one machine. Holes and zeros of the image are not
// written but zeroed by the kernel (BLKZEROOUT, or punched holes of a file) and
// read back like everything else. Data behind the image's own end is left as
// it is.
//
// A compressed image is decompressed on the way, on all processors and a few
// frames ahead; each frame is compared with the block map before a byte of it
// is written.
//
// Probe collects facts about a device, Check decides on them, Write does both
// and then the work. Linux only.
package flash

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ingot-os/ingot/partition"
)

// Options say how to flash. The zero value writes the image as it is to
// removable media or a file.
type Options struct {
	Confirm Confirm // needed for devices that are not removable
	// SectorSize of a target that is a file, in bytes; 0 = the image's. A
	// block device's own always counts.
	SectorSize  int
	MachineYAML []byte // put on the state partition when not nil; the caller has checked it
	Rekey       bool   // give disk and partitions GUIDs derived from HostID
	HostID      string // empty = the device's WWID or serial number
	// Progress is told how much of the work is done, in bytes; writing and
	// reading back count alike, so total is twice what is written.
	Progress func(done, total int64)
	// Probe replaces the function Probe in tests.
	Probe func(path string) (Device, error)
}

// Result is what was done.
type Result struct {
	Device   Device           `json:"device"`
	Layout   partition.Layout `json:"layout"`           // as it is on the device now
	Written  int64            `json:"written"`          // bytes of data written
	Zeroed   int64            `json:"zeroed"`           // bytes zeroed without being sent
	Verified int64            `json:"verified"`         // bytes read back and compared: all of them
	Direct   bool             `json:"direct"`           // read back past the page cache
	Reread   bool             `json:"reread"`           // the kernel shows the new partitions
	HostID   string           `json:"hostID,omitempty"` // that the GUIDs derive from, with Rekey
}

// Write flashes the image file to the device: a raw image, or one in compressed
// frames (package frames) whose block map lies beside it. Nothing is written when the
// error is a *RefusedError. From the first byte that is written on, every error
// is wrapped in an *UnfinishedError; a *MismatchError in it means that the
// device returned other bytes than it was given.
func Write(ctx context.Context, image, device string, o Options) (Result, error) {
	f, err := os.Open(image)
	if err != nil {
		return Result{}, fmt.Errorf("open image: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Result{}, fmt.Errorf("open image: %w", err)
	}
	src, err := openSource(f)
	if err != nil {
		return Result{}, err
	}
	l, err := imageLayout(src, f.Name())
	if err != nil {
		return Result{}, refuseDamaged(image, err)
	}
	d, err := admit(info, device, l, &o)
	if err != nil {
		return Result{}, err
	}
	p, err := makePlan(src, l, d, o)
	if err != nil {
		return Result{}, refuseDamaged(image, err)
	}
	res := Result{Device: d, Layout: p.layout}
	if o.Rekey {
		res.HostID = o.HostID
	}
	err = carryOut(ctx, p, d, o.Progress, &res)
	return res, err
}

// admit probes the device, checks it and fills what options leave to it.
func admit(image os.FileInfo, device string, l partition.Layout, o *Options) (Device, error) {
	probe := o.Probe
	if probe == nil {
		probe = Probe
	}
	d, err := probe(device)
	if err != nil {
		return d, err
	}
	if info, err := os.Stat(device); err == nil && os.SameFile(info, image) {
		return d, &RefusedError{device, []Refusal{{Held, "it is the image itself", ""}}}
	}
	if d.Kind == File {
		d.SectorSize = o.SectorSize
	}
	need := l.Parts[len(l.Parts)-1].End() + mib // the image file may have been made longer
	if err := Check(d, need, o.Confirm); err != nil {
		return d, err
	}
	if o.HostID == "" {
		o.HostID = d.ID
	}
	if o.Rekey && o.HostID == "" {
		return d, fmt.Errorf("rekey %s: it has no serial number to derive ids from, name a host id", device)
	}
	return d, nil
}

// carryOut writes and reads back, in the order of the package comment.
func carryOut(ctx context.Context, p plan, d Device, progress func(done, total int64), res *Result) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := openDisk(d)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, w.f.Close()); err != nil {
			err = &UnfinishedError{d.Path, err}
		}
	}()
	job := &job{w: w, layout: p.layout, buf: aligned(chunk), back: aligned(chunk), res: res, report: progress, total: 2 * p.bytes()}
	if err := job.erase(p.head, p.tail); err != nil {
		return err
	}
	if err := job.write(ctx, p.body...); err != nil {
		return err
	}
	if err := job.verify(ctx, d, p.body...); err != nil {
		return err
	}
	if err := p.unchanged(); err != nil {
		return err
	}
	for _, table := range []piece{p.tail, p.head} {
		if err := job.write(ctx, table); err != nil {
			return err
		}
	}
	if err := job.verify(ctx, d, p.tail, p.head); err != nil {
		return err
	}
	res.Reread = w.rereadTable()
	return nil
}
