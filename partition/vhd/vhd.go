// Package vhd writes and reads disks in Microsoft's Virtual Hard Disk format,
// the dynamic kind, to the "Virtual Hard Disk Image Format Specification" 1.0
// of 2006. Hyper-V and VirtualBox attach the file as it is; Azure wants the
// fixed kind, which its upload tools and qemu-img make of it. Disks have
// sectors of 512 bytes and up to 2040 GiB.
//
// Time and unique id are arguments, and blocks of zeros are left out by their
// bytes alone, so the same disk gives the same file. The creator application is
// "win ": QEMU and others take the size of a disk from its geometry, which is
// smaller, unless they know the creator as one that means the size field.
//
//	size, err := vhd.Write(f, blocks.Disk{R: img, Size: n}, vhd.Options{ID: id, Epoch: t})
//	img, err := vhd.Open(f, size) // an io.ReaderAt of the disk
package vhd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/blocks"
)

// Magic begins the file of a dynamic disk.
const Magic = "conectix"

const (
	sector    = 512
	block     = 2 << 20 // what Hyper-V writes; others are read by few
	bitmap    = block / sector / 8
	tableOff  = 1536
	maxSize   = 2040 << 30
	unused    = 0xffffffff
	dynamic   = 3
	epoch2000 = 946684800 // 2000-01-01 00:00:00 UTC in Unix time
)

// footer is the last sector of the file, and a copy of it the first.
type footer struct {
	Cookie             [8]byte
	Features           uint32 // bit 1 is reserved and always set
	FileFormatVersion  uint32
	DataOffset         uint64 // of the dynamic header
	TimeStamp          uint32 // seconds since 2000
	CreatorApplication [4]byte
	CreatorVersion     uint32
	CreatorHostOS      [4]byte
	OriginalSize       uint64
	CurrentSize        uint64
	Cylinders          uint16
	Heads              uint8
	SectorsPerTrack    uint8
	DiskType           uint32
	Checksum           uint32
	UniqueID           [16]byte
	SavedState         uint8
	Reserved           [427]byte
}

// dynamicHeader follows the copy of the footer.
type dynamicHeader struct {
	Cookie          [8]byte
	DataOffset      uint64 // reserved, all ones
	TableOffset     uint64
	HeaderVersion   uint32
	MaxTableEntries uint32
	BlockSize       uint32
	Checksum        uint32
	Parent          [16 + 4 + 4 + 512 + 8*24]byte // of differencing disks
	Reserved        [256]byte
}

// Options are what a file says beside the disk.
type Options struct {
	ID    [16]byte // unique id of the disk
	Epoch int64    // time of creation in Unix seconds; before 2000 it is 2000
}

// Write writes the disk to w, which is empty, and returns the size of the file
// in bytes. The size of the disk is a multiple of 1 MiB: Azure takes no other.
func Write(w io.WriterAt, d blocks.Disk, o Options) (int64, error) {
	if d.Size <= 0 || d.Size%(1<<20) != 0 || d.Size > maxSize {
		return 0, fmt.Errorf("write vhd: disk of %d bytes is not a multiple of 1 MiB up to 2040 GiB", d.Size)
	}
	size, err := write(w, d, o)
	if err != nil {
		return 0, fmt.Errorf("write vhd: %w", err)
	}
	return size, nil
}

func write(w io.WriterAt, d blocks.Disk, o Options) (int64, error) {
	count := (d.Size + block - 1) / block
	table := bytes.Repeat([]byte{0xff}, int(count*4+sector-1)/sector*sector)
	next := aligned(int64(tableOff + len(table)))
	full := bytes.Repeat([]byte{0xff}, bitmap) // all sectors of the block are in the file
	err := d.Each(block, func(i int64, b []byte) error {
		binary.BigEndian.PutUint32(table[4*i:], uint32(next/sector))
		if _, err := w.WriteAt(full, next); err != nil {
			return err
		}
		_, err := w.WriteAt(b, next+bitmap)
		next = aligned(next + bitmap + block)
		return err
	})
	if err != nil {
		return 0, err
	}
	foot := encodeFooter(d.Size, o)
	head := append(append(append([]byte{}, foot...), encodeHeader(uint32(count))...), table...)
	if _, err := w.WriteAt(foot, next); err != nil {
		return 0, err
	}
	_, err = w.WriteAt(head, 0)
	return next + sector, err
}

// aligned is the next place for a block whose bytes, behind the bitmap, begin on
// 4096: a sector of the medium below. It also keeps the disk's own partition
// table off the places where one of the file would be looked for.
func aligned(off int64) int64 { return (off+bitmap+4095)&^4095 - bitmap }

func encodeFooter(size int64, o Options) []byte {
	c, h, s := geometry(size / sector)
	f := footer{
		Cookie: [8]byte([]byte(Magic)), Features: 2, FileFormatVersion: 0x00010000, DataOffset: sector,
		TimeStamp: uint32(max(o.Epoch-epoch2000, 0)), CreatorApplication: [4]byte([]byte("win ")), CreatorVersion: 0x000a0000,
		CreatorHostOS: [4]byte([]byte("Wi2k")), OriginalSize: uint64(size), CurrentSize: uint64(size),
		Cylinders: c, Heads: h, SectorsPerTrack: s, DiskType: dynamic, UniqueID: o.ID,
	}
	f.Checksum = checksum(encode(f))
	return encode(f)
}

func encodeHeader(count uint32) []byte {
	h := dynamicHeader{
		Cookie: [8]byte([]byte("cxsparse")), DataOffset: 1<<64 - 1, TableOffset: tableOff, HeaderVersion: 0x00010000,
		MaxTableEntries: count, BlockSize: block,
	}
	h.Checksum = checksum(encode(h))
	return encode(h)
}

func encode(v any) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.BigEndian, v)
	return b.Bytes()
}

// checksum is the ones' complement of the sum of all bytes, without those of
// the checksum itself, which are zero here.
func checksum(b []byte) uint32 {
	var sum uint32
	for _, c := range b {
		sum += uint32(c)
	}
	return ^sum
}

// geometry is the specification's appendix "CHS Calculation".
func geometry(sectors int64) (cylinders uint16, heads, perTrack uint8) {
	sectors = min(sectors, 65535*16*255)
	var h, s, ch int64
	if sectors >= 65535*16*63 {
		s, h = 255, 16
		ch = sectors / s
	} else {
		s = 17
		ch = sectors / s
		h = max((ch+1023)/1024, 4)
		if ch >= h*1024 || h > 16 {
			s, h = 31, 16
			ch = sectors / s
		}
		if ch >= h*1024 {
			s, h = 63, 16
			ch = sectors / s
		}
	}
	return uint16(ch / h), uint8(h), uint8(s)
}
