package install

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// manifest is that of a release with a layout of package partition.
func manifest(t *testing.T) *release.Manifest {
	t.Helper()
	l, err := partition.Plan(partition.Spec{Name: "hello", SectorSize: 512, ESP: 34 * mib, Slot: 8 * mib, Root: 2 * mib, State: state.Size, Data: DataEdge + mib})
	if err != nil {
		t.Fatal(err)
	}
	m := &release.Manifest{Name: "hello", Disk: release.Disk{SectorSize: 512, Size: l.Size, GUID: l.Disk.String()}}
	for _, p := range l.Parts {
		m.Disk.Partitions = append(m.Disk.Partitions, release.Partition{Index: p.Index, Role: p.Role, Type: p.Type.String(), GUID: p.GUID.String(), Start: p.Start, Size: p.Size, SHA256: strings.Repeat("5e", 32)})
	}
	return m
}

// disk is a disk in memory that loses power after some writes.
type disk struct {
	b    []byte
	left int // writes; -1: any number
}

var errPower = fmt.Errorf("no power")

func (d *disk) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(d.b).ReadAt(b, off) }

func (d *disk) WriteAt(b []byte, off int64) (int, error) {
	if d.left == 0 {
		return 0, errPower
	}
	d.left--
	return copy(d.b[off:], b), nil
}

func (d *disk) Sync() error { return nil }

func (d *disk) look(t *testing.T) Content {
	t.Helper()
	c, err := Look(d, int64(len(d.b)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tables says whether firmware would find a partition table: a protective MBR, and one
// good copy.
func (d *disk) table() bool {
	_, _, err := gpt.Read(d, int64(len(d.b)))
	return err == nil && d.b[510] == 0x55 && d.b[511] == 0xaa
}

// TestPlan: what was written is the layout of package partition, for disks of both kinds
// of sectors, and at no cut before the last write does a firmware find a table.
func TestPlan(t *testing.T) {
	m := manifest(t)
	for _, sector := range []int{512, 4096} {
		for cut := 0; ; cut++ {
			size := m.Disk.Size + 5*mib
			d := &disk{b: bytes.Repeat([]byte("x"), int(size)), left: cut} // foreign, to be wiped
			copy(d.b[510:], []byte{0x55, 0xaa})
			p, err := NewPlan(m, Disk{Node: "/dev/x", Size: size, SectorSize: sector})
			if err != nil {
				t.Fatal(err)
			}
			if err = p.Begin(d); err == nil {
				err = p.Finish(d)
			}
			if err == nil {
				l, err := partition.Read(d, size)
				if err != nil || !d.table() {
					t.Fatalf("sectors of %d: %v", sector, err)
				}
				if data, _ := l.Part(partition.Data); data.Size != DataEdge+6*mib || l.SectorSize != sector {
					t.Errorf("data has %d MiB, sectors %d bytes", data.Size/mib, l.SectorSize)
				}
				if end := d.b[size-mib : p.back[0].Offset]; len(bytes.Trim(end, "\x00")) > 0 { // RAID says there what it is
					t.Errorf("sectors of %d: what was at the end of the disk is still there", sector)
				}
				break
			}
			if d.table() {
				t.Fatalf("sectors of %d: after %d writes there is a partition table", sector, cut)
			}
			if c := d.look(t); cut > 0 && c != Unfinished {
				t.Errorf("sectors of %d: after %d writes the disk holds %s", sector, cut, c)
			}
		}
	}
}
