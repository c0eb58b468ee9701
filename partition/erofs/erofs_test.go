package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/disktest"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

const testEpoch = 1752576245

func TestStructSize(t *testing.T) {
	if got := binary.Size(superblock{}); got != 128 {
		t.Errorf("superblock: %d bytes, want 128", got)
	}
}

func noise(seed uint64, n int) tree.Bytes { return disktest.Noise(seed, n) }

func add(t testing.TB, tr *tree.Tree, n tree.Node) {
	t.Helper()
	if err := tr.Add(n); err != nil {
		t.Fatal(err)
	}
}

// sampleTree has every kind of node and the sizes around block borders, where
// contents move from the inode to blocks of their own.
func sampleTree(t testing.TB, links bool) *tree.Tree {
	t.Helper()
	tr := &tree.Tree{}
	add(t, tr, tree.Node{Path: ".", Mode: fs.ModeDir | 0o711, UID: 3, GID: 4})
	for i, n := range []int{0, 1, 100, 4000, 4031, 4032, 4064, 4065, 4095, 4096, 4097, 8192, 300_000} {
		add(t, tr, tree.Node{Path: fmt.Sprintf("sizes/f%d", i), Mode: 0o644, Content: noise(uint64(n), n)})
	}
	for i := range 300 { // every offset of inline data in a block
		add(t, tr, tree.Node{Path: fmt.Sprintf("inline/f%d", i), Mode: 0o644, Content: noise(uint64(i), i*13)})
		add(t, tr, tree.Node{Path: fmt.Sprintf("inline/l%d", i), Mode: fs.ModeSymlink | 0o777, Target: strings.Repeat("t/", i+1)})
	}
	add(t, tr, tree.Node{Path: "bin/tool", Mode: 0o755 | fs.ModeSetuid, Content: noise(1, 30_000), UID: 1000, GID: 70000,
		Xattrs: map[string][]byte{"security.capability": append([]byte{1, 0, 0, 2, 0, 4}, make([]byte, 14)...), "user.note": []byte("x"), "trusted.t": []byte("y")}})
	add(t, tr, tree.Node{Path: "bin/other", Mode: 0o755, Content: noise(1, 1500), Xattrs: map[string][]byte{"user.big": noise(7, 3000)}})
	add(t, tr, tree.Node{Path: "bin/sh", Mode: fs.ModeSymlink | 0o777, Target: "../missing"})
	if links {
		add(t, tr, tree.Node{Path: "bin/alias", Mode: 0o755, Link: "bin/tool"})
	}
	add(t, tr, tree.Node{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3})
	add(t, tr, tree.Node{Path: "dev/big", Mode: fs.ModeDevice | 0o660, Major: 4000, Minor: 1 << 19, GID: 6})
	add(t, tr, tree.Node{Path: "dev/fifo", Mode: fs.ModeNamedPipe | 0o600})
	add(t, tr, tree.Node{Path: "dev/sock", Mode: fs.ModeSocket | 0o700})
	add(t, tr, tree.Node{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777, Xattrs: map[string][]byte{"user.note": []byte("x")}})
	add(t, tr, tree.Node{Path: strings.Repeat("n", 255), Mode: 0o600, Content: tree.Bytes("long name")})
	for i := range 1500 {
		add(t, tr, tree.Node{Path: fmt.Sprintf("many/entry with number %05d", i), Mode: 0o644, Content: tree.Bytes(fmt.Sprint(i))})
	}
	return tr
}

// write writes over other bytes.
func write(t testing.TB, tr *tree.Tree, o Options) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "fs.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(noise(77, 4<<20)); err != nil {
		t.Fatal(err)
	}
	size, err := Write(f, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil || size%4096 != 0 {
		t.Fatalf("size %d: %v", size, err)
	}
	return f
}

func openTree(t testing.TB, f *os.File) (*FS, *tree.Tree) {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Tree()
	if err != nil {
		t.Fatal(err)
	}
	return v, got
}

func contents(t testing.TB, n *tree.Node) []byte {
	t.Helper()
	r, err := n.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%q: %v", n.Path, err)
	}
	return b
}

