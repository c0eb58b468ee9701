package imageset

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sparse"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/blockmap"
	"github.com/ingot-os/ingot/partition/blocks"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/frames"
	"github.com/ingot-os/ingot/partition/iso"
	"github.com/ingot-os/ingot/partition/qcow2"
	"github.com/ingot-os/ingot/partition/tree"
	"github.com/ingot-os/ingot/partition/vhd"
	"github.com/ingot-os/ingot/partition/vmdk"
)

// Format is a further output: the same disk, or its boot file, in another
// container.
type Format struct {
	Name   string // as the recipe's outputs name it
	Suffix string // of the file in the set
	write  func(*converter, io.WriterAt) error
	// beside writes a second file, that of the suffix; nil when there is none.
	beside       func(*converter, io.WriterAt) error
	besideSuffix string
}

// MapSuffix is the suffix of the block map that belongs to an .img.zst.
const MapSuffix = ".img.bmap"

// Formats are all that there are.
var Formats = []Format{
	{Name: "qcow2", Suffix: ".qcow2", write: (*converter).qcow2},
	{Name: "vhd", Suffix: ".vhd", write: (*converter).vhd},
	{Name: "vmdk", Suffix: ".vmdk", write: (*converter).vmdk},
	{Name: "iso", Suffix: ".iso", write: (*converter).iso},
	{Name: "zst", Suffix: ".img.zst", write: (*converter).zst, beside: (*converter).blockMap, besideSuffix: MapSuffix},
}

// maxPackers bounds the workers that compress: each has a window and blocks of
// several MiB, and a machine of 64 processors would need gigabytes.
const maxPackers = 8

// WriteFormats writes the further outputs, from the image that WriteImage has
// written, and lists them. workers never change a byte; 0 stands for one per
// processor.
func (d *Draft) WriteFormats(workers int) error {
	if len(d.Formats) == 0 {
		return nil
	}
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	c := &converter{d: d, workers: min(workers, maxPackers)}
	f, err := os.Open(d.path(".img"))
	if err != nil {
		return err
	}
	defer f.Close()
	if c.disk, err = diskOf(f, d.Layout.Size); err != nil {
		return err
	}
	var files []func() (release.File, error)
	for _, format := range Formats {
		if !slices.Contains(d.Formats, format.Name) {
			continue
		}
		files = append(files, func() (release.File, error) { return c.file(format.Name, format.Suffix, format.write) })
		if format.beside != nil {
			files = append(files, func() (release.File, error) { return c.file(format.Name, format.besideSuffix, format.beside) })
		}
	}
	return d.runAll(files, workers)
}

