package initramfs

import (
	"io/fs"
	"math/rand"
	"testing"

	"github.com/ingot-os/ingot/partition/tree"
)

const epoch = 1700000000

func mk(t testing.TB, nodes ...tree.Node) *tree.Tree {
	t.Helper()
	tr := &tree.Tree{}
	for _, n := range nodes {
		if err := tr.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func file(path, content string) tree.Node {
	return tree.Node{Path: path, Mode: 0o644, Content: tree.Bytes(content)}
}

func noise(seed int64, n int) tree.Bytes {
	b := make(tree.Bytes, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

// sample has one of everything the writer accepts, in two segments.
func sample(t testing.TB) []Segment {
	long := "deep"
	for range 18 {
		long += "/abcdefghij"
	}
	return []Segment{
		{"base", mk(t,
			tree.Node{Path: "init", Mode: 0o755, Content: noise(1, 100001)},
			tree.Node{Path: "bin/su", Mode: 0o755 | fs.ModeSetuid, Content: tree.Bytes("su")},
			tree.Node{Path: "tmp", Mode: fs.ModeDir | 0o777 | fs.ModeSticky},
			tree.Node{Path: "bin/sh", Mode: fs.ModeSymlink, Target: "bb"},
			tree.Node{Path: "bin/z-first", Mode: 0o640, UID: 12, GID: 34, Content: noise(2, 777)},
			tree.Node{Path: "bin/a-other", Mode: 0o640, UID: 12, GID: 34, Link: "bin/z-first"},
			tree.Node{Path: "zz/third", Mode: 0o640, UID: 12, GID: 34, Link: "bin/z-first"},
			tree.Node{Path: "run/pipe", Mode: 0o600 | fs.ModeNamedPipe},
			file("etc/empty", ""),
			file("etc/a.b", "x"), file("etc/a/b", "directory sorts before the dot"),
			file(long+"/x", "long path"),
		)},
		{"files", mk(t, file("etc/hostname", "h\n"), file("etc/ünï", "utf-8"), file("opt/big", string(noise(3, 3<<20))))},
	}
}

func plan(t testing.TB, segs []Segment, o Options) *Archive {
	t.Helper()
	if o.Epoch == 0 {
		o.Epoch = epoch
	}
	a, err := Plan(segs, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
