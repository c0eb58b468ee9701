package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
)

const mib = 1 << 20

// checkTable rebuilds protective MBR, both copies of the partition table and
// the zeros around them from the manifest, and compares byte for byte. On the
// disk of a machine the table may have been moved to the end and data may have
// grown, which are the only other tables that ingot writes.
func (v *verifier) checkTable(ctx context.Context, c *Check) error {
	if last := v.layout.Parts[len(v.layout.Parts)-1]; v.report.Kind == KindDisk && v.image.size < last.Start+mib {
		c.refuse(DiskSize, at(v.image.name), fmt.Sprint(v.layout.Size), fmt.Sprint(v.image.size))
		return nil
	}
	tables := []gpt.Table{v.layout.Table()}
	if v.report.Kind == KindDisk {
		var err error
		if tables, err = v.possibleTables(); err != nil {
			c.refuse(DiskSize, at(v.image.name), fmt.Sprint(v.layout.Size), fmt.Sprint(v.image.size))
			return nil
		}
	}
	c.Count = len(v.layout.Parts)
	var best []diff
	var chosen gpt.Table
	for i, t := range tables {
		diffs, err := v.compareTable(ctx, t)
		if err != nil {
			return err
		}
		if i == 0 || len(diffs) < len(best) {
			best, chosen = diffs, t
		}
		if len(diffs) == 0 {
			break
		}
	}
	for _, d := range best {
		c.refuse(d.code, at(v.image.name, d.path...).byte(d.off), d.want, d.got)
	}
	v.noteTable(c, chosen)
	return nil
}

// noteTable says what of a machine's disk no partition of the manifest covers.
func (v *verifier) noteTable(c *Check, t gpt.Table) {
	if v.report.Kind != KindDisk {
		return
	}
	if v.o.HostID != "" {
		c.note("", WhyHostGUIDs, v.o.HostID)
	}
	if end := t.Partitions[len(t.Partitions)-1].End(); v.image.size > t.Size || t.UsableEnd() > end {
		c.note(fmt.Sprintf("bytes %d to %d", end, v.image.size), WhyFreeSpace, "")
	}
}

// possibleTables lists the tables that flash and the machine write for a disk
// of this size, and the one of the image, for a disk that it was copied to.
func (v *verifier) possibleTables() ([]gpt.Table, error) {
	l := v.layout
	if v.o.HostID != "" {
		l = partition.Rekey(l, v.o.HostID)
	}
	base := l.Table()
	base.SectorSize = v.sectorSize()
	size := v.image.size / int64(base.SectorSize) * int64(base.SectorSize)
	var list []gpt.Table
	_, hasData := l.Part(partition.Data)
	for _, grow := range []bool{hasData, false} {
		t, err := gpt.Grow(base, size, grow)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if v.image.size > l.Size {
		base.Size = l.Size
		list = append(list, base)
	}
	return list, nil
}

// sectorSize is that of the primary header that is there, else the manifest's.
func (v *verifier) sectorSize() int {
	head := make([]byte, 8)
	for _, ss := range []int{512, 4096} {
		if n, _ := v.image.r.ReadAt(head, int64(ss)); n == len(head) && string(head) == "EFI PART" {
			return ss
		}
	}
	return v.layout.SectorSize
}

// diff is the first wrong byte of a structure.
type diff struct {
	code      Code
	path      []string
	off       int64 // on the disk
	want, got string
}

// compareTable compares everything outside the partitions. The partitions'
// room is the table's, so grown data is left out, too.
func (v *verifier) compareTable(ctx context.Context, t gpt.Table) ([]diff, error) {
	steps, err := t.Plan()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(steps, func(a, b gpt.Step) int { return cmp.Compare(a.Offset, b.Offset) })
	o := outside{ctx: ctx, r: v.image.r, table: t, steps: steps, size: v.image.size}
	at := int64(0)
	for _, p := range t.Partitions {
		if err := o.compare(at, p.Start); err != nil {
			return nil, err
		}
		at = p.End()
	}
	end := v.image.size
	if v.report.Kind == KindDisk { // what lies between data and backup copy is free: nobody writes it
		at, end = max(at, t.UsableEnd()), t.Size
	}
	return o.diffs, o.compare(at, end)
}
