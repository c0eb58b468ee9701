package imageset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/partition"
)

// smallDisk is a sparse disk file whose slots hold the same bytes, beside
// holes and beside zeros that are written out.
func smallDisk(t *testing.T) (*os.File, partition.Layout) {
	t.Helper()
	l, err := partition.Plan(partition.Spec{Name: "disk", ESP: 4 << 20, Slot: 8 << 20, Data: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(l.Size); err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 600_000)
	rand.New(rand.NewSource(1)).Read(content)
	clear(content[100_000:300_000])
	for _, role := range []string{partition.SlotA, partition.SlotB} {
		put(t, f, l, role, 0, content[:1000])
		put(t, f, l, role, 3<<20, content)
	}
	put(t, f, l, partition.ESP, 1<<20, content[:4096])
	return f, l
}

func put(t *testing.T, f *os.File, l partition.Layout, role string, off int64, b []byte) {
	t.Helper()
	p, _ := l.Part(role)
	if _, err := p.Window(f).WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// plainDigests reads the whole file as anybody would.
func plainDigests(t *testing.T, f *os.File, l partition.Layout) (map[int]string, string) {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	digest := func(b []byte) string {
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	parts := map[int]string{}
	for _, p := range l.Parts {
		parts[p.Index] = digest(b[p.Start:p.End()])
	}
	return parts, digest(b)
}

func checkDigests(t *testing.T, f *os.File, l partition.Layout) map[int]string {
	t.Helper()
	parts, whole, err := hashDisk(f, l, finished(l))
	if err != nil {
		t.Fatal(err)
	}
	wantParts, want := plainDigests(t, f, l)
	if whole != want {
		t.Errorf("whole disk: got %s, want %s", whole, want)
	}
	if !maps.Equal(parts, wantParts) {
		t.Errorf("partitions: got %v, want %v", parts, wantParts)
	}
	return parts
}

// finished is a fill with nothing left to write.
func finished(l partition.Layout) func(func(partition.Part)) error {
	return func(done func(partition.Part)) error {
		for _, p := range l.Parts {
			done(p)
		}
		return nil
	}
}

func TestHashDisk(t *testing.T) {
	f, l := smallDisk(t)
	parts := checkDigests(t, f, l)
	a, _ := l.Part(partition.SlotA)
	b, _ := l.Part(partition.SlotB)
	if parts[a.Index] != parts[b.Index] {
		t.Error("equal slots have different digests")
	}
}

// TestHashDiskSeesOneByte changes single bytes where a shortcut would miss them.
func TestHashDiskSeesOneByte(t *testing.T) {
	for name, off := range map[string]int64{
		"in data":              3<<20 + 599_999,
		"in a hole":            2 << 20,
		"in the written zeros": 3<<20 + 200_000,
		"last byte":            8<<20 - 1,
	} {
		t.Run(name, func(t *testing.T) {
			f, l := smallDisk(t)
			put(t, f, l, partition.SlotB, off, []byte{1})
			parts := checkDigests(t, f, l)
			if parts[2] == parts[3] {
				t.Error("slots differ in one byte and have one digest")
			}
		})
	}
}

// TestHashDiskFull has no holes: every zero is written out.
func TestHashDiskFull(t *testing.T) {
	f, l := smallDisk(t)
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if hole, err := f.Seek(0, unix.SEEK_HOLE); err == nil && hole != l.Size {
		t.Fatalf("hole at %d in a file without holes", hole)
	}
	checkDigests(t, f, l)
}

// TestHashDiskFollows checks that nothing is read before it is final, and that
// what is read is what was written last.
func TestHashDiskFollows(t *testing.T) {
	f, l := smallDisk(t)
	parts, whole, err := hashDisk(f, l, func(done func(partition.Part)) error {
		for _, p := range l.Parts {
			put(t, f, l, p.Role, 0, []byte("not yet"))
			time.Sleep(time.Millisecond)
			put(t, f, l, p.Role, 0, []byte("written "+p.Role))
			done(p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantParts, want := plainDigests(t, f, l)
	if whole != want || !maps.Equal(parts, wantParts) {
		t.Errorf("got %s %v, want %s %v", whole, parts, want, wantParts)
	}
}

func TestHashDiskFails(t *testing.T) {
	f, l := smallDisk(t)
	full := errors.New("no space left")
	_, _, err := hashDisk(f, l, func(done func(partition.Part)) error {
		done(l.Parts[0])
		return full
	})
	if !errors.Is(err, full) {
		t.Errorf("writer's error: got %v, want %v", err, full)
	}
	closed, l := smallDisk(t)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err = hashDisk(closed, l, finished(l)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("unreadable image: got %v, want %v", err, os.ErrClosed)
	}
}
