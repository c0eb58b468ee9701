package gpt

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"
)

// FuzzRead reads hostile disks. The first fuzzed byte may ask for the
// checksums to be made right, so that the fuzzer gets behind them.
func FuzzRead(f *testing.F) {
	for _, ss := range []int{512, 4096} {
		const size = 24 * mib
		m := memory{}
		if err := testTable(ss, size).Write(m); err != nil {
			f.Fatal(err)
		}
		head := make([]byte, 6*4096)
		m.ReadAt(head, 0)
		f.Add(byte(0), head)
		f.Add(byte(1), head)
		f.Add(byte(2), head[:2*ss])
	}
	f.Fuzz(func(t *testing.T, fix byte, disk []byte) {
		if len(disk) > 1<<20 {
			return
		}
		if fix > 0 {
			disk = bytes.Clone(disk)
			fixSums(disk, []int{512, 4096}[fix%2])
		}
		const size = 24 * mib
		r := padded(disk)
		tab, info, err := Read(r, size)
		if err != nil {
			return
		}
		for _, p := range tab.Partitions {
			if p.Start < 0 || p.Size <= 0 || p.End() > tab.Size {
				t.Fatalf("partition outside the disk: %+v", p)
			}
		}
		if tab.Validate() != nil {
			return
		}
		m := memory{}
		if err := tab.Write(m); err != nil {
			t.Fatalf("valid table from %+v cannot be written: %v", info, err)
		}
		again, _, err := Read(m, size)
		if err != nil || !reflect.DeepEqual(tab, again) {
			t.Fatalf("read, write, read: %v\n%+v\n%+v", err, tab, again)
		}
	})
}

// padded reads as its bytes followed by zeros.
type padded []byte

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off < int64(len(p)) {
		copy(b, p[off:])
	}
	return len(b), nil
}

// fixSums makes both checksums of the header at sector 1 right where its fields allow.
func fixSums(disk []byte, ss int) {
	if len(disk) < 2*ss {
		return
	}
	h, le := disk[ss:2*ss], binary.LittleEndian
	n := uint64(le.Uint32(h[80:])) * uint64(le.Uint32(h[84:]))
	if at := le.Uint64(h[72:]); n <= 1<<20 && at < 1<<20 {
		array := make([]byte, n)
		padded(disk).ReadAt(array, int64(at)*int64(ss))
		le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
	}
	if size := le.Uint32(h[12:]); int64(size) <= int64(ss) && size >= 20 {
		clear(h[16:20])
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:size]))
	}
}