func compare(t testing.TB, got, want *tree.Node) {
	t.Helper()
	switch {
	case got == nil:
		t.Errorf("%q is missing", want.Path)
	case got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID || got.Major != want.Major || got.Minor != want.Minor:
		t.Errorf("%q: got %+v, want %+v", want.Path, got, want)
	case got.Target != want.Target || !maps.EqualFunc(got.Xattrs, want.Xattrs, bytes.Equal):
		t.Errorf("%q: target %q, attributes %q; want %q %q", want.Path, got.Target, got.Xattrs, want.Target, want.Xattrs)
	case want.Mode.IsRegular() && !bytes.Equal(contents(t, got), contents(t, want)):
		t.Errorf("%q: other content", want.Path)
	}
}

func TestReadBack(t *testing.T) {
	tr := sampleTree(t, false)
	f := write(t, tr, Options{Epoch: testEpoch})
	v, got := openTree(t, f)
	if got.Len() != tr.Len() {
		t.Errorf("%d nodes, want %d", got.Len(), tr.Len())
	}
	for _, want := range tr.Nodes() {
		compare(t, got.Get(want.Path), want)
	}
	if i := v.Info(); i.Epoch != testEpoch || i.BlockSize != 4096 || int(i.Inodes) != tr.Len() {
		t.Errorf("info: %+v", i)
	}
	a, err := os.ReadFile(f.Name())
	b, err2 := os.ReadFile(write(t, sampleTree(t, false), Options{Epoch: testEpoch}).Name())
	if err != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("a second run gives other bytes (%v, %v)", err, err2)
	}
}

func TestCopyLinks(t *testing.T) {
	tr := sampleTree(t, true)
	_, got := openTree(t, write(t, tr, Options{Epoch: testEpoch, CopyLinks: true}))
	want := *tr.Get("bin/tool")
	want.Path = "bin/alias"
	compare(t, got.Get("bin/alias"), &want)
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		n    tree.Node
		o    Options
		want string
	}{
		{tree.Node{Path: "a", Link: "b"}, Options{}, `"a": a hard link to "b"`},
		{tree.Node{Path: "a", Link: "b"}, Options{CopyLinks: true}, `not there`},
		{tree.Node{Path: "a", Link: "."}, Options{CopyLinks: true}, `directory`},
		{tree.Node{Path: "a", Link: "a"}, Options{CopyLinks: true}, `leads nowhere`},
		{tree.Node{Path: strings.Repeat("a", 256)}, Options{}, "255"},
		{tree.Node{Path: "a", Mode: fs.ModeSymlink}, Options{}, "link target of 0 bytes"},
		{tree.Node{Path: "a", Mode: fs.ModeIrregular}, Options{}, "no file that erofs knows"},
		{tree.Node{Path: "a", Mode: fs.ModeDevice, Minor: 1 << 20}, Options{}, "1048575"},
		{tree.Node{Path: "a", Xattrs: map[string][]byte{"system.posix_acl_access": nil}}, Options{}, "system.posix_acl_access"},
		{tree.Node{Path: "a", Xattrs: map[string][]byte{"user.x": make([]byte, 65536)}}, Options{}, "65535"},
		{tree.Node{Path: "a"}, Options{Epoch: -1}, "epoch -1"},
		{tree.Node{Path: "a", Content: disktest.Lying{Bytes: tree.Bytes("abc"), N: 4}}, Options{}, "said 4"},
		{tree.Node{Path: "a", Content: disktest.Lying{Bytes: tree.Bytes("abc"), N: 2}}, Options{}, "more than the 2 bytes"},
		{tree.Node{Path: "a", Content: disktest.Lying{Bytes: noise(1, 9000), N: 8192}}, Options{}, "more than the 8192 bytes"},
	} {
		var tr tree.Tree
		add(t, &tr, c.n)
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err = Write(f, &tr, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestDiskFull(t *testing.T) {
	for _, end := range []int64{0, 100_000, 400_000} {
		if _, err := Write(disktest.Full(end), sampleTree(t, false), Options{}); !errors.Is(err, disktest.ErrFull) {
			t.Errorf("disk of %d bytes: %v", end, err)
		}
	}
}

// TestFsck: the reference implementation finds no fault and unpacks the same files.
func TestFsck(t *testing.T) {
	tr := sampleTree(t, false)
	img := write(t, tr, Options{Epoch: testEpoch})
	oracle.Run(t, oracle.Need(t, "erofs-utils", "fsck.erofs"), img.Name())
	out := oracle.Run(t, oracle.Need(t, "erofs-utils", "dump.erofs"), "-s", img.Name())
	for _, want := range []string{"Filesystem created:                           Tue Jul 15 10:44:05 2025", fmt.Sprintf("Filesystem inode count:                       %d", tr.Len())} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("dump.erofs: want %q in\n%s", want, out)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("unpacking owners and devices needs root")
	}
	dir := filepath.Join(t.TempDir(), "out")
	oracle.Run(t, oracle.Need(t, "erofs-utils", "fsck.erofs"), "--extract="+dir, img.Name())
	noSetuid := tr.Get("bin/tool") // fsck.erofs 1.5 sets the owner last, which clears the bit
	noSetuid.Mode &^= fs.ModeSetuid
	compareDir(t, dir, tr, false)
}

// TestKernel mounts the filesystem, where a loop device can be had.
func TestKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	tr := sampleTree(t, false)
	img, dir := write(t, tr, Options{Epoch: testEpoch}), t.TempDir()
	if out, err := exec.Command("mount", "-t", "erofs", "-o", "loop,ro", img.Name(), dir).CombinedOutput(); err != nil {
		t.Skipf("no loop mount of erofs here: %v %s", err, out)
	}
	defer exec.Command("umount", dir).Run()
	compareDir(t, dir, tr, true)
}

