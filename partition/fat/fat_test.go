package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/partition/tree"
)

const testEpoch = 1752576245 // an odd second: the tenths field is in use

func TestStructSizes(t *testing.T) {
	for _, c := range []struct {
		v    any
		want int
	}{{bootSector{}, 512}, {fsInfo{}, 512}, {dirEntry{}, 32}, {longEntry{}, 32}} {
		if got := binary.Size(c.v); got != c.want {
			t.Errorf("%T: %d bytes, want %d", c.v, got, c.want)
		}
	}
}

// content makes bytes that differ from file to file.
func content(seed uint64, n int) tree.Bytes {
	b := make([]byte, n)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func add(t testing.TB, tr *tree.Tree, p string, b tree.Blob) {
	t.Helper()
	if err := tr.Add(tree.Node{Path: p, Mode: 0o644, Content: b}); err != nil {
		t.Fatal(err)
	}
}

// sampleTree has every kind of name and the sizes around cluster borders.
func sampleTree(t testing.TB) *tree.Tree {
	t.Helper()
	tr := &tree.Tree{}
	add(t, tr, "EFI/BOOT/BOOTX64.EFI", content(1, 300_001))
	add(t, tr, "EFI/Linux/hello-1.0.0+3.efi", content(2, 70_000))
	add(t, tr, "loader/entries/a.b.c.conf", tree.Bytes("title x\n"))
	add(t, tr, "loader/loader.conf", tree.Bytes("timeout 0\n"))
	add(t, tr, "empty", nil)
	add(t, tr, ".hidden", tree.Bytes("h"))
	add(t, tr, "a name with spaces.text", tree.Bytes("s"))
	add(t, tr, "grüße-東京.txt", tree.Bytes("u"))
	add(t, tr, "beyond-😀.txt", tree.Bytes("e"))
	add(t, tr, strings.Repeat("n", 251)+".txt", tree.Bytes("long"))
	add(t, tr, "thirteenunits", tree.Bytes("13"))
	add(t, tr, "deep/er/and/deep/er/f", tree.Bytes("d"))
	for i := range 120 {
		add(t, tr, fmt.Sprintf("many/file number %03d.data", i), content(uint64(i), i))
	}
	for i, n := range []int{1, 511, 512, 513, 1023, 1024, 4095, 4096, 4097, 32768, 65537} {
		add(t, tr, fmt.Sprintf("sizes/s%d", i), content(uint64(n), n))
	}
	if err := tr.Add(tree.Node{Path: "emptydir", Mode: fs.ModeDir | 0o700}); err != nil {
		t.Fatal(err)
	}
	return tr
}

func options(size int64) Options {
	return Options{Size: size, Serial: 0x1234ABCD, Label: "ingot", Epoch: testEpoch}
}

// writeImage writes a volume into a fresh sparse file.
func writeImage(t testing.TB, tr *tree.Tree, o Options) string {
	t.Helper()
	m, err := Plan(tr, o)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "fat.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(o.Size), m.Write(f)); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWriteAndWriteToAgree(t *testing.T) {
	m, err := Plan(sampleTree(t), options(34<<20))
	if err != nil {
		t.Fatal(err)
	}
	var seq bytes.Buffer
	n, err := m.WriteTo(&seq)
	if err != nil || n != m.Size() || int64(seq.Len()) != n {
		t.Fatalf("WriteTo: %d, %v, wrote %d", n, err, seq.Len())
	}
	name := filepath.Join(t.TempDir(), "x")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(m.Size()), m.Write(f)); err != nil {
		t.Fatal(err)
	}
	at, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(at, seq.Bytes()) {
		t.Fatalf("Write and WriteTo differ (%v)", err)
	}
	again, _ := Plan(sampleTree(t), options(34<<20))
	var second bytes.Buffer
	if _, err := again.WriteTo(&second); err != nil || !bytes.Equal(second.Bytes(), seq.Bytes()) {
		t.Fatalf("second run differs (%v)", err)
	}
}

func TestReadBack(t *testing.T) {
	tr := sampleTree(t)
	name := writeImage(t, tr, options(34<<20))
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := Open(f, 34<<20)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Tree()
	if err != nil {
		t.Fatal(err)
	}
	if got.Len() != tr.Len() {
		t.Errorf("%d nodes, want %d", got.Len(), tr.Len())
	}
	for _, want := range tr.Nodes() {
		n := got.Get(want.Path)
		if n == nil {
			t.Errorf("%q is missing", want.Path)
		} else if n.Mode.IsDir() != want.Mode.IsDir() || !bytes.Equal(read(t, n), read(t, want)) {
			t.Errorf("%q differs", want.Path)
		}
	}
	want := Info{OEM: "MSWIN4.1", Serial: "1234-ABCD", Label: "INGOT", Size: 34 << 20, SectorSize: 512, ClusterSize: 512,
		Clusters: 68528, FreeClusters: v.Info().FreeClusters, ReservedSectors: 32, FATs: 2, FATSectors: 536}
	if v.Info() != want {
		t.Errorf("info\n got %+v\nwant %+v", v.Info(), want)
	}
}

