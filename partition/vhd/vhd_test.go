package vhd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
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

var options = Options{ID: [16]byte{1, 2, 3}, Epoch: 1_700_000_000}

// data is where disk writes.
func data(size int64) []blocks.Range {
	if size < 2<<20 {
		return nil
	}
	return []blocks.Range{{Off: 0, End: 1 << 20}, {Off: size/2 - 1<<18, End: size/2 + 1<<18}, {Off: size - 1<<18, End: size}}
}

func container(t testing.TB, d blocks.Disk) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.vhd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	size, err := Write(f, d, options)
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
	for _, size := range []int64{1 << 20, 1<<30 + 1<<20, 131 << 30} {
		img := disk(t, size)
		f := container(t, blocks.Disk{R: img, Size: size, Data: data(size)})
		if got := virtualSize(t, f.Name()); got != size {
			t.Errorf("qemu sees %d bytes, want %d", got, size)
		}
		if size > 2<<30 { // qemu-img compare reads the holes, too
			continue
		}
		oracle.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "vpc", img.Name(), f.Name())
	}
}

func TestReadsWhatItWrites(t *testing.T) {
	const size = 601 << 20 // the last block is a half
	img := disk(t, size)
	f := container(t, blocks.Disk{R: img, Size: size})
	info, _ := f.Stat()
	if info.Size() > 9<<20 {
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
	name := filepath.Join(t.TempDir(), "qemu.vhd")
	oracle.Run(t, "qemu-img", "convert", "-O", "vpc", "-o", "force_size", img.Name(), name)
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

func virtualSize(t testing.TB, name string) int64 {
	t.Helper()
	out, err := exec.Command("qemu-img", "info", "--output=json", "-f", "vpc", name).Output()
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err == nil {
		err = json.Unmarshal(out, &info)
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size
}

func TestStructs(t *testing.T) {
	if n := binary.Size(footer{}); n != 512 {
		t.Errorf("footer has %d bytes, want 512", n)
	}
	if n := binary.Size(dynamicHeader{}); n != 1024 {
		t.Errorf("dynamic header has %d bytes, want 1024", n)
	}
}

// Without force_size qemu-img rounds the disk up to what its geometry holds.
func TestGeometry(t *testing.T) {
	oracle.Need(t, "qemu-utils", "qemu-img")
	for _, mib := range []int64{1, 30, 100, 757, 5000, 40_000} {
		name := filepath.Join(t.TempDir(), "x.vhd")
		oracle.Run(t, "qemu-img", "create", "-q", "-f", "vpc", name, fmt.Sprintf("%dM", mib))
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var f footer
		binary.Read(bytes.NewReader(b), binary.BigEndian, &f)
		if c, h, s := geometry(int64(f.CurrentSize / 512)); c != f.Cylinders || h != f.Heads || s != f.SectorsPerTrack {
			t.Errorf("%d MiB: got %d/%d/%d, qemu has %d/%d/%d", mib, c, h, s, f.Cylinders, f.Heads, f.SectorsPerTrack)
		}
	}
}

func TestHeadSaysWhatWasGiven(t *testing.T) {
	f := container(t, blocks.Disk{R: disk(t, 1<<20), Size: 1 << 20})
	info, _ := f.Stat()
	m, err := Open(f, info.Size())
	if err != nil || m.ID() != options.ID || m.Created() != options.Epoch {
		t.Fatalf("got %x, %d, %v", m.ID(), m.Created(), err)
	}
	b, _ := os.ReadFile(f.Name())
	if !bytes.Equal(b[:512], b[len(b)-512:]) {
		t.Error("the footer is not the same at both ends")
	}
	if encodeFooter(1<<20, Options{Epoch: 5})[27] != 0 {
		t.Error("a time before 2000 is not cut")
	}
}

func TestBadInput(t *testing.T) {
	for _, size := range []int64{0, -1, 1000, 1<<20 + 512, 2041 << 30} {
		if _, err := Write(nil, blocks.Disk{Size: size}, Options{}); err == nil {
			t.Errorf("a disk of %d bytes is taken", size)
		}
	}
	f := container(t, blocks.Disk{R: disk(t, 1<<20), Size: 1 << 20})
	good, _ := os.ReadFile(f.Name())
	for _, at := range []int{0, 16, 48, 60, 64, 512, 512 + 16, 512 + 28, 512 + 32, 512 + 36} {
		b := bytes.Clone(good)
		b[at] ^= 0x7f
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("byte %d: taken", at)
		}
	}
}

func FuzzOpen(f *testing.F) {
	var small memory
	disk := make([]byte, 1<<20)
	disk[5], disk[700_000] = 1, 2
	if _, err := Write(&small, blocks.Disk{R: bytes.NewReader(disk), Size: 1 << 20}, options); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(small[:2048+4096]))
	f.Add([]byte(small[:1536]))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		for _, s := range []struct{ from, to, sum int }{{0, 512, 64}, {512, 1536, 512 + 36}} { // or nothing gets past them
			if len(b) >= s.to {
				clear(b[s.sum : s.sum+4])
				binary.BigEndian.PutUint32(b[s.sum:], checksum(b[s.from:s.to]))
			}
		}
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
