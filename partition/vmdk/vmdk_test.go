package vmdk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

var options = Options{CID: 0x12345678}

// data is where disk writes.
func data(size int64) []blocks.Range {
	if size < 2<<20 {
		return nil
	}
	return []blocks.Range{{Off: 0, End: 1 << 20}, {Off: size/2 - 1<<18, End: size/2 + 1<<18}, {Off: size - 1<<18, End: size}}
}

func container(t testing.TB, d blocks.Disk) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.vmdk"))
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
		oracle.Run(t, "qemu-img", "check", "-f", "vmdk", f.Name())
		if size > 2<<30 { // qemu-img compare reads the holes, too
			continue
		}
		oracle.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", img.Name(), f.Name())
	}
}

func TestReadsWhatItWrites(t *testing.T) {
	const size = 601 << 20 // 19 tables
	img := disk(t, size)
	f := container(t, blocks.Disk{R: img, Size: size})
	info, _ := f.Stat()
	if info.Size() > 3<<20 {
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
	name := filepath.Join(t.TempDir(), "qemu.vmdk")
	oracle.Run(t, "qemu-img", "convert", "-O", "vmdk", "-o", "subformat=monolithicSparse", img.Name(), name)
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
	out, err := exec.Command("qemu-img", "info", "--output=json", "-f", "vmdk", name).Output()
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
	if n := binary.Size(header{}); n != 512 {
		t.Errorf("header has %d bytes, want 512", n)
	}
	if n := binary.Size(marker{}); n != 512 {
		t.Errorf("marker has %d bytes, want 512", n)
	}
}

func TestSameBytesForAnyWorkers(t *testing.T) {
	img := disk(t, 40<<20)
	want := sha256.Sum256(nil)
	for i, workers := range []int{1, 2, 7} {
		var m memory
		if _, err := Write(&m, blocks.Disk{R: img, Size: 40 << 20}, Options{Workers: workers}); err != nil {
			t.Fatal(err)
		}
		got := sha256.Sum256(m)
		if i == 0 {
			want = got
		}
		if got != want {
			t.Errorf("%d workers: other bytes than with one", workers)
		}
	}
}

func TestDescriptorNamesNobody(t *testing.T) {
	f := container(t, blocks.Disk{R: disk(t, 1<<20), Size: 1 << 20})
	info, _ := f.Stat()
	m, err := Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CID=12345678\n", "parentCID=ffffffff\n", `createType="streamOptimized"`, "RW 2048 SPARSE"} {
		if !strings.Contains(m.Descriptor(), want) {
			t.Errorf("no %q in\n%s", want, m.Descriptor())
		}
	}
	if !m.Compressed() {
		t.Error("not compressed")
	}
}

func TestBadInput(t *testing.T) {
	for _, size := range []int64{0, -1, 1000, 1<<20 + 512, 3 << 40} {
		if _, err := Write(nil, blocks.Disk{Size: size}, Options{}); err == nil {
			t.Errorf("a disk of %d bytes is taken", size)
		}
	}
	f := container(t, blocks.Disk{R: disk(t, 1<<20), Size: 1 << 20})
	good, _ := os.ReadFile(f.Name())
	for _, at := range []int{0, 4, 18, 22, 30, 44, 60, 77} { // of the footer, which counts
		b := bytes.Clone(good)
		b[len(b)-1024+at] ^= 0x7f
		if at == 0 {
			b[0] ^= 0x7f
		}
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