func read(t testing.TB, n *tree.Node) []byte {
	t.Helper()
	if n.Mode.IsDir() {
		return nil
	}
	r, err := n.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExactFit(t *testing.T) {
	const size = 34 << 20
	var tr tree.Tree
	add(t, &tr, "F", tree.Bytes(make([]byte, (68528-1)*512))) // one cluster is the root directory
	m, err := Plan(&tr, Options{Size: size, Epoch: testEpoch})
	if err != nil || m.Free() != 0 {
		t.Fatalf("exact fit: free %d, %v", m.Free(), err)
	}
	fsck(t, writeImage(t, &tr, Options{Size: size, Epoch: testEpoch}))
	add(t, &tr, "G", tree.Bytes("x"))
	_, err = Plan(&tr, Options{Size: size, Epoch: testEpoch})
	var space *SpaceError
	if !errors.As(err, &space) || space.Need != 68529*512 || space.Have != 68528*512 {
		t.Errorf("one cluster too many: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	one := func(n tree.Node) *tree.Tree {
		tr := &tree.Tree{}
		if err := tr.Add(n); err != nil {
			t.Fatal(err)
		}
		return tr
	}
	file := func(p string) *tree.Tree { return one(tree.Node{Path: p, Mode: 0o644}) }
	both := file("Readme")
	add(t, both, "README", nil)
	ok := options(64 << 20)
	with := func(f func(*Options)) Options { o := ok; f(&o); return o }
	for _, c := range []struct {
		tr   *tree.Tree
		o    Options
		want string
	}{
		{file("a"), with(func(o *Options) { o.Size = 32 << 20 }), "FAT32 starts at 65525: the volume must be 34089472 bytes"},
		{file("a"), with(func(o *Options) { o.Size = 64<<20 + 1 }), "multiple of 512"},
		{file("a"), with(func(o *Options) { o.Size = 4 << 40 }), "2^32-1 sectors"},
		{file("a"), with(func(o *Options) { o.Epoch = 0 }), "year 1970"},
		{file("a"), with(func(o *Options) { o.Epoch = 4354819200 }), "year 2108"},
		{file("a"), with(func(o *Options) { o.Label = "twelve chars" }), "longer than 11"},
		{file("a"), with(func(o *Options) { o.Label = "a*b" }), `no character '*'`},
		{file("dir/a:b"), ok, `directory "dir": name "a:b": FAT has no character ':'`},
		{file("a."), ok, "drops a dot"},
		{file("a\xff"), ok, "not UTF-8"},
		{file(strings.Repeat("x", 256)), ok, "256 UTF-16 units"},
		{file(strings.Repeat("d/", 65) + "f"), ok, "more than 64 directories"},
		{both, ok, `names "README" and "Readme"`},
		{one(tree.Node{Path: "l", Mode: fs.ModeSymlink | 0o777, Target: "a"}), ok, `"l": mode`},
		{one(tree.Node{Path: "l", Mode: 0o644, Link: "a"}), ok, "hard link"},
		{one(tree.Node{Path: "l", Mode: 0o644, Xattrs: map[string][]byte{"user.a": nil}}), ok, "extended attributes"},
		{one(tree.Node{Path: "l", Mode: 0o644, Content: tree.Section{N: 1 << 32}}), with(func(o *Options) { o.Size = 8 << 30 }), "ends at 4294967295"},
	} {
		_, err := Plan(c.tr, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// TestWrongBlobSize: content that changed after Plan is an error, not a silent wrong image.
func TestWrongBlobSize(t *testing.T) {
	for _, n := range []int64{99, 101} {
		var tr tree.Tree
		add(t, &tr, "f", lying{tree.Bytes(make([]byte, n)), 100})
		m, err := Plan(&tr, options(64<<20))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.WriteTo(io.Discard); err == nil || !strings.Contains(err.Error(), "f") {
			t.Errorf("content of %d bytes for 100: %v", n, err)
		}
	}
}

type lying struct {
	tree.Bytes
	size int64
}

func (l lying) Size() int64 { return l.size }

func TestAliases(t *testing.T) {
	names := []string{".hidden", "BOOTX64.EFI", "FOO~1.TXT", "a name.text", "boot.efi", "foo bar.txt", "foo+bar.txt", "foo,bar.txt", "ü", "x.y.z"}
	got, err := aliases(names)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"HIDDEN~1   ", "BOOTX64 EFI", "FOO~1   TXT", "ANAME~1 TEX", "BOOT    EFI", "FOOBAR~1TXT", "FOO_BA~1TXT", "FOO_BA~2TXT", "_~1        ", "XY~1    Z  "}
	for i := range names {
		if s := string(got[i].name[:]); s != want[i] {
			t.Errorf("%q: %q, want %q", names[i], s, want[i])
		}
	}
	if !got[1].exact || got[4].exact {
		t.Errorf("exact: %v %v, want true false", got[1].exact, got[4].exact)
	}
}
