package nvram

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/efivar"
)

// TestChain reads what a firmware would start, whatever it has done to entries.
func TestChain(t *testing.T) {
	slots := []Entry{entry("slot-a", 2, guidA), entry("slot-b", 3, guidB)}
	off := func(e Entry) Entry { e.Option.Attributes &^= efivar.Active; return e }
	titled := func(e Entry) Entry { e.Option.Description = "UEFI OS"; return e }
	for name, c := range map[string]struct {
		entries map[uint16]Entry
		order   []uint16
		next    int // -1: none
		right   []bool
		want    []int
		wantNxt int
	}{
		"nothing":            {nil, nil, -1, []bool{false, false}, nil, -1},
		"as it should be":    {map[uint16]Entry{3: slots[0], 9: slots[1]}, []uint16{3, 9}, 9, []bool{true, true}, []int{0, 1}, 1},
		"other way, foreign": {map[uint16]Entry{3: slots[0], 9: slots[1], 1: entry("x", 4, "11111111-dd6b-8423-8675-9fad8241f15c")}, []uint16{1, 9, 3}, 1, []bool{true, true}, []int{1, 0}, -1},
		"not in the order":   {map[uint16]Entry{3: slots[0], 9: slots[1]}, []uint16{3}, -1, []bool{true, true}, []int{0}, -1},
		"inactive":           {map[uint16]Entry{3: slots[0], 9: off(slots[1])}, []uint16{9, 3}, -1, []bool{true, false}, []int{0}, -1},
		"twice":              {map[uint16]Entry{3: slots[0], 4: titled(slots[0]), 9: slots[1]}, []uint16{4, 3, 9}, 4, []bool{true, true}, []int{0, 1}, 0},
		"order names nobody": {map[uint16]Entry{3: slots[0]}, []uint16{7, 3}, 7, []bool{true, false}, []int{0}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			s := Store{Dir: t.TempDir()}
			for n, e := range c.entries {
				b, err := e.Option.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				write(t, s, efivar.BootName(n), b)
			}
			if c.order != nil {
				write(t, s, efivar.BootOrder, efivar.MarshalOrder(c.order...))
			}
			if c.next >= 0 {
				write(t, s, efivar.BootNext, efivar.MarshalOrder(uint16(c.next)))
			}
			got, err := s.Chain(slots)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Right, c.right) || !slices.Equal(got.Order, c.want) || got.Next != c.wantNxt {
				t.Errorf("%+v, want %v %v %d", got, c.right, c.want, c.wantNxt)
			}
		})
	}
	if _, err := (Store{Dir: "/proc/no-such"}).Chain(slots); err == nil {
		t.Error("a chain without variables")
	}
}

func TestDelete(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	if err := s.NoNext(); err != nil {
		t.Errorf("nothing to take back: %v", err)
	}
	if err := errors.Join(s.Next(3), s.NoNext()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(efivar.BootNext, efivar.Global); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after NoNext: %v", err)
	}
}

// TestExplain: what efivarfs answers is told in words, and stays what it is.
func TestExplain(t *testing.T) {
	for err, want := range map[error]error{unix.ENOSPC: ErrFull, unix.EROFS: ErrReadOnly, unix.EINVAL: ErrReadOnly, unix.EIO: unix.EIO} {
		if got := explain(err); !errors.Is(got, want) || !errors.Is(got, err) {
			t.Errorf("explain(%v) = %v", err, got)
		}
	}
}

// TestFullStoreLeavesNothing: what the firmware did not take is not shown.
func TestFullStoreLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	if err := os.WriteFile(filepath.Join(dir, "dump-type0-1"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Store{Dir: dir}
	if err := s.Next(3); !errors.Is(err, ErrFull) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Next = %v", err)
	}
	if files, _ := filepath.Glob(dir + "/BootNext*"); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}
