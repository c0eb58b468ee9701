package updater

import (
	"bytes"
	"os"
	"sync"
	"testing"

	"github.com/ingot-os/ingot/internal/agent/install"
	"github.com/ingot-os/ingot/internal/powercut"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition"
)

// request is one that a disk got; of a flush b is nil.
type request struct {
	off int64
	b   []byte
}

// record installs, and gives what the disk was asked for.
func (s *site) record() (ops []request) {
	s.t.Helper()
	var mu sync.Mutex
	s.tap = func(off int64, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, request{off, bytes.Clone(b)})
	}
	defer func() { s.tap = nil }()
	if st := s.install(); st.Phase != updateapi.InstallDone {
		s.t.Fatalf("%+v", st)
	}
	return ops
}

const sector = 512

// TestInstallCut: power goes after each request of an install, and within those to the
// first and last MiB after any sectors of it. A disk that firmware finds a partition table on
// holds the whole release; each other one is taken for an unfinished install, or for
// what was there before. From there an install comes to its end.
func TestInstallCut(t *testing.T) {
	s := newSite(t)
	size := s.layout.Size + 8*mib
	ops := s.record()
	last := len(ops) - 1
	for ops[last].b == nil {
		last--
	}
	if ops[last].off != 0 || len(ops[last].b) != 4096 {
		t.Fatalf("the last request writes %d bytes at %d", len(ops[last].b), ops[last].off)
	}
	disk := powercut.NewBlock(size)
	look := cutLook{t, disk, size, last, map[install.Content]int{}}
	again := map[int]bool{1: true, last / 4: true, last / 2: true, last: true}
	for i, op := range ops[:last+1] {
		if again[i] {
			s.resume(disk, size)
		}
		if op.b == nil {
			continue
		}
		if edge := op.off < mib || op.off >= size-mib; edge {
			for _, some := range subsets(len(op.b) / sector) {
				before := make([]byte, len(op.b))
				disk.ReadAt(before, op.off)
				for _, k := range some {
					disk.WriteAt(op.b[k*sector:(k+1)*sector], op.off+int64(k*sector))
				}
				look.check(i, "some sectors")
				disk.WriteAt(before, op.off)
			}
		}
		disk.WriteAt(op.b, op.off)
		look.check(i, "all of it")
	}
	s.copyTo(disk, size)
	s.check()
	t.Logf("%d requests, states %v", last+1, look.states)
	for _, c := range []install.Content{install.Blank, install.Unfinished, install.Unused} {
		if look.states[c] == 0 {
			t.Errorf("no cut has left %s", c)
		}
	}
}

// cutLook looks at a disk that has lost power.
type cutLook struct {
	t      *testing.T
	disk   *powercut.Block
	size   int64
	last   int // request of the install
	states map[install.Content]int
}

// check wants what is on the disk after request i to be what firmware makes of it.
func (l cutLook) check(i int, where string) {
	l.t.Helper()
	c, err := install.Look(l.disk, l.size)
	if err != nil {
		l.t.Fatal(err)
	}
	l.states[c]++
	_, unreadable := partition.Read(l.disk, l.size)
	mbr := make([]byte, sector)
	l.disk.ReadAt(mbr, 0)
	starts := unreadable == nil && mbr[510] == 0x55 && mbr[511] == 0xaa
	switch {
	case starts && i < l.last:
		l.t.Errorf("request %d of %d, %s: a firmware finds partitions", i, l.last, where)
	case starts != (c == install.Unused):
		l.t.Errorf("request %d of %d, %s: %s, and partitions are found: %v", i, l.last, where, c, starts)
	case !starts && c != install.Unfinished && i > 0:
		l.t.Errorf("request %d of %d, %s: %s", i, l.last, where, c)
	}
}

// subsets of n sectors: all where they are few, else each beginning and each end of them.
func subsets(n int) (out [][]int) {
	if n <= 8 {
		for bits := range 1 << n {
			var some []int
			for k := range n {
				if bits>>k&1 == 1 {
					some = append(some, k)
				}
			}
			out = append(out, some)
		}
		return out
	}
	all := make([]int, n)
	for k := range all {
		all[k] = k
	}
	for k := 0; k < n; k += n / 8 {
		out = append(out, all[:k], all[k:])
	}
	return out
}

// copyTo puts a state on the site's disk.
func (s *site) copyTo(disk *powercut.Block, size int64) {
	s.t.Helper()
	b := make([]byte, size)
	disk.ReadAt(b, 0)
	if err := os.WriteFile(s.disk, b, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// resume installs on what a cut has left.
func (s *site) resume(disk *powercut.Block, size int64) {
	s.t.Helper()
	s.copyTo(disk, size)
	if st := s.install(); st.Phase != updateapi.InstallDone {
		s.t.Fatalf("after a cut: %+v", st)
	}
	s.check()
}
