package vhd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/disktest"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/blocks"
)

var options = Options{ID: [16]byte{1, 2, 3}, Epoch: 1_700_000_000}

var format = disktest.Format{
	Name:  "vpc",
	Write: func(w io.WriterAt, d blocks.Disk) (int64, error) { return Write(w, d, options) },
	Open:  func(r io.ReaderAt, size int64) (disktest.Image, error) { return Open(r, size) },
}

func TestQEMUReadsTheSameDisk(t *testing.T) { format.QEMUReads(t, false, 1<<20, 1<<30+1<<20, 131<<30) }

func TestReadsWhatItWrites(t *testing.T) {
	format.RoundTrip(t, 601<<20, 9<<20) // the last block is a half
}

func TestReadsWhatQEMUWrites(t *testing.T) { format.ReadsQEMU(t, "force_size") }

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
	f := format.Container(t, blocks.Disk{R: disktest.Disk(t, 1<<20), Size: 1 << 20})
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
	f := format.Container(t, blocks.Disk{R: disktest.Disk(t, 1<<20), Size: 1 << 20})
	good, _ := os.ReadFile(f.Name())
	for _, at := range []int{0, 16, 48, 60, 64, 512, 512 + 16, 512 + 28, 512 + 32, 512 + 36} {
		b := bytes.Clone(good)
		b[at] ^= 0x7f
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("byte %d: taken", at)
		}
	}
}

// TestFooters: the footer is read at both ends, and both must say the same.
func TestFooters(t *testing.T) {
	f := format.Container(t, blocks.Disk{R: disktest.Disk(t, 1<<20), Size: 1 << 20})
	good, _ := os.ReadFile(f.Name())
	end := len(good) - 512
	other := bytes.Clone(good)
	copy(other[end:], encodeFooter(1<<20, Options{ID: [16]byte{9}, Epoch: options.Epoch})) // with a right checksum
	torn := bytes.Clone(good)
	torn[end+64] ^= 1
	for want, b := range map[string][]byte{
		fmt.Sprintf("offset %d: the footer says something else", end): other,
		fmt.Sprintf("offset %d: checksum", end+64):                    torn,
		fmt.Sprintf("footer: offset %d: ", end-512+64):                good[:end], // cut off
	} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
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
		if len(b) >= 512 {
			b = append(b, b[:512]...)
		}
		m, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		disktest.Read(m)
	})
}
