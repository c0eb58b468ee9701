// Package reference makes reference.json of an image set: the measurements
// that each way to boot it will make, for a verifier that has no image.
//
// One document serves both slots, the network and any disk, since all of them
// start the same UKI. That counts the copy on the ESP, which resets the machine
// into a slot: until then it is measured as a boot from disk. PCR 7 is left
// out: a verifier judges its events by the keys that a machine was enrolled
// with, and dbx may grow. So are the ways to boot on which the loader decides
// what the kernel is told.
//
// A reference follows from the UKI, the partition table and, with systemd-boot,
// from the loader on the ESP. Signatures are in none of its digests, and so the
// builder, sign attach and verify make the same document.
//
//	r, err := reference.New(reference.Options{Name: "hello", Version: "1.0.0", UKI: f, UKISize: n, Layout: &l, ESP: files})
//	b, err := reference.Marshal(r)
package reference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/phase"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/measure"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/tree"
)

// FileName is the name of the document in an image set.
const FileName = "reference.json"

// MaxSize bounds in bytes what Parse reads; one of nine paths has 80 kB.
const MaxSize = 4 << 20

// Options are what a reference is made of.
type Options struct {
	Name    string
	Version string
	Epoch   int // security epoch of the release
	UKI     io.ReaderAt
	UKISize int64 // bytes
	// Layout is the disk that the release is written to; nil leaves booting from
	// disk out.
	Layout *partition.Layout
	// ESP are the files of its EFI system partition, where systemd-boot may be.
	ESP   *tree.Tree
	Banks []pcr.Bank // default: SHA-256 and SHA-384
}

// paths are the ways to boot in the order of the document.
var paths = []struct {
	boot       predict.Boot
	secureBoot bool
}{
	{predict.Disk, true}, {predict.Disk, false},
	{predict.PXE, true}, {predict.PXE, false},
	{predict.HTTP, true}, {predict.HTTP, false},
	{predict.IPXE, true}, // without Secure Boot its command line counts, not the image's
	{predict.Kernel, true}, {predict.Kernel, false},
}

// New predicts every way to boot. The error wraps predict.VersionError for a
// stub or a systemd-boot whose measurements are not known.
func New(o Options) (*attest.Reference, error) {
	if len(o.Banks) == 0 {
		o.Banks = []pcr.Bank{pcr.SHA256, pcr.SHA384}
	}
	image, err := predict.Open(o.UKI, o.UKISize, o.Banks...)
	if err != nil {
		return nil, fmt.Errorf("make reference: %w", err)
	}
	disk, layout, err := o.disk()
	if err != nil {
		return nil, fmt.Errorf("make reference: %w", err)
	}
	r := &attest.Reference{Format: attest.ReferenceFormat, Name: o.Name, Version: o.Version, Epoch: int64(o.Epoch), Phases: phase.All()}
	for _, p := range paths {
		if p.boot == predict.Disk && o.Layout == nil {
			continue
		}
		po := predict.Options{Boot: p.boot}
		if p.boot == predict.Disk {
			po = disk
		}
		po.SecureBoot = p.secureBoot
		path, err := path(image, po)
		if err != nil {
			return nil, fmt.Errorf("make reference: boot from %s: %w", p.boot, err)
		}
		if p.boot == predict.Disk {
			path.Layout = layout
		}
		r.Paths = append(r.Paths, path)
	}
	return r, nil
}

// disk is what a boot from the disk adds.
func (o Options) disk() (po predict.Options, l *attest.Layout, err error) {
	if o.Layout == nil {
		return po, nil, nil
	}
	po.Boot = predict.Disk
	if po.Table, err = table(o.Layout); err != nil {
		return po, nil, err
	}
	if o.ESP != nil {
		if po.Loader, po.LoaderConf, err = measure.LoaderIn(o.ESP); err != nil {
			return po, nil, fmt.Errorf("partition %s: %w", partition.ESP, err)
		}
	}
	return po, layout(o.Layout), nil
}

func path(image *predict.Image, po predict.Options) (attest.Path, error) {
	path := attest.Path{Boot: string(po.Boot), SecureBoot: po.SecureBoot, Empty: []int{12}}
	p, err := image.Boot(po)
	if err != nil {
		return path, err
	}
	for _, e := range p.Events {
		path.Events = append(path.Events, attest.Expected{PCR: e.PCR, Type: e.Type, Name: e.Name, Digests: e.Digests})
	}
	return path, nil
}

// layout is the table for a verifier that meets it on another disk.
func layout(p *partition.Layout) *attest.Layout {
	t := p.Table()
	l := &attest.Layout{Disk: t.Disk}
	for _, p := range t.Partitions {
		l.Partitions = append(l.Partitions, attest.LayoutPartition{Type: p.Type, GUID: p.GUID, Start: uint64(p.Start), Size: uint64(p.Size)})
	}
	return l
}

// Marshal gives the document's only encoding: indented JSON with a final
// newline.
func Marshal(r *attest.Reference) ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode reference: %w", err)
	}
	return append(b, '\n'), nil
}

// Parse reads a document and refuses unknown fields, a release without name or
// version, and what has no path.
func Parse(data []byte) (*attest.Reference, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("parse reference: %d bytes, at most %d are read", len(data), MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	r := new(attest.Reference)
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("parse reference: %w", err)
	}
	switch _, err := dec.Token(); {
	case err != io.EOF:
		return nil, errors.New("parse reference: data after the document")
	case r.Format != attest.ReferenceFormat:
		return nil, fmt.Errorf("parse reference: format %.80q, this ingot reads %s", r.Format, attest.ReferenceFormat)
	case r.Name == "" || r.Version == "":
		return nil, errors.New("parse reference: name or version is missing")
	case len(r.Paths) == 0:
		return nil, errors.New("parse reference: paths: none, so nothing could be compared")
	}
	return r, nil
}
