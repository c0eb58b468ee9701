package qcow2

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"testing"

	"github.com/ingot-os/ingot/internal/disktest"
	"github.com/ingot-os/ingot/partition/blocks"
)

var format = disktest.Format{Name: "qcow2", Write: Write, Open: func(r io.ReaderAt, size int64) (disktest.Image, error) { return Open(r, size) }}

func TestQEMUReadsTheSameDisk(t *testing.T) { format.QEMUReads(t, true, 1<<20, 1<<30+512*3) }

func TestReadsWhatItWrites(t *testing.T) {
	format.RoundTrip(t, 600<<20, 2<<20) // two second-level tables
}

func TestReadsWhatQEMUWrites(t *testing.T) { format.ReadsQEMU(t, "cluster_size=4k") }

func TestStructs(t *testing.T) {
	if n := binary.Size(header{}); n != headerLength {
		t.Errorf("header has %d bytes, want %d", n, headerLength)
	}
}

func TestBadInput(t *testing.T) {
	if _, err := Write(nil, blocks.Disk{Size: 1000}); err == nil {
		t.Error("a disk of 1000 bytes is taken")
	}
	img := disktest.Disk(t, 1<<20)
	f := format.Container(t, blocks.Disk{R: img, Size: 1 << 20})
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
	var small disktest.Memory
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
		disktest.Read(m)
	})
}
