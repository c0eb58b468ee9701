package flash

import (
	"context"
	"io"

	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Volume is a file system that is to be the only partition of a disk.
type Volume struct {
	io.ReaderAt
	Size int64    // in bytes, whole MiB
	Name string   // of the partition
	Type gpt.GUID // of the partition
	Disk gpt.GUID // ids
	Part gpt.GUID
}

// BasicData is the partition type that every operating system mounts by itself:
// EBD0A0A2-B9E5-4433-87C0-68B6B72699C7 of Microsoft's list.
var BasicData = gpt.MustGUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")

// WriteVolume makes a device a disk with one partition, with the rules, the order
// of work and the errors of Write.
func WriteVolume(ctx context.Context, v Volume, device string, o Options) (Result, error) {
	probe := o.Probe
	if probe == nil {
		probe = Probe
	}
	d, err := probe(device)
	if err != nil {
		return Result{}, err
	}
	if d.Kind == File {
		d.SectorSize = o.SectorSize
	}
	if err := Check(d, v.Size+3*mib, o.Confirm); err != nil {
		return Result{}, err
	}
	sector := d.SectorSize
	if sector == 0 {
		sector = 512
	}
	p := plan{
		layout: partition.Layout{SectorSize: sector, Size: d.Size / int64(sector) * int64(sector), Disk: v.Disk,
			Parts: []partition.Part{{Index: 1, Role: v.Name, Name: v.Name, Type: v.Type, GUID: v.Part, Start: mib, Size: v.Size}}},
		body: []piece{{off: mib, size: v.Size, src: v}},
	}
	if err := p.addTable(d.Size); err != nil {
		return Result{}, err
	}
	res := Result{Device: d, Layout: p.layout}
	err = carryOut(ctx, p, d, o.Progress, &res)
	return res, err
}