func compareDir(t *testing.T, dir string, tr *tree.Tree, xattrs bool) {
	t.Helper()
	for _, n := range tr.Nodes() {
		p := filepath.Join(dir, n.Path)
		st, err := os.Lstat(p)
		if err != nil {
			t.Error(err)
			continue
		}
		sys := st.Sys().(*syscall.Stat_t)
		got := &tree.Node{Path: n.Path, Mode: st.Mode(), UID: sys.Uid, GID: sys.Gid, Major: unix.Major(sys.Rdev), Minor: unix.Minor(sys.Rdev), Xattrs: n.Xattrs}
		if st.ModTime().Unix() != testEpoch {
			t.Errorf("%q: time %v", n.Path, st.ModTime())
		}
		if n.Mode&fs.ModeSymlink != 0 {
			got.Target, _ = os.Readlink(p)
		}
		if n.Mode.IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Error(err)
			}
			got.Content = tree.Bytes(b)
		}
		if xattrs {
			got.Xattrs = nil
			for name := range n.Xattrs {
				buf := make([]byte, 4096)
				k, err := unix.Lgetxattr(p, name, buf)
				if err != nil {
					t.Errorf("%q: %s: %v", n.Path, name, err)
					continue
				}
				if got.Xattrs == nil {
					got.Xattrs = map[string][]byte{}
				}
				got.Xattrs[name] = buf[:k]
			}
		}
		compare(t, got, n)
	}
}

// TestReadsMkfs reads what the reference implementation wrote, with its hard links.
func TestReadsMkfs(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "d/a"), noise(1, 10_000), 0o600),
		os.Link(filepath.Join(dir, "d/a"), filepath.Join(dir, "d/b")), os.Symlink("a", filepath.Join(dir, "d/s"))); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "img")
	oracle.Run(t, oracle.Need(t, "erofs-utils", "mkfs.erofs"), "-U", "01234567-89ab-cdef-0123-456789abcdef", img, dir)
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, got := openTree(t, f)
	if v.Info().UUID != "0123456789abcdef0123456789abcdef" {
		t.Errorf("info: %+v", v.Info())
	}
	if n := got.Get("d/b"); n == nil || n.Link != "d/a" || got.Get("d/s").Target != "a" || !bytes.Equal(contents(t, got.Get("d/a")), noise(1, 10_000)) {
		t.Errorf("d/b: %+v", n)
	}
}

func FuzzTree(f *testing.F) {
	var tr tree.Tree
	add(f, &tr, tree.Node{Path: "d/a", Mode: 0o644, Content: noise(1, 5000)})
	add(f, &tr, tree.Node{Path: "d/b", Mode: 0o644, Content: noise(1, 50), Xattrs: map[string][]byte{"user.a": []byte("b")}})
	add(f, &tr, tree.Node{Path: "d/s", Mode: fs.ModeSymlink | 0o777, Target: "a"})
	b, err := os.ReadFile(write(f, &tr, Options{Epoch: testEpoch}).Name())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:2000])
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		got, err := v.Tree()
		if err != nil {
			return
		}
		for _, n := range got.Nodes() {
			if r, err := n.Open(); err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // errors are fine, panics are not
				r.Close()
			}
		}
	})
}
