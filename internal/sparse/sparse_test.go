package sparse

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
)

// holes is a file of random runs and random holes, and what it reads as.
func holes(t *testing.T, seed int64) (*os.File, []byte) {
	t.Helper()
	rnd := rand.New(rand.NewSource(seed))
	want := make([]byte, 1<<20+rnd.Intn(1<<20))
	f, err := os.Create(filepath.Join(t.TempDir(), "holes"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	for range rnd.Intn(8) {
		off := rnd.Intn(len(want))
		part := want[off:min(len(want), off+rnd.Intn(1<<18))]
		rnd.Read(part)
		if _, err := f.WriteAt(part, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	return f, want
}

func TestCopy(t *testing.T) {
	for seed := range int64(40) {
		f, want := holes(t, seed)
		rnd := rand.New(rand.NewSource(-seed))
		for range 10 {
			off := rnd.Intn(len(want))
			n := rnd.Intn(len(want) - off + 1)
			var got bytes.Buffer
			if err := Copy(&got, f, int64(off), int64(n)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want[off:off+n]) {
				t.Fatalf("seed %d: %d bytes at %d are not what the file reads as", seed, n, off)
			}
		}
	}
}

// TestDataLeavesOutHoles keeps the reason for this package: without it every
// answer would still be right, only slow.
func TestDataLeavesOutHoles(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size, at = int64(64 << 20), int64(10 << 20)
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("data"), at); err != nil {
		t.Fatal(err)
	}
	runs, err := Data(f, 1<<20, size-1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) != 1 || runs[0].Off > at-1<<20 || runs[0].End < at+4-1<<20 {
		t.Fatalf("runs %v do not hold offset %d", runs, at-1<<20)
	}
	if n := runs[0].End - runs[0].Off; n > 1<<20 {
		t.Errorf("%d bytes of data for 4: %s has no holes", n, t.TempDir())
	}
}

func TestCopyFails(t *testing.T) {
	f, want := holes(t, 3)
	full := errors.New("full")
	if err := Copy(failing{full}, f, 0, int64(len(want))); !errors.Is(err, full) {
		t.Errorf("writer's error: got %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Copy(io.Discard, f, 0, 1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed file: got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