// runAll writes files side by side and lists them in order.
func (d *Draft) runAll(files []func() (release.File, error), workers int) error {
	var g errgroup.Group
	g.SetLimit(min(workers, 4)) // each may compress on all processors
	done := make([]release.File, len(files))
	for i, write := range files {
		g.Go(func() (err error) {
			done[i], err = write()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, f := range done {
		d.addFile(f)
	}
	return nil
}

// diskOf is an image with what may be something else than zeros.
func diskOf(f *os.File, size int64) (blocks.Disk, error) {
	runs, err := sparse.Data(f, 0, size)
	if err != nil {
		return blocks.Disk{}, err
	}
	d := blocks.Disk{R: f, Size: size, Data: []blocks.Range{}}
	for _, r := range runs {
		d.Data = append(d.Data, blocks.Range{Off: r.Off, End: r.End})
	}
	return d, nil
}

// converter writes one set's formats.
type converter struct {
	d       *Draft
	disk    blocks.Disk
	workers int
}

// file writes one file and describes what was read back.
func (c *converter) file(name, suffix string, write func(*converter, io.WriterAt) error) (release.File, error) {
	out := release.File{Name: c.d.Manifest.Stem() + suffix}
	f, err := os.OpenFile(c.d.path(suffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return out, err
	}
	defer f.Close()
	if err := write(c, f); err != nil {
		return out, fmt.Errorf("%s: %w", name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return out, err
	}
	out.Size = info.Size()
	if out.SHA256, err = hashFile(f, out.Size); err != nil {
		return out, fmt.Errorf("%s: read back: %w", name, err)
	}
	return out, f.Close()
}

func (c *converter) qcow2(w io.WriterAt) error {
	_, err := qcow2.Write(w, c.disk)
	return err
}

// vhd has an id that follows from name and layout, as all ids of the disk do.
func (c *converter) vhd(w io.WriterAt) error {
	m := &c.d.Manifest
	_, err := vhd.Write(w, c.disk, vhd.Options{ID: partition.GUID(m.Name, c.d.Layout.ID, "vhd"), Epoch: m.Epoch})
	return err
}

// vmdk has a content id that changes with the content: the start of its digest.
func (c *converter) vmdk(w io.WriterAt) error {
	cid, err := strconv.ParseUint(c.imageDigest()[:8], 16, 32)
	if err != nil {
		return err
	}
	_, err = vmdk.Write(w, c.disk, vmdk.Options{CID: uint32(cid), Workers: c.workers})
	return err
}

func (c *converter) imageDigest() string {
	for _, f := range c.d.Manifest.Files {
		if f.Name == c.d.Manifest.Stem()+".img" {
			return f.SHA256
		}
	}
	return hex.EncodeToString(make([]byte, 32))
}

func (c *converter) zst(w io.WriterAt) error {
	_, err := frames.Write(w, c.disk, c.workers)
	return err
}

// iso is not the disk but a CD that boots the set's UKI, byte for byte.
func (c *converter) iso(w io.WriterAt) error {
	m := &c.d.Manifest
	t := new(tree.Tree)
	if err := t.Add(tree.Node{Path: boot.FallbackPath(m.Arch), Mode: 0o644, Content: c.d.UKI}); err != nil {
		return err
	}
	// Two FATs take at most a 64th, directories and reserved sectors less than
	// 1 MiB; 34 MiB is where FAT32 begins.
	size := max(34<<20, (c.d.UKI.Size()+c.d.UKI.Size()/64)>>20<<20+2<<20)
	volume, err := fat.Plan(t, fat.Options{Size: size, Epoch: m.Epoch, Label: "ISO", Serial: partition.FATSerial(m.Name, c.d.Layout.ID, "iso")})
	if err != nil {
		return err
	}
	id := partition.GUID(m.Name, c.d.Layout.ID, "iso")
	_, err = iso.Write(w, iso.Options{Label: m.Stem(), Epoch: m.Epoch, Boot: volume, Disk: binary.LittleEndian.Uint32(id[:4])})
	return err
}

// blockMap maps everything that must be on the medium. What is not in it keeps
// its old bytes when bmaptool writes it, so free space in front of data counts:
// a FAT's entries, for example, are zeros that matter.
func (c *converter) blockMap(w io.WriterAt) error {
	keep, err := c.keep()
	if err != nil {
		return err
	}
	m, err := blockmap.New(c.disk, keep)
	if err != nil {
		return err
	}
	_, err = w.WriteAt(m.Marshal(), 0)
	return err
}

const mib = 1 << 20

// keep lists what must be zero where it is: the places of both partition
// tables, the state partition, where old records would come back to life, and
// of all others the first MiB, where an old file system would be found, up to
// the last MiB that has data.
func (c *converter) keep() ([]blocks.Range, error) {
	l := c.d.Layout
	ends := make([]int64, len(l.Parts))
	for i, p := range l.Parts {
		ends[i] = p.Start + mib
		if p.Role == partition.State {
			ends[i] = p.End()
		}
	}
	err := c.disk.Each(mib, func(at int64, _ []byte) error {
		for i, p := range l.Parts {
			if off := at * mib; off >= p.Start && off < p.End() {
				ends[i] = max(ends[i], off+mib)
			}
		}
		return nil
	})
	keep := []blocks.Range{{Off: 0, End: mib}, {Off: l.Size - mib, End: l.Size}}
	for i, p := range l.Parts {
		keep = append(keep, blocks.Range{Off: p.Start, End: min(ends[i], p.End())})
	}
	return keep, err
}
