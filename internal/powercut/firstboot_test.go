package powercut

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition"
)

// Rows P25 to P28: whatever a cut leaves of the first boot, firmware finds the
// slots, and the next boot makes table and data file system whole.
func TestFirstBootCut(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		t.Run(fmt.Sprint(ss), func(t *testing.T) { firstBoot(t, ss) })
	}
}

func firstBoot(t *testing.T, sectorSize int) {
	l, err := partition.Plan(partition.Spec{Name: "cut", SectorSize: sectorSize, ESP: slotSize, Slot: slotSize, Root: 1 << 20, Data: 20 << 20})
	if err != nil {
		t.Fatal(err)
	}
	f, err := RecordFirstBoot(l, l.Size+44<<20)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]*row{}
	err = f.States(func(s FirstBootState) error {
		r := rows[s.Row]
		if r == nil {
			r = &row{ops: map[int]bool{}, first: map[string]int{}, chains: map[string]int{}}
			rows[s.Row] = r
		}
		r.states++
		r.ops[s.Op] = true
		sample := s.Row != "P28" && r.states%97 == 1 || r.states%2999 == 1
		if err := f.Check(s, sample); err != nil {
			r.errs = append(r.errs, fmt.Sprintf("operation %d, %s: %v", s.Op, s.Where, err))
		} else if sample && sectorSize == sector { // sgdisk takes a file for a disk with sectors of 512 bytes
			askTools(t, f, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"P25", "P26", "P27", "P28"} {
		t.Run(name, func(t *testing.T) { rows[name].report(t) })
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("states of a row %q", name)
	}
}

// askTools lets sgdisk and e2fsck look at a state, and at what the next boot made
// of it.
func askTools(t *testing.T, f *FirstBoot, s FirstBootState) {
	t.Helper()
	where := fmt.Sprintf("%s, operation %d, %s", s.Row, s.Op, s.Where)
	path := filepath.Join(t.TempDir(), "disk")
	b := s.Disk.clone()
	// sgdisk falls back to the backup copy as firmware does, and says so.
	if out := oracle.Run(t, "sgdisk", "-p", writeBlock(t, path, b, 0, b.size)); strings.Count(out, "slot-") != 2 {
		t.Errorf("%s: sgdisk finds no slots:\n%s", where, out)
	}
	table, err := bootTable(b)
	if err == nil {
		err = bootData(b, table)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := oracle.Run(t, "sgdisk", "-v", writeBlock(t, path, b, 0, b.size)); !strings.Contains(out, "No problems found") {
		t.Errorf("%s: sgdisk after the next boot:\n%s", where, out)
	}
	data, err := dataOf(b, table)
	if err != nil {
		t.Fatal(err)
	}
	oracle.Run(t, "e2fsck", "-f", "-n", writeBlock(t, path, b, data.off, data.size))
}

// writeBlock puts a part of a device into a file with holes.
func writeBlock(t *testing.T, path string, b *Block, off, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at := off; at < off+size; at += pageSize {
		page := make([]byte, min(pageSize, off+size-at))
		if b.store.read(page, at); !bytes.Equal(page, zeroPage[:len(page)]) {
			if _, err := f.WriteAt(page, at-off); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}
