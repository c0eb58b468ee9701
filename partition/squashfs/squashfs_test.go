package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/disktest"
	"github.com/ingot-os/ingot/partition/tree"
)

const testEpoch = 1752576245

func TestStructSizes(t *testing.T) {
	for _, c := range []struct {
		v    any
		want int
	}{
		{superblock{}, 96}, {inodeHead{}, 16}, {dirInode{}, 16}, {extDirInode{}, 24}, {dirIndex{}, 12}, {fileInode{}, 16},
		{extFileInode{}, 40}, {symlinkInode{}, 8}, {deviceInode{}, 8}, {dirHeader{}, 12}, {dirEntry{}, 8},
		{fragmentEntry{}, 16}, {xattrEntry{}, 16}, {xattrHead{}, 16},
	} {
		if got := binary.Size(c.v); got != c.want {
			t.Errorf("%T: %d bytes, want %d", c.v, got, c.want)
		}
	}
}

// text makes bytes that compress like program text, and differ with the seed.
func text(seed uint64, n int) tree.Bytes {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of %d: %x\n", rnd.IntN(1000), seed, rnd.Uint32())
	}
	return b.Bytes()[:n]
}

func noise(seed uint64, n int) tree.Bytes { return disktest.Noise(seed, n) }

func add(t testing.TB, tr *tree.Tree, n tree.Node) {
	t.Helper()
	if err := tr.Add(n); err != nil {
		t.Fatal(err)
	}
}

func file(p string, b tree.Blob) tree.Node { return tree.Node{Path: p, Mode: 0o644, Content: b} }

// sampleTree has every kind of node, the sizes around block borders, holes and attributes.
func sampleTree(t testing.TB) *tree.Tree {
	t.Helper()
	tr := &tree.Tree{}
	const bs = defaultBlock
	for i, n := range []int{0, 1, 4095, 8192, bs - 1, bs, bs + 1, 2 * bs, 3*bs + 77} {
		add(t, tr, file(fmt.Sprintf("sizes/text%d", i), text(uint64(n), n)))
		add(t, tr, file(fmt.Sprintf("sizes/noise%d", i), noise(uint64(n), n)))
	}
	hole := make([]byte, 6*bs+100)
	copy(hole[3*bs:], noise(9, 5000))
	add(t, tr, file("holes/middle", tree.Bytes(hole)))
	add(t, tr, file("holes/all", tree.Bytes(make([]byte, 4*bs))))
	add(t, tr, file("holes/tail", tree.Bytes(make([]byte, 4*bs+3))))
	add(t, tr, tree.Node{Path: "bin/tool", Mode: 0o755 | fs.ModeSetuid, Content: text(1, 300_000), UID: 1000, GID: 70000,
		Xattrs: map[string][]byte{"security.capability": capability(), "user.note": []byte("x"), "trusted.overlay.opaque": []byte("y")}})
	add(t, tr, tree.Node{Path: "bin/alias", Mode: 0o755, Link: "bin/tool"})
	add(t, tr, tree.Node{Path: "a-link-before", Mode: 0o755, Link: "bin/tool"})
	add(t, tr, tree.Node{Path: "z/link-after", Mode: 0o755, Link: "bin/tool"})
	add(t, tr, tree.Node{Path: "bin/sh", Mode: fs.ModeSymlink | 0o777, Target: "../missing/target"})
	add(t, tr, tree.Node{Path: "bin/sh2", Mode: fs.ModeSymlink | 0o777, Link: "bin/sh"})
	add(t, tr, tree.Node{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3})
	add(t, tr, tree.Node{Path: "dev/big", Mode: fs.ModeDevice | 0o660, Major: 4000, Minor: 1 << 19, GID: 6})
	add(t, tr, tree.Node{Path: "dev/fifo", Mode: fs.ModeNamedPipe | 0o600})
	add(t, tr, tree.Node{Path: "dev/sock", Mode: fs.ModeSocket | 0o700})
	add(t, tr, tree.Node{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777, Xattrs: map[string][]byte{"user.note": []byte("x")}})
	add(t, tr, tree.Node{Path: "grp", Mode: fs.ModeDir | fs.ModeSetgid | 0o2750&0o777, GID: 5})
	add(t, tr, file(strings.Repeat("n", 255), tree.Bytes("long name")))
	add(t, tr, file(strings.Repeat("deep/", 60)+"file", tree.Bytes("deep")))
	for i := range 3000 {
		add(t, tr, file(fmt.Sprintf("many/entry with number %05d", i), tree.Bytes(fmt.Sprint(i))))
	}
	for i := range 20 {
		for k := range 20 {
			add(t, tr, file(fmt.Sprintf("tree/%02d/%02d/leaf", i, k), text(uint64(i*20+k), i*k)))
		}
	}
	return tr
}

// capability is cap_net_bind_service=ep in the kernel's revision 2 form.
func capability() []byte {
	b := make([]byte, 20)
	binary.LittleEndian.PutUint32(b, 0x02000001)
	binary.LittleEndian.PutUint32(b[4:], 1<<10)
	return b
}

// dirty is a file that held other bytes before.
func dirty(t testing.TB, n int) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "fs.squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(noise(77, n)); err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t testing.TB, tr *tree.Tree, o Options) *os.File {
	t.Helper()
	f := dirty(t, 1<<20)
	size, err := Write(f, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil || size%4096 != 0 {
		t.Fatalf("size %d: %v", size, err)
	}
	return f
}

