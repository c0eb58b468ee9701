package fat

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/partition/tree"
)

// patched is a sparse zero volume with a prefix: fuzzing needs no 33 MiB input.
type patched struct {
	head []byte
	size int64
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-off))
	clear(b[:n])
	if off < int64(len(p.head)) {
		copy(b[:n], p.head[off:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// squeezed is a volume cut into boot sectors, the start of the FAT and the
// start of the data area, so that a fuzz input reaches all three.
type squeezed struct {
	patched
	fat, data int64
}

func (s squeezed) ReadAt(b []byte, off int64) (int, error) {
	const part = 16 << 10
	switch {
	case off >= s.data:
		off = off - s.data + 2*part
	case off >= s.fat && off < s.fat+part:
		off = off - s.fat + part
	case off >= s.fat:
		clear(b)
		return len(b), nil
	}
	return s.patched.ReadAt(b, off)
}

// seedVolume is what squeezed wants of a good volume, and where its table and its
// first cluster are.
func seedVolume(f *testing.F, size int64) (seed []byte, fatOff, dataOff int64) {
	const part = 16 << 10
	m, err := Plan(sampleTree(f), options(size))
	if err != nil {
		f.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := m.WriteTo(&raw); err != nil {
		f.Fatal(err)
	}
	fatOff, dataOff = m.fatOff(0), m.clusterOff(2)
	seed = append(seed, raw.Bytes()[:part]...)
	seed = append(seed, raw.Bytes()[fatOff:fatOff+part]...)
	return append(seed, raw.Bytes()[dataOff:dataOff+4*part]...), fatOff, dataOff
}

func FuzzTree(f *testing.F) {
	const size, part = 34 << 20, 16 << 10
	seed, fatOff, dataOff := seedVolume(f, size)
	f.Add(seed)
	f.Add(seed[:part])
	f.Fuzz(func(t *testing.T, b []byte) {
		r := squeezed{patched{b, size}, fatOff, dataOff}
		v, err := Open(r, size)
		if err != nil {
			return
		}
		tr, err := v.Tree()
		if err != nil {
			var fe *FormatError
			if !errors.As(err, &fe) {
				t.Fatalf("not a FormatError: %v", err)
			}
			return
		}
		for _, n := range tr.Nodes() {
			if n.Mode.IsRegular() && n.Size() < 1<<20 {
				rd, err := n.Open()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, rd); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// FuzzNames: any set of names either is refused or reads back as it was.
func FuzzNames(f *testing.F) {
	f.Add("a.txt\nA~1.TXT\n.x\nlong name here.conf")
	f.Add("ü\nÜ")
	f.Fuzz(func(t *testing.T, s string) {
		var tr tree.Tree
		for _, name := range strings.Split(s, "\n") {
			if strings.Contains(name, "/") {
				continue
			}
			_ = tr.Add(tree.Node{Path: name, Mode: 0o644}) // names that a tree refuses are not of interest
		}
		m, err := Plan(&tr, options(34<<20))
		if err != nil {
			return
		}
		head := &window{b: make([]byte, 3<<20)}
		if err := m.Write(head); err != nil {
			t.Fatal(err)
		}
		v, err := Open(patched{head.b, 34 << 20}, 34<<20)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range tr.Nodes() {
			if got.Get(n.Path) == nil {
				t.Errorf("%q is gone", n.Path)
			}
		}
		if got.Len() != max(tr.Len(), 1) {
			t.Errorf("%d nodes, want %d", got.Len(), tr.Len())
		}
	})
}

type window struct{ b []byte }

func (w *window) WriteAt(p []byte, off int64) (int, error) {
	copy(w.b[off:], p)
	return len(p), nil
}

// TestHostile: each fault is refused with its field.
func TestHostile(t *testing.T) {
	const size = 34 << 20
	m, err := Plan(sampleTree(t), options(size))
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := m.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	last := int64(2 + m.used - 1) // the last cluster of the last file
	for _, c := range []struct {
		name, field string
		off         int64
		b           []byte
	}{
		{"no mark", "Signature_word", 510, []byte{0}},
		{"sector size", "BPB_BytsPerSec", 11, []byte{1, 0}},
		{"cluster size", "BPB_SecPerClus", 13, []byte{3}},
		{"no FAT", "BPB_NumFATs", 16, []byte{0}},
		{"FAT16", "BPB_RootEntCnt", 17, []byte{0, 2}},
		{"too long", "BPB_TotSec32", 32, []byte{0xFF, 0xFF, 0xFF, 0xFF}},
		{"too short", "BPB_TotSec32", 32, []byte{0, 1, 0, 0}},
		{"small FAT", "BPB_FATSz32", 36, []byte{1, 0}},
		{"root outside", "BPB_RootClus", 44, []byte{0, 0, 0, 8}},
		{"loop", "FAT", m.fatOff(0) + 4*last, []byte{2, 0, 0, 0}},
		{"free", "FAT", m.fatOff(0) + 4*last, []byte{0, 0, 0, 0}},
		{"short chain", "DIR_FileSize", m.clusterOff(2) + 32*3 - 4, []byte{}},
	} {
		b := bytes.Clone(raw.Bytes())
		if len(c.b) == 0 { // a file that claims more than its chain has
			i := bytes.Index(b, []byte("BOOTX64 EFI"))
			c.off, c.b = int64(i)+28, []byte{0xFF, 0xFF, 0xFF, 0x7F}
		}
		copy(b[c.off:], c.b)
		v, err := Open(bytes.NewReader(b), size)
		if err == nil {
			_, err = v.Tree()
		}
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%s: %v, want field %s", c.name, err, c.field)
		}
	}
}
