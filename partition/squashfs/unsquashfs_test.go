package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// TestUnsquashfs unpacks with the reference implementation and compares everything.
func TestUnsquashfs(t *testing.T) {
	oracle.Need(t, "squashfs-tools", "unsquashfs")
	if os.Geteuid() != 0 {
		t.Skip("owners, devices and trusted attributes need root")
	}
	tr := sampleTree(t)
	for _, o := range []Options{{Epoch: testEpoch}, {Epoch: testEpoch, BlockSize: 1 << 20, Level: 15}} {
		img := write(t, tr, o)
		dir := filepath.Join(t.TempDir(), "out")
		oracle.Run(t, "unsquashfs", "-no-progress", "-d", dir, img.Name())
		compareDir(t, dir, tr)
	}
}

// TestKernel mounts the filesystem, where a loop device can be had.
func TestKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	tr := sampleTree(t)
	for _, bs := range []int{4 << 10, 128 << 10, 1 << 20} {
		img, dir := write(t, tr, Options{Epoch: testEpoch, BlockSize: bs}), t.TempDir()
		if out, err := exec.Command("mount", "-t", "squashfs", "-o", "loop,ro", img.Name(), dir).CombinedOutput(); err != nil {
			t.Skipf("no loop mount of squashfs here: %v %s", err, out)
		}
		compareDir(t, dir, tr)
		for i := range 3000 { // lookups through the directory index
			if _, err := os.Lstat(filepath.Join(dir, fmt.Sprintf("many/entry with number %05d", i))); err != nil {
				t.Error(err)
			}
		}
		oracle.Run(t, "umount", dir)
	}
}

func compareDir(t *testing.T, dir string, tr *tree.Tree) {
	t.Helper()
	names := 0
	if err := filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { names++; return nil }); err != nil {
		t.Fatal(err)
	}
	if names != tr.Len() {
		t.Errorf("%d names, want %d", names, tr.Len())
	}
	for _, n := range tr.Nodes() {
		if err := compareFile(filepath.Join(dir, n.Path), first(tr, n)); err != nil {
			t.Errorf("%q: %v", n.Path, err)
		}
		if n.Link != "" && !sameInode(filepath.Join(dir, n.Path), filepath.Join(dir, n.Link)) {
			t.Errorf("%q is no hard link to %q", n.Path, n.Link)
		}
	}
}

func sameInode(a, b string) bool {
	x, err := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

func compareFile(p string, want *tree.Node) error {
	st, err := os.Lstat(p)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	switch {
	case st.Mode() != want.Mode:
		return fmt.Errorf("mode %v, want %v", st.Mode(), want.Mode)
	case sys.Uid != want.UID || sys.Gid != want.GID:
		return fmt.Errorf("owner %d:%d, want %d:%d", sys.Uid, sys.Gid, want.UID, want.GID)
	case unix.Major(sys.Rdev) != want.Major || unix.Minor(sys.Rdev) != want.Minor:
		return fmt.Errorf("device %x", sys.Rdev)
	case st.ModTime().Unix() != testEpoch:
		return fmt.Errorf("time %v", st.ModTime())
	}
	if want.Mode&fs.ModeSymlink != 0 {
		if target, err := os.Readlink(p); err != nil || target != want.Target {
			return fmt.Errorf("target %q (%v), want %q", target, err, want.Target)
		}
		return nil
	}
	for name, value := range want.Xattrs {
		buf := make([]byte, 256)
		n, err := unix.Lgetxattr(p, name, buf)
		if err != nil || !bytes.Equal(buf[:n], value) {
			return fmt.Errorf("attribute %s: %q, %v", name, buf[:max(n, 0)], err)
		}
	}
	if !want.Mode.IsRegular() {
		return nil
	}
	got, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	r, err := want.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	wantBytes, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, wantBytes) {
		err = errors.New("other content")
	}
	return err
}

// TestListing is a golden of names, modes, owners, sizes and times.
func TestListing(t *testing.T) {
	oracle.Need(t, "squashfs-tools", "unsquashfs")
	var tr tree.Tree
	add(t, &tr, tree.Node{Path: "bin/tool", Mode: 0o755 | fs.ModeSetuid, Content: text(1, 300_000), UID: 1000, GID: 70000})
	add(t, &tr, tree.Node{Path: "bin/alias", Mode: 0o755, Link: "bin/tool"})
	add(t, &tr, tree.Node{Path: "bin/sh", Mode: fs.ModeSymlink | 0o777, Target: "tool"})
	add(t, &tr, tree.Node{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3})
	cmd := exec.Command("unsquashfs", "-lln", write(t, &tr, Options{Epoch: testEpoch}).Name())
	cmd.Env = append(os.Environ(), "TZ=UTC")
	got, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"drwxr-xr-x 0/0 37 2025-07-15 10:44 squashfs-root",
		"drwxr-xr-x 0/0 50 2025-07-15 10:44 squashfs-root/bin",
		"-rwsr-xr-x 1000/70000 300000 2025-07-15 10:44 squashfs-root/bin/alias",
		"lrwxrwxrwx 0/0 4 2025-07-15 10:44 squashfs-root/bin/sh -> tool",
		"-rwsr-xr-x 1000/70000 300000 2025-07-15 10:44 squashfs-root/bin/tool",
		"drwxr-xr-x 0/0 27 2025-07-15 10:44 squashfs-root/dev",
		"crw-rw-rw- 0/0 1, 3 2025-07-15 10:44 squashfs-root/dev/null",
	}, "\n")
	var lines []string
	for l := range strings.Lines(string(got)) {
		lines = append(lines, strings.Join(strings.Fields(l), " "))
	}
	if got := strings.Join(lines, "\n"); strings.TrimSpace(got) != want {
		t.Errorf("unsquashfs -lln:\n%s\nwant:\n%s", got, want)
	}
}

// TestReadsMksquashfs reads what the reference implementation wrote, zstd and gzip.
func TestReadsMksquashfs(t *testing.T) {
	oracle.Need(t, "squashfs-tools", "mksquashfs")
	oracle.Need(t, "squashfs-tools", "unsquashfs")
	if os.Geteuid() != 0 {
		t.Skip("owners and devices need root")
	}
	tr := sampleTree(t)
	dir := filepath.Join(t.TempDir(), "out")
	oracle.Run(t, "unsquashfs", "-no-progress", "-d", dir, write(t, tr, Options{Epoch: testEpoch}).Name())
	for _, comp := range []string{"zstd", "gzip"} {
		img := filepath.Join(t.TempDir(), comp)
		oracle.Run(t, "mksquashfs", dir, img, "-comp", comp, "-quiet", "-no-progress")
		f, err := os.Open(img)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v := open(t, f)
		got, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tr.Nodes() {
			compare(t, got.Get(want.Path), first(tr, want), want.Path)
		}
		if i := v.Info(); i.Compression != comp || got.Len() != tr.Len() {
			t.Errorf("%d nodes, want %d; %+v", got.Len(), tr.Len(), i)
		}
	}
}