func open(t testing.TB, f *os.File) *FS {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return v
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

func TestReadBack(t *testing.T) {
	tr := sampleTree(t)
	for _, bs := range []int{4 << 10, 128 << 10, 1 << 20} {
		v := open(t, write(t, tr, Options{Epoch: testEpoch, BlockSize: bs}))
		got, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		if got.Len() != tr.Len() {
			t.Errorf("%d nodes, want %d", got.Len(), tr.Len())
		}
		for _, want := range tr.Nodes() {
			compare(t, got.Get(want.Path), first(tr, want), want.Path)
		}
		if i := v.Info(); i.Compression != "zstd" || i.BlockSize != bs || i.Epoch != testEpoch || int(i.Inodes) != tr.Len()-4 || i.IDs != 5 {
			t.Errorf("info: %+v", i)
		}
		// The first path of an inode has the content, the other names are links to it.
		if l := got.Get("bin/tool"); l.Link != "a-link-before" {
			t.Errorf("bin/tool: link %q", l.Link)
		}
	}
}

// first follows a hard link.
func first(tr *tree.Tree, n *tree.Node) *tree.Node {
	for n.Link != "" {
		n = tr.Get(n.Link)
	}
	return n
}

func compare(t testing.TB, got, want *tree.Node, p string) {
	t.Helper()
	switch {
	case got == nil:
		t.Errorf("%q is missing", p)
	case got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID || got.Major != want.Major || got.Minor != want.Minor:
		t.Errorf("%q: %v %d:%d %d:%d, want %v %d:%d %d:%d", p, got.Mode, got.UID, got.GID, got.Major, got.Minor,
			want.Mode, want.UID, want.GID, want.Major, want.Minor)
	case got.Link != "":
	case got.Target != want.Target || !maps.EqualFunc(got.Xattrs, want.Xattrs, bytes.Equal):
		t.Errorf("%q: target %q, attributes %q; want %q %q", p, got.Target, got.Xattrs, want.Target, want.Xattrs)
	case want.Mode.IsRegular() && !bytes.Equal(contents(t, got), contents(t, want)):
		t.Errorf("%q: other content", p)
	}
}

func TestWorkersDoNotMatter(t *testing.T) {
	tr := sampleTree(t)
	for level := range 4 {
		o := Options{Epoch: testEpoch, Level: []int{1, 3, 7, 15}[level], Workers: 1}
		want := slurp(t, write(t, tr, o))
		for _, o.Workers = range []int{2, 8, 64} {
			if got := slurp(t, write(t, tr, o)); !bytes.Equal(got, want) {
				t.Errorf("level %d, %d workers: other bytes", o.Level, o.Workers)
			}
		}
	}
}

func slurp(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEmptyTree(t *testing.T) {
	v := open(t, write(t, &tree.Tree{}, Options{}))
	got, err := v.Tree()
	if err != nil || got.Len() != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		n    tree.Node
		o    Options
		want string
	}{
		{tree.Node{Path: "a", Link: "b"}, Options{}, `"a": hard link to "b", which is not there`},
		{tree.Node{Path: "a", Link: "."}, Options{}, "hard link to the directory"},
		{tree.Node{Path: "a", Link: "a"}, Options{}, "leads nowhere"},
		{tree.Node{Path: strings.Repeat("a", 256)}, Options{}, "255"},
		{tree.Node{Path: "a", Mode: fs.ModeSymlink}, Options{}, "link target of 0 bytes"},
		{tree.Node{Path: "a", Mode: fs.ModeIrregular}, Options{}, "no file that squashfs knows"},
		{tree.Node{Path: "a", Mode: fs.ModeDevice, Major: 4096}, Options{}, "4095"},
		{tree.Node{Path: "a", Xattrs: map[string][]byte{"system.posix_acl_access": nil}}, Options{}, "system.posix_acl_access"},
		{tree.Node{Path: "a", Xattrs: map[string][]byte{"user.x": make([]byte, 65537)}}, Options{}, "65536"},
		{tree.Node{Path: "a"}, Options{Epoch: -1}, "epoch -1"},
		{tree.Node{Path: "a"}, Options{BlockSize: 5000}, "block size 5000"},
		{tree.Node{Path: "a"}, Options{Level: 99}, "level 99"},
		{tree.Node{Path: "a", Content: disktest.Lying{Bytes: tree.Bytes("abc"), N: 4}}, Options{}, `read "a"`},
		{tree.Node{Path: "a", Content: disktest.Lying{Bytes: tree.Bytes("abc"), N: 2}}, Options{}, "more than the 2 bytes"},
		{tree.Node{Path: "a", Content: disktest.Lying{Bytes: tree.Bytes("abc"), N: 1 << 20}}, Options{}, `read "a"`},
	} {
		var tr tree.Tree
		add(t, &tr, c.n)
		_, err := Write(dirty(t, 0), &tr, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestDiskFull(t *testing.T) {
	tr := sampleTree(t)
	st, err := write(t, tr, Options{}).Stat()
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []int64{0, 100, 200_000, 1 << 20, st.Size() - 1} {
		if _, err := Write(disktest.Full(end), tr, Options{}); !errors.Is(err, disktest.ErrFull) {
			t.Errorf("disk of %d bytes: %v", end, err)
		}
	}
}
