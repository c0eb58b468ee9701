package initramfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/partition/tree"
)

func encode(t testing.TB, segs []Segment, o Options) []byte {
	t.Helper()
	a := plan(t, segs, o)
	var b bytes.Buffer
	n, err := a.WriteTo(&b)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) || a.Size() != n {
		t.Errorf("WriteTo = %d, wrote %d, Size = %d", n, b.Len(), a.Size())
	}
	return b.Bytes()
}

// dump is a tree as text: type, mode, owner, content digest.
func dump(t testing.TB, tr *tree.Tree) []string {
	t.Helper()
	var out []string
	for _, n := range tr.Nodes() {
		r, err := n.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		mode := n.Mode
		if mode&fs.ModeSymlink != 0 {
			mode |= 0o777
		}
		out = append(out, fmt.Sprintf("%s %v %d:%d %d:%d ->%s =%s %d %s", n.Path, mode, n.UID, n.GID, n.Major, n.Minor, n.Target, n.Link, n.Size(), hex.EncodeToString(sum[:4])))
	}
	return out
}

func union(t testing.TB, segs []Segment) *tree.Tree {
	out := &tree.Tree{}
	for _, s := range segs {
		if err := out.Merge(s.Tree); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// canonical names the first path of each group of hard links as the owner of
// the content, as an archive cannot tell which one it was.
func canonical(t testing.TB, tr *tree.Tree) *tree.Tree {
	first := map[string]string{} // owner in tr -> first path of its group
	out := &tree.Tree{}
	for _, n := range tr.Nodes() {
		owner := n.Path
		if n.Link != "" {
			owner = n.Link
		}
		c := *n
		if f, seen := first[owner]; seen {
			c.Link, c.Content = f, nil
		} else {
			first[owner] = n.Path
			c.Link, c.Content = "", tr.Get(owner).Content
		}
		if err := out.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	segs := sample(t)
	want := dump(t, canonical(t, union(t, segs)))
	for _, c := range []string{None, Zstd} {
		raw := encode(t, segs, Options{Compress: c})
		got, info, err := Read(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		// In compressed archives a group of links stands at its last name, but
		// the order within the group stays.
		if d := cmp.Diff(want, dump(t, got)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", c, d)
		}
		for _, a := range info.Archives {
			if a.Compress != c || a.MinTime != epoch || a.MaxTime != epoch {
				t.Errorf("%s: archive %+v", c, a)
			}
			if c == None && a.Descending != "" {
				t.Errorf("names descend at %q", a.Descending)
			}
		}
	}
}

func TestSameBytes(t *testing.T) {
	big := []Segment{{"modules", &tree.Tree{}}}
	for i := range 12 {
		n := file(fmt.Sprintf("m%02d", i), string(noise(int64(i), 1<<20))+strings.Repeat("text ", 1<<18))
		if err := big[0].Tree.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	big = append(big, sample(t)...)
	for _, c := range []string{None, Zstd} {
		want := encode(t, big, Options{Compress: c, Workers: 1})
		for _, workers := range []int{2, 8, 0} {
			if got := encode(t, big, Options{Compress: c, Workers: workers}); !bytes.Equal(got, want) {
				t.Errorf("%s: %d workers give other bytes than 1", c, workers)
			}
		}
		_, info, err := Read(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		if c == Zstd && len(info.Archives) < 5 {
			t.Errorf("%d archives: the large segment was not split", len(info.Archives))
		}
	}
}

// TestGolden pins the format: a change here changes every release's digest.
func TestGolden(t *testing.T) {
	for c, want := range map[string]string{None: goldenNone, Zstd: goldenZstd} {
		sum := sha256.Sum256(encode(t, sample(t), Options{Compress: c}))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s: sha256 %s, want %s", c, got, want)
		}
	}
}

// TestOneMoreFile shows why inode numbers hash the path: the headers of all
// other files keep their bytes.
func TestOneMoreFile(t *testing.T) {
	before := encode(t, []Segment{{"a", mk(t, file("a", "1"), file("c", "3"))}}, Options{})
	after := encode(t, []Segment{{"a", mk(t, file("a", "1"), file("b", "2"), file("c", "3"))}}, Options{})
	tail := before[len(before)-(124+112+4):]
	if !bytes.HasSuffix(after, tail) {
		t.Errorf("entry c changed:\n%q\n%q", tail, after[len(after)-len(tail):])
	}
}

func TestInodeCollision(t *testing.T) {
	// costarring and liquid are the classic 32-bit FNV-1a collision.
	a, b := file("costarring", "1"), file("liquid", "2")
	if hash(a.Path) != hash(b.Path) {
		t.Fatal("the names do not collide")
	}
	parts, err := collect([]Segment{{"s", mk(t, a, b)}})
	if err != nil {
		t.Fatal(err)
	}
	number(parts)
	seen := map[uint32]bool{0: true}
	for _, e := range parts[0].entries {
		if seen[e.ino] {
			t.Errorf("%s: inode %d is taken", e.node.Path, e.ino)
		}
		seen[e.ino] = true
	}
}

type sized struct {
	tree.Bytes
	n int64
}

func (s sized) Size() int64 { return s.n }

func TestPlanRefuses(t *testing.T) {
	one := func(n tree.Node) []Segment { return []Segment{{"seg", mk(t, n)}} }
	for _, tt := range []struct {
		name string
		segs []Segment
		o    Options
		want string
	}{
		{"duplicate", []Segment{{"base", mk(t, file("etc/x", "a"))}, {"files", mk(t, file("etc/x", "a"))}}, Options{}, `path "etc/x" is in segment "base" and in segment "files"`},
		{"directory over file", []Segment{{"base", mk(t, file("etc", "a"))}, {"files", mk(t, file("etc/x", "a"))}}, Options{}, `path "etc" is in segment "base" and in segment "files"`},
		{"file over directory", []Segment{{"base", mk(t, file("etc/x", "a"))}, {"files", mk(t, file("etc", "a"))}}, Options{}, `path "etc" is in segment "base" and in segment "files"`},
		{"device", one(tree.Node{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3}), Options{}, "devtmpfs"},
		{"socket", one(tree.Node{Path: "s", Mode: fs.ModeSocket}), Options{}, "not supported"},
		{"xattr", one(tree.Node{Path: "s", Xattrs: map[string][]byte{"security.capability": {1}}}), Options{}, "extended attributes"},
		{"too large", one(tree.Node{Path: "s", Content: sized{nil, 1 << 32}}), Options{}, "at most 4294967295"},
		{"trailer", one(file(trailer, "")), Options{}, "ends a cpio archive"},
		{"path too long", one(file(strings.Repeat("abcdefgh/", 456)+"x", "")), Options{}, "at most 4095"},
		{"name too long", one(file("a/"+strings.Repeat("x", 256), "")), Options{}, "at most 255"},
		{"empty symlink", one(tree.Node{Path: "s", Mode: fs.ModeSymlink}), Options{}, "symlink target of 0 bytes"},
		{"dangling hard link", one(tree.Node{Path: "s", Link: "t"}), Options{}, `hard link to "t"`},
		{"link in other segment", []Segment{{"a", mk(t, file("t", ""))}, {"b", mk(t, tree.Node{Path: "s", Link: "t"})}}, Options{}, `segment "b": path "s": hard link to "t"`},
		{"negative epoch", nil, Options{Epoch: -1}, "epoch -1"},
		{"late epoch", nil, Options{Epoch: math.MaxUint32 + 1}, "epoch 4294967296"},
		{"unknown compression", nil, Options{Compress: "lzma"}, `unknown compression "lzma"`},
	} {
		_, err := Plan(tt.segs, tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

func TestAllConflictsAtOnce(t *testing.T) {
	_, err := Plan([]Segment{{"a", mk(t, file("x", ""), file("y", ""))}, {"b", mk(t, file("x", ""), file("y", ""))}}, Options{})
	if err == nil || strings.Count(err.Error(), "is in segment") != 2 {
		t.Errorf("want both conflicts, got %v", err)
	}
}

func TestContentDiffersFromSize(t *testing.T) {
	for _, n := range []int64{2, 4} {
		segs := []Segment{{"s", mk(t, tree.Node{Path: "f", Content: sized{tree.Bytes("abc"), n}})}}
		if _, err := plan(t, segs, Options{}).WriteTo(io.Discard); err == nil || !strings.Contains(err.Error(), `path "f"`) {
			t.Errorf("size %d of 3: %v", n, err)
		}
		if _, err := Plan(segs, Options{Compress: Zstd}); err == nil || !strings.Contains(err.Error(), `path "f"`) {
			t.Errorf("zstd, size %d of 3: %v", n, err)
		}
	}
}

func TestFirstDirectoryWins(t *testing.T) {
	segs := []Segment{
		{"a", mk(t, tree.Node{Path: "var", Mode: fs.ModeDir | 0o700, UID: 7})},
		{"b", mk(t, file("var/x", ""))},
	}
	got, _, err := Read(bytes.NewReader(encode(t, segs, Options{})))
	if err != nil {
		t.Fatal(err)
	}
	if n := got.Get("var"); n.Mode.Perm() != 0o700 || n.UID != 7 {
		t.Errorf("var is %v of %d, want 0700 of 7", n.Mode, n.UID)
	}
}

func TestBlob(t *testing.T) {
	segs := sample(t)
	b := plan(t, segs, Options{}).Blob()
	want := encode(t, segs, Options{})
	if b.Size() != int64(len(want)) {
		t.Errorf("Size = %d, want %d", b.Size(), len(want))
	}
	for range 2 { // every Open starts anew; the first is abandoned half way
		half, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		io.CopyN(io.Discard, half, 1000)
		half.Close()
		r, err := b.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("blob gives %d bytes (%v), want %d", len(got), err, len(want))
		}
		r.Close()
	}
}

func TestEmpty(t *testing.T) {
	for _, c := range []string{None, Zstd} {
		raw := encode(t, []Segment{{"nothing", &tree.Tree{}}}, Options{Compress: c})
		if _, _, err := Read(bytes.NewReader(raw)); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	segs := []Segment{{"s", mk(b, tree.Node{Path: "big", Content: noise(1, 64<<20)})}}
	for _, c := range []string{None, Zstd} {
		b.Run(c, func(b *testing.B) {
			b.SetBytes(64 << 20)
			for b.Loop() {
				if _, err := plan(b, segs, Options{Compress: c}).WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
