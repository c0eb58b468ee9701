package unpack

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

// compress runs the real xz.
func compress(t *testing.T, plain []byte, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("xz", append(args, "-c", path)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewSource(1))
	for i := range b {
		b[i] = byte(r.Intn(8))
	}
	return b
}

func readAll(b []byte, form Form) ([]byte, error) {
	r, err := ReaderAt(bytes.NewReader(b), int64(len(b)), form)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// TestParallelAgreesWithXZ decompresses what the real xz wrote, in one block
// and many, with every kind of check.
func TestParallelAgreesWithXZ(t *testing.T) {
	oracle.Need(t, "xz-utils", "xz")
	plain := content(500_003)
	for _, args := range [][]string{
		{"-T1"}, {"-T2", "--block-size=100000"}, {"-T2", "--block-size=65536", "--check=none"}, {"-T1", "--block-size=300000", "--check=crc32"},
		{"-T2", "--block-size=100000", "--check=sha256"}, {"-T2", "--block-list=1,2,3,500000"},
	} {
		b := compress(t, plain, args...)
		x, err := readIndex(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%v: %v", args, err)
			continue
		}
		r := newParallel(bytes.NewReader(b), x, 3)
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v: %d blocks: %d bytes, %v", args, len(x.blocks), len(got), err)
		}
		if got, err := readAll(b, XZ); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v: %d bytes, %v", args, len(got), err)
		}
	}
	empty := compress(t, nil)
	if got, err := readAll(empty, XZ); err != nil || len(got) != 0 {
		t.Errorf("empty: %d bytes, %v", len(got), err)
	}
	two := append(compress(t, plain), compress(t, plain)...)
	if got, err := readAll(two, XZ); err != nil || len(got) != 2*len(plain) {
		t.Errorf("two streams: %d bytes, %v", len(got), err)
	}
}

// TestDamageIsFound flips one byte in every part of a file of many blocks.
func TestDamageIsFound(t *testing.T) {
	oracle.Need(t, "xz-utils", "xz")
	plain := content(20_000)
	b := compress(t, plain, "-T2", "--block-size=5000")
	for at := 0; at < len(b); at += 41 {
		bad := bytes.Clone(b)
		bad[at] ^= 0x10
		got, err := readAll(bad, XZ)
		if err == nil && !bytes.Equal(got, plain) {
			t.Errorf("byte %d of %d: wrong content without an error", at, len(b))
		}
	}
	x, err := readIndex(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 11, 12, 13, 100, int(x.blocks[1].off), int(x.blocks[2].off), len(b) - 1, len(b) - 13} {
		if _, err := readAll(b[:n], XZ); err == nil {
			t.Errorf("accepted the first %d bytes", n)
		}
	}
}

func TestCloseEarly(t *testing.T) {
	oracle.Need(t, "xz-utils", "xz")
	b := compress(t, content(200_000), "-T2", "--block-size=10000")
	for range 5 {
		r, err := ReaderAt(bytes.NewReader(b), int64(len(b)), XZ)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 15_000)); err != nil {
			t.Fatal(err)
		}
		r.Close()
		r.Close()
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Error("read after Close")
		}
	}
}

func TestMemoryBoundsWorkers(t *testing.T) {
	x := &xzIndex{blocks: make([]block, 8)}
	for plain, most := range map[int64]int{1 << 10: 8, 64 << 20: 3, 200 << 20: 1, 1 << 40: 1} {
		for i := range x.blocks {
			x.blocks[i].plain = plain
		}
		if got := x.workers(); got > most {
			t.Errorf("%d workers for blocks of %d bytes, want at most %d", got, plain, most)
		}
	}
}

// FuzzParallel: whatever the index claims, the parallel reader never gives
// other bytes than the sequential one.
func FuzzParallel(f *testing.F) {
	if _, err := exec.LookPath("xz"); err == nil {
		cmd := exec.Command("xz", "-T1", "--block-size=64", "-c")
		cmd.Stdin = bytes.NewReader(bytes.Repeat([]byte("0123456789abcdef"), 20))
		if b, err := cmd.Output(); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x00\x00\x00\x00\x1c\xdfD!\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := readIndex(bytes.NewReader(b), int64(len(b)))
		if err != nil || x.workers() < 1 {
			return
		}
		p := newParallel(bytes.NewReader(b), x, 2)
		defer p.Close()
		got, err := io.ReadAll(io.LimitReader(p, 1<<20))
		if err != nil {
			return
		}
		r, err := Reader(bytes.NewReader(b), XZ)
		if err != nil {
			return
		}
		want, err := io.ReadAll(io.LimitReader(r, 1<<20))
		if err == nil && !bytes.Equal(got, want) {
			t.Errorf("got %s, want %s", brief(got), brief(want))
		}
	})
}

func brief(b []byte) string { return fmt.Sprintf("%d bytes %.40x", len(b), b) }
