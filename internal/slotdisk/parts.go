package slotdisk

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/state"
)

// Parts are what an update writes, out of an image set, a disk or the image of
// a slot.
type Parts struct {
	Path          string // as it was named
	Name, Version string // of the appliance
	Arch          string
	Layout        string // of the disk; empty for the image of a slot
	From          slot.Slot
	Slot, Root    *io.SectionReader // Root is nil when there is none
	// SlotSHA256 and RootSHA256 are what the manifest of an image set says, in
	// hex; empty elsewhere.
	SlotSHA256, RootSHA256 string

	closer io.Closer
}

// Close closes the file.
func (p *Parts) Close() error { return p.closer.Close() }

// OpenParts opens what an update would write: of an image set its slot, of a disk
// the good slot, of the image of a slot that.
func OpenParts(path string) (*Parts, error) {
	d, err := Open(path)
	if err == nil {
		return d.parts(path)
	}
	var foreign *NoDiskError
	if !errors.As(err, &foreign) {
		return nil, err
	}
	f, size, ferr := openFile(foreign.Path)
	if ferr != nil {
		return nil, ferr
	}
	p := &Parts{Path: path, Slot: io.NewSectionReader(f, 0, size), closer: f}
	if p.describe() != nil { // neither a disk nor a slot: the first error tells more
		f.Close()
		return nil, err
	}
	return p, nil
}

func (d *Disk) parts(path string) (*Parts, error) {
	p := &Parts{Path: path, Layout: d.Layout.ID, From: d.good(), closer: d}
	p.Slot, p.Root = d.Part(p.From.Role()), d.Part(rootRole(p.From))
	err := p.describe()
	if err != nil {
		err = fmt.Errorf("read %s of %s: %w", p.From.Role(), d.Path, err)
	} else {
		err = p.manifest()
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return p, nil
}

// good is the good slot by the journal; a as on every disk that has not started.
func (d *Disk) good() slot.Slot {
	payload, _, err := state.Load(d.Part(partition.State), state.Journal)
	if err != nil {
		return slot.A
	}
	return slot.GoodOf(payload)
}

// describe reads name and version from the boot file.
func (p *Parts) describe() error {
	spec, err := Spec(p.Slot, p.Slot.Size())
	if err != nil {
		return err
	}
	p.Name, p.Version, p.Arch = spec.Name, spec.Version, spec.Arch
	p.Layout = cmp.Or(p.Layout, spec.Layout.ID)
	return nil
}

// manifest adds the digests of an image set.
func (p *Parts) manifest() error {
	set, err := release.Open(p.Path)
	if err != nil {
		return nil // a file: it has no manifest
	}
	if set.Manifest.Name != p.Name || set.Manifest.Version != p.Version {
		return fmt.Errorf("read %s: the manifest is of %s, the image holds %s-%s", p.Path, set.Manifest.Stem(), p.Name, p.Version)
	}
	for _, part := range set.Manifest.Disk.Partitions {
		switch part.Role {
		case partition.SlotA:
			p.SlotSHA256 = part.SHA256
		case partition.RootA:
			p.RootSHA256 = part.SHA256
		}
	}
	return nil
}
