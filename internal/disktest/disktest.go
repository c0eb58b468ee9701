// Package disktest tests containers of virtual disks: what every such format
// promises, checked with ingot's reader and with QEMU's.
//
//	var format = disktest.Format{Name: "qcow2", Write: Write, Open: open}
//
//	func TestReadsWhatItWrites(t *testing.T) { format.RoundTrip(t, 600<<20, 2<<20) }
//
// It has the disks that those tests write, and for all formats writers and
// contents that fail, too. It is for tests only.
package disktest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/blocks"
	"github.com/ingot-os/ingot/partition/tree"
)

// Image is a disk in a container.
type Image interface {
	io.ReaderAt
	Size() int64 // bytes
}

// Format is a kind of container.
type Format struct {
	Name  string // as QEMU calls it
	Write func(io.WriterAt, blocks.Disk) (int64, error)
	Open  func(io.ReaderAt, int64) (Image, error)
}

// Disk is a sparse disk of size bytes, 1 MiB at least, with data in some places.
func Disk(t testing.TB, size int64) *os.File {
	t.Helper()
	f := create(t, "disk.img")
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 150_000)
	r := rand.NewChaCha8([32]byte{1})
	for _, off := range []int64{0, 512 << 10, size/2 - 70_000, size - 150_000} {
		r.Read(chunk)
		if _, err := f.WriteAt(chunk, off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// Data is where Disk writes; nil, which is everywhere, for a small disk.
func Data(size int64) []blocks.Range {
	if size < 2<<20 {
		return nil
	}
	return []blocks.Range{{Off: 0, End: 1 << 20}, {Off: size/2 - 1<<18, End: size/2 + 1<<18}, {Off: size - 1<<18, End: size}}
}

func create(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Sum is the SHA-256 of the first n bytes.
func Sum(t testing.TB, r io.ReaderAt, n int64) [32]byte {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, n)); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// Container writes a disk to a file.
func (x Format) Container(t testing.TB, d blocks.Disk) *os.File {
	t.Helper()
	f := create(t, "disk."+x.Name)
	size, err := x.Write(f, d)
	if err != nil {
		t.Fatal(err)
	}
	if got := length(t, f); got != size {
		t.Fatalf("file has %d bytes, want %d", got, size)
	}
	return f
}

func length(t testing.TB, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// open reads a container that must be good.
func (x Format) open(t testing.TB, f *os.File) Image {
	t.Helper()
	m, err := x.Open(f, length(t, f))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// RoundTrip checks that a disk of size bytes is read as it was written, from a
// file of at most most bytes, and that a second write gives the same file.
func (x Format) RoundTrip(t *testing.T, size, most int64) {
	t.Helper()
	img := Disk(t, size)
	f := x.Container(t, blocks.Disk{R: img, Size: size})
	n := length(t, f)
	if n > most {
		t.Errorf("file has %d bytes for 0.6 MB of data", n)
	}
	if m := x.open(t, f); m.Size() != size || Sum(t, m, size) != Sum(t, img, size) {
		t.Error("the disk differs")
	}
	again := x.Container(t, blocks.Disk{R: img, Size: size})
	if Sum(t, again, n) != Sum(t, f, n) {
		t.Error("a second write gives other bytes")
	}
}

// QEMUReads checks with QEMU disks of some sizes; check says that qemu-img knows
// how to check the format.
func (x Format) QEMUReads(t *testing.T, check bool, sizes ...int64) {
	t.Helper()
	qemu := oracle.Need(t, "qemu-utils", "qemu-img")
	for _, size := range sizes {
		img := Disk(t, size)
		f := x.Container(t, blocks.Disk{R: img, Size: size, Data: Data(size)})
		var info struct {
			Size int64 `json:"virtual-size"`
		}
		if err := json.Unmarshal([]byte(oracle.Run(t, qemu, "info", "--output=json", "-f", x.Name, f.Name())), &info); err != nil || info.Size != size {
			t.Errorf("qemu sees %d bytes, want %d (%v)", info.Size, size, err)
		}
		if check {
			oracle.Run(t, qemu, "check", "-f", x.Name, f.Name())
		}
		if size <= 2<<30 { // compare reads the holes, too
			oracle.Run(t, qemu, "compare", "-f", "raw", "-F", x.Name, img.Name(), f.Name())
		}
	}
}

// ReadsQEMU checks that what QEMU writes with an option is read.
func (x Format) ReadsQEMU(t *testing.T, option string) {
	t.Helper()
	const size = 64 << 20
	img := Disk(t, size)
	f := create(t, "qemu."+x.Name)
	oracle.Run(t, oracle.Need(t, "qemu-utils", "qemu-img"), "convert", "-O", x.Name, "-o", option, img.Name(), f.Name())
	if m := x.open(t, f); Sum(t, m, m.Size()) != Sum(t, img, size) {
		t.Error("the disk differs")
	}
}

// Read reads in some places of a disk, for what a fuzz target makes: it only has
// to end.
func Read(m Image) {
	buf := make([]byte, 8192)
	for _, off := range []int64{0, 65536, m.Size() / 2, m.Size() - 1} {
		m.ReadAt(buf, off)
	}
}

// Memory is a file that grows.
type Memory []byte

// WriteAt implements io.WriterAt.
func (m *Memory) WriteAt(b []byte, off int64) (int, error) {
	if end := int(off) + len(b); end > len(*m) {
		*m = append(*m, make([]byte, end-len(*m))...)
	}
	return copy((*m)[off:], b), nil
}

// Noise is n bytes that no compressor makes shorter; the same for the same seed.
func Noise(seed uint64, n int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// Lying is a content that says another size than it has.
type Lying struct {
	tree.Bytes
	N int64
}

// Size implements tree.Blob.
func (l Lying) Size() int64 { return l.N }

// Full is a disk that ends after some bytes.
type Full int64

// ErrFull is what writes beyond a Full disk give.
var ErrFull = errors.New("no space left")

// WriteAt implements io.WriterAt.
func (f Full) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(f) {
		return 0, ErrFull
	}
	return len(p), nil
}
