package squashfs

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// TestBigDirectory: more than 65536 entries, far beyond what a plain directory inode can say.
func TestBigDirectory(t *testing.T) {
	oracle.Need(t, "squashfs-tools", "unsquashfs")
	const n = 70_000
	tr := &tree.Tree{}
	for i := range n {
		add(t, tr, tree.Node{Path: fmt.Sprintf("d/entry-%06d", i), Mode: 0o644})
	}
	img := write(t, tr, Options{Epoch: testEpoch})
	if got, err := open(t, img).Tree(); err != nil || got.Len() != n+2 {
		t.Errorf("read back: %v", err)
	}
	if got := strings.Count(oracle.Run(t, "unsquashfs", "-lln", img.Name()), "\n"); got != n+2 {
		t.Errorf("unsquashfs lists %d, want %d", got, n+2)
	}
	dir := t.TempDir()
	if os.Geteuid() != 0 || exec.Command("mount", "-t", "squashfs", "-o", "loop,ro", img.Name(), dir).Run() != nil {
		t.Skip("no loop mount of squashfs here")
	}
	defer oracle.Run(t, "umount", dir)
	for i := 0; i < n; i += 997 {
		if _, err := os.Lstat(filepath.Join(dir, fmt.Sprintf("d/entry-%06d", i))); err != nil {
			t.Error(err)
		}
	}
	if names, err := os.ReadDir(filepath.Join(dir, "d")); err != nil || len(names) != n {
		t.Errorf("the kernel lists %d, want %d (%v)", len(names), n, err)
	}
}

// mostlyHole is zeros and five bytes at the end.
type mostlyHole int64

func (m mostlyHole) Size() int64 { return int64(m) + 5 }
func (m mostlyHole) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(io.LimitReader(zeroReader{}, int64(m)), strings.NewReader("tail!"))), nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBigFile: a file longer than 32 bits can say takes next to no space.
func TestBigFile(t *testing.T) {
	oracle.Need(t, "squashfs-tools", "unsquashfs")
	const hole = 4<<30 + 4096
	tr := &tree.Tree{}
	add(t, tr, file("big", mostlyHole(hole)))
	img := write(t, tr, Options{Epoch: testEpoch, BlockSize: 1 << 20})
	if st, err := img.Stat(); err != nil || st.Size() > 64<<10 {
		t.Errorf("size %d, %v", st.Size(), err)
	}
	if out := oracle.Run(t, "unsquashfs", "-lln", img.Name()); !strings.Contains(out, fmt.Sprint(hole+5)) {
		t.Errorf("unsquashfs:\n%s", out)
	}
	got, err := open(t, img).Tree()
	if err != nil {
		t.Fatal(err)
	}
	r, err := got.Get("big").Open()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, r, hole); err != nil {
		t.Fatalf("%d: %v", n, err)
	}
	if tail, err := io.ReadAll(r); err != nil || string(tail) != "tail!" {
		t.Errorf("tail %q, %v", tail, err)
	}
}
