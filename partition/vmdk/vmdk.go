// Package vmdk writes and reads disks in VMware's format, to "Virtual Disk
// Format 5.0": one sparse extent with its descriptor inside. Written is the
// kind streamOptimized, whose grains are compressed: what vSphere, AWS and
// VirtualBox import and what an OVA holds. QEMU attaches it read-only or under
// an overlay. Disks have sectors of 512 bytes.
//
// The descriptor names no host, user or file, the content id is an argument,
// and the compressor is a module of a pinned version, so the same disk gives
// the same bytes for any number of workers.
//
//	size, err := vmdk.Write(f, blocks.Disk{R: img, Size: n}, vmdk.Options{CID: id})
//	img, err := vmdk.Open(f, size) // an io.ReaderAt of the disk
//
// The file is a stream: header, descriptor, grains with a table behind each
// 512 of them, the directory of the tables, a footer with the header's final
// form.
package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"

	"github.com/ingot-os/ingot/partition/blocks"
)

// Magic begins every sparse extent.
const Magic = "KDMV"

const (
	sector     = 512
	grain      = 64 << 10
	perTable   = 512 // grains
	overhead   = 128 // sectors before the first grain
	descriptor = 20  // sectors
	atEnd      = 1<<64 - 1
	maxSize    = 2 << 40 // sectors have 32-bit numbers in the tables

	flagNewLines   = 1 << 0
	flagCompressed = 1 << 16
	flagMarkers    = 1 << 17

	markTable     = 1
	markDirectory = 2
	markFooter    = 3
)

// header is SparseExtentHeader, little endian.
type header struct {
	Magic           [4]byte
	Version         uint32
	Flags           uint32
	Capacity        uint64 // sectors, as all below
	GrainSize       uint64
	DescriptorOff   uint64
	DescriptorSize  uint64
	PerTable        uint32
	RedundantOffset uint64
	DirectoryOffset uint64
	Overhead        uint64
	Unclean         uint8
	NewLines        [4]byte // as they are in text: a transfer in text mode is seen
	Compress        uint16
	Pad             [433]byte
}

// marker stands before everything but the header; its value is the sectors
// that follow, or the first sector of a grain.
type marker struct {
	Value uint64
	Size  uint32 // bytes of the compressed grain, 0 for other things
	Type  uint32 // when Size is 0
	Pad   [496]byte
}

// Options are what a file says beside the disk.
type Options struct {
	CID     uint32 // content id; 0xffffffff means "none" and becomes 0xfffffffe
	Workers int    // that compress; 0 = one per processor
}

// stream writes sectors one behind the other.
type stream struct {
	w   io.WriterAt
	pos int64
}

func (s *stream) put(b []byte) error {
	if _, err := s.w.WriteAt(b, s.pos); err != nil {
		return err
	}
	s.pos += int64(len(b))
	return nil
}

// pad appends zeros up to a whole sector.
func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&(sector-1))...) }

// Write writes the disk to w, which is empty, and returns the size of the file
// in bytes. The size of the disk is a multiple of 64 KiB.
func Write(w io.WriterAt, d blocks.Disk, o Options) (int64, error) {
	if d.Size <= 0 || d.Size%grain != 0 || d.Size > maxSize {
		return 0, fmt.Errorf("write vmdk: disk of %d bytes is not a multiple of 64 KiB up to 2 TiB", d.Size)
	}
	s := &stream{w: w}
	if err := write(s, d, o); err != nil {
		return 0, fmt.Errorf("write vmdk: %w", err)
	}
	return s.pos, nil
}

func write(s *stream, d blocks.Disk, o Options) error {
	h := header{
		Magic: [4]byte([]byte(Magic)), Version: 3, Flags: flagNewLines | flagCompressed | flagMarkers,
		Capacity: uint64(d.Size / sector), GrainSize: grain / sector, DescriptorOff: 1, DescriptorSize: descriptor,
		PerTable: perTable, DirectoryOffset: atEnd, Overhead: overhead, NewLines: [4]byte([]byte("\n \r\n")), Compress: 1,
	}
	head := make([]byte, overhead*sector)
	copy(head, encode(h))
	copy(head[sector:], describe(d.Size, min(o.CID, 0xfffffffe)))
	if err := s.put(head); err != nil {
		return err
	}
	t := &tables{s: s, directory: make([]uint32, (d.Size+grain*perTable-1)/(grain*perTable)), at: -1}
	if err := d.Pack(grain, o.Workers, deflate, t.grain); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	return finish(s, h, t.directory)
}

// deflate makes the packer of one worker: a marker, then a zlib stream (RFC
// 1950), filled up to whole sectors. The marker's first sector is not known here.
func deflate() (blocks.Packer, error) {
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, zlib.DefaultCompression)
	return func(dst, block []byte) ([]byte, error) {
		b.Reset()
		z.Reset(&b)
		if _, err := z.Write(block); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		dst = append(dst, make([]byte, 8)...)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Len()))
		return pad(append(dst, b.Bytes()...)), nil
	}, err
}

// tables collects where the grains are.
type tables struct {
	s         *stream
	directory []uint32
	at        int64 // number of the open table, -1 = none
	table     [perTable]uint32
}

// grain writes a packed grain and notes its place.
func (t *tables) grain(i int64, packed []byte) error {
	if i/perTable != t.at {
		if err := t.flush(); err != nil {
			return err
		}
		t.at = i / perTable
	}
	t.table[i%perTable] = uint32(t.s.pos / sector)
	binary.LittleEndian.PutUint64(packed, uint64(i)*(grain/sector))
	return t.s.put(packed)
}

// flush writes the open table.
func (t *tables) flush() error {
	if t.at < 0 {
		return nil
	}
	if err := t.s.put(encode(marker{Value: perTable * 4 / sector, Type: markTable})); err != nil {
		return err
	}
	t.directory[t.at] = uint32(t.s.pos / sector)
	err := t.s.put(encode(t.table))
	t.table = [perTable]uint32{}
	return err
}

func finish(s *stream, h header, directory []uint32) error {
	list := pad(encode(directory))
	if err := s.put(encode(marker{Value: uint64(len(list) / sector), Type: markDirectory})); err != nil {
		return err
	}
	h.DirectoryOffset = uint64(s.pos / sector)
	if err := s.put(list); err != nil {
		return err
	}
	tail := append(encode(marker{Value: 1, Type: markFooter}), encode(h)...)
	return s.put(append(tail, make([]byte, sector)...)) // the last is the end-of-stream marker
}

// describe gives the embedded descriptor.
func describe(size int64, cid uint32) string {
	return fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW %d SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.adapterType = "lsilogic"
`, cid, size/sector, (size/sector+255*63-1)/(255*63))
}

func encode(v any) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, v)
	return b.Bytes()
}
