package vmdk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/disktest"
	"github.com/ingot-os/ingot/partition/blocks"
)

var options = Options{CID: 0x12345678}

var format = disktest.Format{
	Name:  "vmdk",
	Write: func(w io.WriterAt, d blocks.Disk) (int64, error) { return Write(w, d, options) },
	Open:  func(r io.ReaderAt, size int64) (disktest.Image, error) { return Open(r, size) },
}

func TestQEMUReadsTheSameDisk(t *testing.T) { format.QEMUReads(t, true, 1<<20, 1<<30+1<<20, 131<<30) }

func TestReadsWhatItWrites(t *testing.T) {
	format.RoundTrip(t, 601<<20, 3<<20) // 19 tables
}

func TestReadsWhatQEMUWrites(t *testing.T) { format.ReadsQEMU(t, "subformat=monolithicSparse") }

func TestStructs(t *testing.T) {
	if n := binary.Size(header{}); n != 512 {
		t.Errorf("header has %d bytes, want 512", n)
	}
	if n := binary.Size(marker{}); n != 512 {
		t.Errorf("marker has %d bytes, want 512", n)
	}
}

func TestSameBytesForAnyWorkers(t *testing.T) {
	img := disktest.Disk(t, 40<<20)
	want := sha256.Sum256(nil)
	for i, workers := range []int{1, 2, 7} {
		var m disktest.Memory
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
	f := format.Container(t, blocks.Disk{R: disktest.Disk(t, 1<<20), Size: 1 << 20})
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
	f := format.Container(t, blocks.Disk{R: disktest.Disk(t, 1<<20), Size: 1 << 20})
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
	var small disktest.Memory
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
		disktest.Read(m)
	})
}
