// Package reference makes reference.json of an image set: the measurements
// that each way to boot it will make, for a verifier that has no image.
//
// One document serves both slots, the network and any disk, since all of them
// start the same UKI. PCR 7 is left out: a verifier judges its events by the keys
// that a machine was enrolled with, and dbx may grow. So are the ways to boot on
// which the loader decides what the kernel is told.
//
//	r, err := reference.New(reference.Options{Name: "hello", Version: "1.0.0", UKI: f, UKISize: n, Disk: d, DiskSize: m})
//	b, err := reference.Marshal(r)
package reference

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/measure"
	"github.com/ingot-os/ingot/partition/gpt"
)

// FileName is the name of the document in an image set.
const FileName = "reference.json"

// Options are what a reference is made of. All sizes are in bytes.
type Options struct {
	Name    string
	Version string
	Epoch   int64 // of the manifest
	UKI     io.ReaderAt
	UKISize int64
	// Disk is the raw image; nil leaves booting from disk out.
	Disk     io.ReaderAt
	DiskSize int64
	Banks    []pcr.Bank // default: SHA-256 and SHA-384
	Phases   []string   // words that ingot-init may extend into PCR 11
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

// New predicts every way to boot.
func New(o Options) (*attest.Reference, error) {
	if len(o.Banks) == 0 {
		o.Banks = []pcr.Bank{pcr.SHA256, pcr.SHA384}
	}
	image, err := predict.Open(o.UKI, o.UKISize, o.Banks...)
	if err != nil {
		return nil, fmt.Errorf("make reference: %w", err)
	}
	r := &attest.Reference{Name: o.Name, Version: o.Version, Epoch: o.Epoch, Phases: o.Phases}
	for _, p := range paths {
		if p.boot == predict.Disk && o.Disk == nil {
			continue
		}
		path, err := o.path(image, p.boot, p.secureBoot)
		if err != nil {
			return nil, fmt.Errorf("make reference: %w", err)
		}
		r.Paths = append(r.Paths, path)
	}
	return r, nil
}

func (o Options) path(image *predict.Image, boot predict.Boot, secureBoot bool) (path attest.Path, err error) {
	po := predict.Options{Boot: boot, SecureBoot: secureBoot}
	path = attest.Path{Boot: string(boot), SecureBoot: secureBoot, Empty: []int{12}}
	if boot == predict.Disk {
		if po.Table, err = predict.ReadTable(o.Disk, o.DiskSize); err != nil {
			return path, err
		}
		if po.Loader, po.LoaderConf, err = measure.Loader(o.Disk, o.DiskSize); err != nil {
			return path, err
		}
		if path.Layout, err = layout(o.Disk, o.DiskSize); err != nil {
			return path, err
		}
	}
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
func layout(r io.ReaderAt, size int64) (*attest.Layout, error) {
	t, _, err := gpt.Read(r, size)
	if err != nil {
		return nil, err
	}
	l := &attest.Layout{Disk: t.Disk}
	for _, p := range t.Partitions {
		l.Partitions = append(l.Partitions, attest.LayoutPartition{Type: p.Type, GUID: p.GUID, Start: uint64(p.Start), Size: uint64(p.Size)})
	}
	return l, nil
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
