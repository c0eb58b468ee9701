package slotdisk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/partition"
)

const mib = 1 << 20

// disk writes an empty disk with our partitions.
func disk(t *testing.T, path string) {
	t.Helper()
	l, err := partition.Plan(partition.Spec{Name: "hello", ESP: 34 * mib, Slot: 34 * mib})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(l.Size), partition.Write(f, l, nil)); err != nil {
		t.Fatal(err)
	}
}

// Without a name the only disk with our partitions is meant, and none is guessed.
func TestFind(t *testing.T) {
	sys, dev := t.TempDir(), t.TempDir()
	for _, name := range []string{"vda", "vdb", "sr0", "gone"} {
		if err := os.Mkdir(filepath.Join(sys, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"vda", "sr0"} {
		if err := os.WriteFile(filepath.Join(dev, name), make([]byte, mib), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := find(sys, dev); err == nil || !strings.Contains(err.Error(), "no disk of this machine") {
		t.Errorf("no disk: %v", err)
	}
	disk(t, filepath.Join(dev, "vdb"))
	if got, err := find(sys, dev); err != nil || got != filepath.Join(dev, "vdb") {
		t.Errorf("one disk: %q, %v", got, err)
	}
	disk(t, filepath.Join(dev, "vda"))
	var none *NoneError
	if _, err := find(sys, dev); !errors.As(err, &none) || len(none.Found) != 2 || none.Hint() != "name one of them" {
		t.Errorf("two disks: %v", err)
	}
}

// Empty slots and an empty state partition are shown as they are.
func TestEmptyDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	disk(t, path)
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	v := d.View(Options{})
	if v.Journal != "empty" || v.Good != "a" || len(v.Slots.Slots) != 2 || v.Slots.Slots[0].Condition != "empty" || v.Slots.Slots[0].Found != "no volume" || len(v.Why) > maxWhy {
		t.Errorf("%+v", v)
	}
	if _, err := OpenParts(path); err == nil || !strings.Contains(err.Error(), "read slot-a of") {
		t.Errorf("parts of an empty disk: %v", err)
	}
}
