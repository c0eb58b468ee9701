package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Plan is where everything goes on a disk.
type Plan struct {
	Table gpt.Table
	size  int64
	first []byte     // the first MiB, with the primary table
	back  []gpt.Step // of the backup table
}

// NewPlan places the partitions of a release on a disk: where they are in its image, the
// data partition grown to the end, the table for the disk's own sectors.
func NewPlan(m *release.Manifest, d Disk) (*Plan, error) {
	t, err := table(m)
	if err == nil {
		err = check(m.Disk.Partitions)
	}
	if err != nil {
		return nil, err
	}
	last := m.Disk.Partitions[len(m.Disk.Partitions)-1]
	t.SectorSize = d.SectorSize
	if t, err = gpt.Grow(t, d.Size/int64(d.SectorSize)*int64(d.SectorSize), last.Role == "data"); err != nil {
		return nil, fmt.Errorf("plan partitions of %s: %w", d.Node, err)
	}
	steps, err := t.Plan()
	if err != nil {
		return nil, fmt.Errorf("plan partitions of %s: %w", d.Node, err)
	}
	p := &Plan{Table: t, size: d.Size, first: make([]byte, edge)}
	for _, s := range steps {
		if s.Offset < edge {
			copy(p.first[s.Offset:], s.Data)
		} else {
			p.back = append(p.back, s)
		}
	}
	return p, nil
}

// CopyOf is the partition that another one holds the bytes of; empty: it has its own.
func CopyOf(role string) string {
	return map[string]string{"slot-b": "slot-a", "root-b": "root-a"}[role]
}

// check finds, before a disk is touched, why the bytes of its partitions could not be
// written: a role that is not known, no digest, nothing to copy from.
func check(parts []release.Partition) error {
	seen := map[string]release.Partition{}
	for _, p := range parts {
		sum, err := hex.DecodeString(p.SHA256)
		from := seen[CopyOf(p.Role)]
		switch {
		case !slices.Contains([]string{"esp", "slot-a", "slot-b", "root-a", "root-b", stateName, dataName}, p.Role):
			return fmt.Errorf("read the release's partitions: this program knows no partition %q", p.Role)
		case err != nil || len(sum) != sha256.Size:
			return fmt.Errorf("read the release's partitions: the manifest names no digest of %s", p.Role)
		case CopyOf(p.Role) != "" && (from.Size != p.Size || from.SHA256 != p.SHA256):
			return fmt.Errorf("read the release's partitions: %s is not what %s is", p.Role, CopyOf(p.Role))
		}
		seen[p.Role] = p
	}
	return nil
}

// Need is how large a disk must be for a release, in bytes.
func Need(m *release.Manifest) int64 { return m.Disk.Size }

// table is that of the release's image.
func table(m *release.Manifest) (t gpt.Table, err error) {
	t = gpt.Table{SectorSize: m.Disk.SectorSize, Size: m.Disk.Size}
	var errs []error
	guid := func(text string) gpt.GUID {
		g, err := gpt.ParseGUID(text)
		errs = append(errs, err)
		return g
	}
	t.Disk = guid(m.Disk.GUID)
	for _, p := range m.Disk.Partitions {
		t.Partitions = append(t.Partitions, gpt.Partition{Index: p.Index, Name: p.Role, Type: guid(p.Type), GUID: guid(p.GUID), Start: p.Start, Size: p.Size})
	}
	if len(t.Partitions) == 0 {
		errs = append(errs, errors.New("it has no partitions"))
	}
	errs = append(errs, t.Validate())
	if err := errors.Join(errs...); err != nil {
		return t, fmt.Errorf("read the release's partition table: %w", err)
	}
	return t, nil
}

// Partition is that of a role.
func (p *Plan) Partition(role string) (gpt.Partition, bool) {
	for _, x := range p.Table.Partitions {
		if x.Name == role {
			return x, true
		}
	}
	return gpt.Partition{}, false
}

// File is the disk, or what stands for one.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Begin makes the disk one that nothing starts from: the mark first, so that a cut
// leaves it, then zeros where tables may be.
func (p *Plan) Begin(f File) error {
	first := make([]byte, head)
	copy(first, mark)
	if err := put(f, first, 0); err != nil {
		return err
	}
	if err := put(f, make([]byte, edge-head), head); err != nil {
		return err
	}
	return put(f, make([]byte, edge), p.size-edge)
}

// Finish writes both tables, the backup first, and at the very end the first 4 KiB
// with the protective MBR, without which no firmware looks at either: the disk is
// installed with this one write.
func (p *Plan) Finish(f File) error {
	for _, s := range p.back {
		if err := put(f, s.Data, s.Offset); err != nil {
			return err
		}
	}
	if err := put(f, p.first[head:], head); err != nil {
		return err
	}
	return put(f, p.first[:head], 0)
}

// put writes, flushes and reads back.
func put(f File, b []byte, off int64) error {
	if _, err := f.WriteAt(b, off); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush partition table: %w", err)
	}
	back := make([]byte, len(b))
	if _, err := f.ReadAt(back, off); err != nil {
		return fmt.Errorf("read partition table back: %w", err)
	}
	if !bytes.Equal(back, b) {
		return fmt.Errorf("read partition table back: the disk holds something else at offset %d", off)
	}
	return nil
}
