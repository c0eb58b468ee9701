package qcow2

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/blocks"
)

// disk writes a sparse disk of size bytes with data in some places.
func disk(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	f.Truncate(size)
	chunk := make([]byte, 150_000)
	r := rand.NewChaCha8([32]byte{1})
	for _, off := range []int64{0, 512 << 10, size/2 - 70_000, size - 150_000} {
		r.Read(chunk)
		f.WriteAt(chunk, off)
	}
	return f
}

func container(t testing.TB, d blocks.Disk) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	size, err := Write(f, d)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := f.Stat(); info.Size() != size {
		t.Fatalf("file has %d bytes, want %d", info.Size(), size)
	}
	return f
}

func sum(t testing.TB, r io.ReaderAt, n int64) [32]byte {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, n)); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func TestQEMUReadsTheSameDisk(t *testing.T) {
	oracle.Need(t, "qemu-utils", "qemu-img")
	for _, size := range []int64{1 << 20, 1<<30 + 512*3} {
		img := disk(t, size)
		f := container(t, blocks.Disk{R: img, Size: size})
		oracle.Run(t, "qemu-img", "check", "-f", "qcow2", f.Name())
		oracle.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", img.Name(), f.Name())
	}
}

func TestReadsWhatItWrites(t *testing.T) {
	const size = 600 << 20 // two second-level tables
	img := disk(t, size)
	f := container(t, blocks.Disk{R: img, Size: size})
	info, _ := f.Stat()
	if info.Size() > 2<<20 {
		t.Errorf("file has %d bytes for 0.6 MB of data", info.Size())
	}
	m, err := Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if m.Size() != size || sum(t, m, size) != sum(t, img, size) {
		t.Error("the disk differs")
	}
	again := container(t, blocks.Disk{R: img, Size: size})
	if sum(t, again, info.Size()) != sum(t, f, info.Size()) {
		t.Error("a second write gives other bytes")
	}
}

func TestReadsWhatQEMUWrites(t *testing.T) {
	oracle.Need(t, "qemu-utils", "qemu-img")
	const size = 64 << 20
	img := disk(t, size)
	name := filepath.Join(t.TempDir(), "qemu.qcow2")
	oracle.Run(t, "qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=4k", img.Name(), name)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	m, err := Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if sum(t, m, m.Size()) != sum(t, img, size) {
		t.Error("the disk differs")
	}
}

func TestStructs(t *testing.T) {
	if n := binary.Size(header{}); n != headerLength {
		t.Errorf("header has %d bytes, want %d", n, headerLength)
	}
}

func TestBadInput(t *testing.T) {
	if _, err := Write(nil, blocks.Disk{Size: 1000}); err == nil {
		t.Error("a disk of 1000 bytes is taken")
	}
	img := disk(t, 1<<20)
	f := container(t, blocks.Disk{R: img, Size: 1 << 20})
	good, _ := os.ReadFile(f.Name())
	for name, at := range map[string]int{"magic": 0, "version": 4, "backing file": 8, "cluster bits": 20, "size": 24, "encrypted": 32, "l1 size": 36, "l1 offset": 40, "features": 72} {
		b := bytes.Clone(good)
		b[at] ^= 0x7f
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzOpen(f *testing.F) {
	var small memory
	disk := make([]byte, 1<<20)
	disk[5], disk[700_000] = 1, 2
	if _, err := Write(&small, blocks.Disk{R: bytes.NewReader(disk), Size: 1 << 20}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(small))
	f.Add([]byte(small[:4096]))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		buf := make([]byte, 8192)
		for _, off := range []int64{0, 65536, m.Size() / 2, m.Size() - 1} {
			m.ReadAt(buf, off)
		}
	})
}

// memory is a file that grows.
type memory []byte

func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	if end := int(off) + len(b); end > len(*m) {
		*m = append(*m, make([]byte, end-len(*m))...)
	}
	return copy((*m)[off:], b), nil
}
