// Package slotdisk reads the slots of a disk from outside: of an image, of the
// disk of a virtual machine, of a device, or of the machine that it runs on. It
// writes nothing.
//
//	d, err := slotdisk.Open(path)
//	view := d.View(slotdisk.Options{Variables: vars})   // slots, journal, boot entries, why
//	part, name, err := slotdisk.OpenPart(path, "slot")  // for a delta
package slotdisk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Disk is an open disk with ingot's partitions.
type Disk struct {
	Path   string // of the file or device
	Layout partition.Layout

	file *os.File
	note error // what is wrong with one copy of the partition table
}

// NoDiskError says that a file or device is not a disk of ingot's.
type NoDiskError struct {
	Path string
	Err  error // wraps gpt.ErrNoTable or partition.ErrForeign
}

// Error implements error.
func (e *NoDiskError) Error() string { return fmt.Sprintf("read slots of %s: %v", e.Path, e.Err) }

// Unwrap gives the cause.
func (e *NoDiskError) Unwrap() error { return e.Err }

// Hint says what to name instead.
func (e *NoDiskError) Hint() string {
	if errors.Is(e.Err, gpt.ErrNoTable) {
		return "name a raw disk image, an image set or a whole disk; qemu-img convert -O raw makes a raw image of other forms"
	}
	return "ingot inspect " + e.Path + " shows the partitions that are there"
}

// Open opens a disk image, a block device, or the image of an image set.
func Open(path string) (*Disk, error) {
	path, err := imageOf(path)
	if err != nil {
		return nil, err
	}
	f, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	d := &Disk{Path: path, file: f}
	t, info, err := gpt.Read(f, size)
	if err == nil {
		d.note = errors.Join(info.Primary, info.Backup)
		d.Layout, err = partition.FromTable(t)
	}
	if err != nil {
		f.Close()
		return nil, &NoDiskError{path, err}
	}
	return d, nil
}

// Close closes the disk.
func (d *Disk) Close() error { return d.file.Close() }

// Part is the partition of a role; nil when the disk has none.
func (d *Disk) Part(role string) *io.SectionReader {
	p, ok := d.Layout.Part(role)
	if !ok {
		return nil
	}
	return p.Section(d.file)
}

// KindError says that a path is neither a file nor a block device.
type KindError struct{ Path string }

// Error implements error.
func (e *KindError) Error() string {
	return fmt.Sprintf("open %s: neither a file nor a block device", e.Path)
}

// Hint says what to name instead.
func (e *KindError) Hint() string { return "name a disk, a disk image, an image set or a host" }

// imageOf is the raw disk of an image set, or the path itself.
func imageOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, err
	}
	set, err := release.Open(path)
	if err != nil {
		return "", err
	}
	return set.Image(), nil
}

// openFile opens a file or block device, whose size it finds by seeking.
// Anything else has none: a pipe would wait for a writer for ever.
func openFile(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if m := info.Mode(); !m.IsRegular() && (m&os.ModeDevice == 0 || m&os.ModeCharDevice != 0) {
		return nil, 0, &KindError{path}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}
