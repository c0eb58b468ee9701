package frames

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ingot-os/ingot/internal/disktest"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/blocks"
)

// disk has data in its first, third and last frame; frame 5 has one byte.
func disk() []byte {
	b := make([]byte, 11*Size+1<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b[:100_000])
	r.Read(b[2*Size+5 : 2*Size+Size/2])
	b[5*Size+77] = 1
	r.Read(b[len(b)-4096:])
	return b
}

func written(t testing.TB, b []byte, workers int) disktest.Memory {
	t.Helper()
	var m disktest.Memory
	n, err := Write(&m, blocks.Disk{R: bytes.NewReader(b), Size: int64(len(b))}, workers)
	if err != nil || n != int64(len(m)) {
		t.Fatalf("%d of %d bytes, %v", n, len(m), err)
	}
	return m
}

func TestReadsWhatItWrites(t *testing.T) {
	want := disk()
	one := written(t, want, 1)
	for _, workers := range []int{2, 5} {
		if !bytes.Equal(one, written(t, want, workers)) {
			t.Errorf("%d workers: other bytes than with one", workers)
		}
	}
	var seen atomic.Int64
	m, err := Open(bytes.NewReader(one), int64(len(one)), Options{Check: func(off int64, b []byte) error {
		seen.Add(1)
		if !bytes.Equal(b, want[off:off+int64(len(b))]) {
			return errors.New("differs")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(m, 0, m.Size()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the disk differs: %d bytes, %v", len(got), err)
	}
	if seen.Load() != m.Frames() || m.Frames() != 12 {
		t.Errorf("%d of %d frames were checked", seen.Load(), m.Frames())
	}
	var holes []int64
	for off := int64(0); off < m.Size(); {
		hole, until := m.Hole(off)
		if hole {
			holes = append(holes, off/Size)
		}
		off = until
	}
	if len(holes) != 8 || holes[0] != 1 || holes[7] != 10 {
		t.Errorf("holes are the frames %v", holes)
	}
	for _, off := range []int64{-1, m.Size(), m.Size() + Size} { // callers step from hole to hole
		if hole, until := m.Hole(off); hole || until < m.Size() {
			t.Errorf("at %d: %v until %d", off, hole, until)
		}
	}
}

func TestCheckKeepsBytesBack(t *testing.T) {
	b := written(t, disk(), 0)
	bad := errors.New("not these")
	m, err := Open(bytes.NewReader(b), int64(len(b)), Options{Check: func(off int64, _ []byte) error {
		if off == 2*Size {
			return bad
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.ReadAt(make([]byte, 100), 2*Size-50); n != 50 || !errors.Is(err, bad) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestZstdReadsTheSameDisk(t *testing.T) {
	oracle.Need(t, "zstd", "zstd")
	want := disk()
	name := filepath.Join(t.TempDir(), "disk.img.zst")
	if err := os.WriteFile(name, written(t, want, 0), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("zstd", "-t", name).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	got, err := exec.Command("zstd", "-dc", name).Output()
	if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
		t.Errorf("zstd gives other bytes: %v", err)
	}
}

func TestDamage(t *testing.T) {
	good := written(t, disk(), 0)
	try := func(b []byte) error {
		m, err := Open(bytes.NewReader(b), int64(len(b)), Options{})
		if err == nil {
			_, err = io.Copy(io.Discard, io.NewSectionReader(m, 0, m.Size()))
		}
		return err
	}
	if err := try(good); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, 9, 50, len(good) - 3, len(good)} {
		if err := try(good[:len(good)-cut]); !errors.Is(err, ErrNoTable) {
			t.Errorf("cut by %d: %v", cut, err)
		}
	}
	for _, at := range []int{0, 5000, 100_050, len(good) - 9, len(good) - 20, len(good) - 24, len(good) - 9 - 12*8 - 8, len(good) - 9 - 12*8 - 4} {
		b := bytes.Clone(good)
		b[at] ^= 0x10
		if err := try(b); err == nil {
			t.Errorf("byte %d changed: taken", at)
		}
	}
}

func FuzzOpen(f *testing.F) {
	small := make([]byte, 10_000)
	small[4] = 1
	f.Add([]byte(written(f, small, 1)))
	f.Add([]byte(written(f, make([]byte, 2*Size+5), 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Open(bytes.NewReader(b), int64(len(b)), Options{Workers: 1})
		if err != nil {
			return
		}
		buf := make([]byte, 5000)
		for _, off := range []int64{0, m.Size() / 2, m.Size() - 1} {
			m.Hole(off)
			m.ReadAt(buf, off)
		}
	})
}
