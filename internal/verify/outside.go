package verify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/ingot-os/ingot/internal/sparse"
	"github.com/ingot-os/ingot/partition/gpt"
)

// outside compares the disk with a table and zeros around it.
type outside struct {
	ctx   context.Context
	r     io.ReaderAt
	table gpt.Table
	steps []gpt.Step // in order on the disk
	size  int64
	diffs []diff
}

// compare looks at the bytes from one offset to another. A hole is compared
// only where something is expected.
func (o *outside) compare(from, to int64) error {
	if from >= to {
		return nil
	}
	runs := []sparse.Run{{Off: 0, End: to - from}}
	if f, ok := o.r.(*os.File); ok {
		var err error
		if runs, err = sparse.Data(f, from, to-from); err != nil {
			return err
		}
	}
	for _, s := range o.steps {
		if a, b := max(s.Offset, from), min(s.Offset+int64(len(s.Data)), to); a < b {
			runs = append(runs, sparse.Run{Off: a - from, End: b - from})
		}
	}
	slices.SortFunc(runs, func(a, b sparse.Run) int { return cmp.Compare(a.Off, b.Off) })
	for _, r := range runs {
		for at := from + r.Off; at < from+r.End; at += sparse.Step {
			if err := o.chunk(at, min(sparse.Step, from+r.End-at)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *outside) chunk(off, n int64) error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	got, want := make([]byte, n), make([]byte, n)
	if m, err := o.r.ReadAt(got, off); m < len(got) {
		return fmt.Errorf("read partition table at offset %d: %w", off+int64(m), err)
	}
	for _, s := range o.steps {
		if a, b := max(s.Offset, off), min(s.Offset+int64(len(s.Data)), off+n); a < b {
			copy(want[a-off:], s.Data[a-s.Offset:b-s.Offset])
		}
	}
	for at := 0; ; {
		i := firstDifference(want[at:], got[at:])
		if i < 0 {
			return nil
		}
		at += int(i)
		d, end := o.name(off + int64(at))
		d.want, d.got = fmt.Sprintf("%02x", want[at]), fmt.Sprintf("%02x", got[at])
		o.add(d)
		if at = int(min(end-off, n)); at >= int(n) {
			return nil
		}
	}
}

// add keeps the first difference of each structure.
func (o *outside) add(d diff) {
	for _, old := range o.diffs {
		if old.code == d.code && slices.Equal(old.path[:2], d.path[:2]) {
			return
		}
	}
	o.diffs = append(o.diffs, d)
}

// name says in which structure an offset is and where that ends.
func (o *outside) name(off int64) (diff, int64) {
	next := o.size
	for _, s := range o.steps {
		end := s.Offset + int64(len(s.Data))
		if off < s.Offset {
			next = min(next, s.Offset)
		} else if off < end {
			code, field := o.field(s, off)
			return diff{code: code, path: []string{"partition table", s.Name, field}, off: off}, end
		}
	}
	if off < 446 { // UEFI table 5.1
		return diff{code: TableMBR, path: []string{"partition table", "protective mbr", "boot code"}, off: off}, 446
	}
	return diff{code: DiskSlack, path: []string{"slack", o.gap(off)}, off: off}, next
}

// gap names the room between structures.
func (o *outside) gap(off int64) string {
	parts := o.table.Partitions
	if off < parts[0].Start {
		return "before " + parts[0].Name
	}
	name := parts[0].Name
	for _, p := range parts {
		if p.End() <= off {
			name = p.Name
		}
	}
	return "behind " + name
}

func (o *outside) field(s gpt.Step, off int64) (Code, string) {
	at := off - s.Offset
	switch s.Name {
	case "protective mbr":
		if at >= 64 {
			return TableMBR, "Signature"
		}
		return TableMBR, fmt.Sprintf("PartitionRecord[%d]", at/16)
	case "primary header":
		return TablePrimary, headerField(at)
	case "primary array":
		return TablePrimary, o.entryField(at)
	case "backup header":
		return TableBackup, headerField(at)
	}
	return TableBackup, o.entryField(at)
}

// fields of a structure: names after UEFI tables 5.5 and 5.6 by their offsets.
type fields []struct {
	off  int64
	name string
}

func (f fields) at(off int64) string {
	name := ""
	for _, x := range f {
		if off >= x.off {
			name = x.name
		}
	}
	return name
}

var headerFields = fields{
	{0, "Signature"}, {8, "Revision"}, {12, "HeaderSize"}, {16, "HeaderCRC32"}, {20, "Reserved"}, {24, "MyLBA"}, {32, "AlternateLBA"},
	{40, "FirstUsableLBA"}, {48, "LastUsableLBA"}, {56, "DiskGUID"}, {72, "PartitionEntryLBA"}, {80, "NumberOfPartitionEntries"},
	{84, "SizeOfPartitionEntry"}, {88, "PartitionEntryArrayCRC32"}, {92, "Reserved"},
}

var entryFields = fields{
	{0, "PartitionTypeGUID"}, {16, "UniquePartitionGUID"}, {32, "StartingLBA"}, {40, "EndingLBA"}, {48, "Attributes"}, {56, "PartitionName"},
}

func headerField(off int64) string { return headerFields.at(off) }

func (o *outside) entryField(off int64) string {
	const entrySize = 128 // UEFI table 5.6
	n := off/entrySize + 1
	name := fmt.Sprintf("entry %d", n)
	for _, p := range o.table.Partitions {
		if int64(p.Index) == n {
			name += " (" + p.Name + ")"
		}
	}
	return name + " " + entryFields.at(off%entrySize)
}

// sameBytes returns the offset of the first byte that differs between n bytes
// of two readers, -1 when there is none.
func sameBytes(ctx context.Context, a io.ReaderAt, aOff int64, b io.ReaderAt, bOff, n int64) (int64, error) {
	x, y := make([]byte, sparse.Step), make([]byte, sparse.Step)
	for at := int64(0); at < n; at += sparse.Step {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		m := min(n-at, sparse.Step)
		if k, err := a.ReadAt(x[:m], aOff+at); int64(k) < m {
			return 0, err
		}
		if k, err := b.ReadAt(y[:m], bOff+at); int64(k) < m {
			return 0, err
		}
		if !bytes.Equal(x[:m], y[:m]) {
			return at + firstDifference(x[:m], y[:m]), nil
		}
	}
	return -1, nil
}
