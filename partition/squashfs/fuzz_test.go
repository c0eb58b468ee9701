package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/ingot-os/ingot/partition/tree"
)

func smallTree(t testing.TB) *tree.Tree {
	t.Helper()
	tr := &tree.Tree{}
	add(t, tr, file("d/a", text(1, 9000)))
	add(t, tr, file("d/b", tree.Bytes(make([]byte, 8192))))
	add(t, tr, tree.Node{Path: "d/c", Mode: 0o755, Content: text(2, 10), Xattrs: map[string][]byte{"user.a": []byte("b")}})
	add(t, tr, tree.Node{Path: "d/e/l", Mode: 0o644, Link: "d/a"})
	add(t, tr, tree.Node{Path: "d/s", Mode: fs.ModeSymlink | 0o777, Target: "a"})
	add(t, tr, tree.Node{Path: "n", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3})
	return tr
}

// plainImage is a filesystem with plain metadata, so that a changed byte
// reaches the inodes and not only the decompressor.
func plainImage(t testing.TB) ([]byte, superblock) {
	t.Helper()
	p, err := newPlan(smallTree(t))
	if err != nil {
		t.Fatal(err)
	}
	o, err := Options{Epoch: testEpoch, BlockSize: 4096, Workers: 1}.validate()
	if err != nil {
		t.Fatal(err)
	}
	f := dirty(t, 0)
	sb := newSuperblock(p, o)
	d, err := writeData(f, p, 96, o)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := layoutTables(&sb, p, d, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	sb.Flags &^= flagCompressOpts
	_, err1 := f.WriteAt(tail, int64(d.end))
	_, err2 := f.WriteAt(marshal(nil, sb), 0)
	b, err3 := os.ReadFile(f.Name())
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return b[:sb.BytesUsed], sb
}

func readEverything(b []byte) error {
	v, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	tr, err := v.Tree()
	if err != nil {
		return err
	}
	var errs error
	for _, n := range tr.Nodes() {
		r, err := n.Open()
		if err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		}
		errs = errors.Join(errs, err)
	}
	return errs
}

func FuzzTree(f *testing.F) {
	b, _ := plainImage(f)
	if err := readEverything(b); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:200])
	packed, err := os.ReadFile(write(f, smallTree(f), Options{Epoch: testEpoch, BlockSize: 4096}).Name())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var fe *FormatError
		if err := readEverything(b); err != nil && !errors.As(err, &fe) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Fatalf("not a FormatError: %v", err)
		}
	})
}

// TestHostile: each planted fault is refused with its field.
func TestHostile(t *testing.T) {
	good, sb := plainImage(t)
	inodes, dirs := int(sb.InodeTable)+2, int(sb.DirTable)+2
	rootInode := inodes + ref(sb.Root).off()
	for _, c := range []struct {
		name, field string
		off         int
		b           []byte
	}{
		{"magic", "s_magic", 0, []byte{0}},
		{"version", "s_major", 28, []byte{3}},
		{"block size", "block_size", 12, []byte{1}},
		{"block log", "block_log", 22, []byte{9}},
		{"compressor", "compression", 20, []byte{4}},
		{"longer than the volume", "bytes_used", 45, []byte{1}},
		{"no owners", "no_ids", 26, []byte{0, 0}},
		{"table outside", "directory_table_start", 72, []byte{0xFF, 0xFF, 0xFF}},
		{"metadata length", "metadata", inodes - 2, []byte{0, 0}},
		{"metadata beyond its limit", "metadata", inodes - 2, []byte{0xFF, 0xFF}},
		{"root in nowhere", "inode", 32, []byte{0xFF, 0x1F}},
		{"root is no directory", "inode_type", rootInode, []byte{typeFifo}},
		{"no such type", "inode_type", rootInode, []byte{99}},
		{"owner", "uid", rootInode + 4, []byte{9}},
		{"directory size", "directory", rootInode + 24, []byte{0x10}},
		{"run length", "directory header", dirs, []byte{0, 1}},
		{"entry type", "directory entry", dirs + 12 + 4, []byte{0}},
	} {
		b := bytes.Clone(good)
		copy(b[c.off:], c.b)
		err := readEverything(b)
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%s: %v, want field %s", c.name, err, c.field)
		}
	}
}

// TestDirectoryLoop makes an entry of the deepest directory point to the root.
func TestDirectoryLoop(t *testing.T) {
	b, sb := plainImage(t)
	i := bytes.LastIndex(b[:sb.FragmentTable], []byte("\x01\x00\x00\x00e")) // type directory, name of one byte
	if i < 0 {
		t.Fatal("no entry e")
	}
	binary.LittleEndian.PutUint16(b[i-4:], uint16(ref(sb.Root).off()))
	var fe *FormatError
	if err := readEverything(b); !errors.As(err, &fe) || fe.Field != "directory" {
		t.Errorf("got %v", err)
	}
}
