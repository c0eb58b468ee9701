// Package frames writes and reads a disk as independent zstd frames of 4 MiB
// each, to RFC 8878 and the seekable format 0.1.0 of the zstd project
// (contrib/seekable_format): a table of the frames' sizes follows in a
// skippable frame. Any zstd decompresses the file as a whole; this reader finds
// each byte, decompresses on all processors, and knows frames of zeros without
// decompressing them.
//
// Every frame carries its size and a checksum. The compressor is a module of a
// pinned version and never sees more than one frame, so the same disk gives the
// same bytes for any number of workers.
//
//	size, err := frames.Write(f, blocks.Disk{R: img, Size: n}, 0)
//	img, err := frames.Open(f, size, frames.Options{}) // an io.ReaderAt of the disk
//
// The Go library for the format (SaveTheRbtz/zstd-seekable-format-go) compresses
// one frame at a time and brings a logger along; the format is one table.
package frames

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/partition/blocks"
)

// Size is how much of the disk is in one frame, in bytes; the last has less.
const Size = 4 << 20

const (
	skippable  = 0x184d2a5e
	seekable   = 0x8f92eab1
	footerSize = 9
	entrySize  = 8 // without checksums, which the frames have
	maxFrames  = 0x8000000
)

// encoder makes the one kind of compressor that is used here.
func encoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(true))
}

// Write writes the disk to w, which is empty, and returns the size of the file
// in bytes. workers compress; 0 stands for one per processor.
func Write(w io.WriterAt, d blocks.Disk, workers int) (int64, error) {
	count := (d.Size + Size - 1) / Size
	if d.Size <= 0 || count > maxFrames {
		return 0, fmt.Errorf("write zstd frames: disk of %d bytes", d.Size)
	}
	z, err := encoder()
	if err != nil {
		return 0, fmt.Errorf("write zstd frames: %w", err)
	}
	s := &stream{w: w, size: d.Size, zero: z}
	err = d.Pack(Size, workers, packer, func(i int64, packed []byte) error {
		if err := s.zeros(i); err != nil {
			return err
		}
		return s.put(packed)
	})
	if err == nil {
		err = s.zeros(count)
	}
	if err == nil {
		err = s.finish()
	}
	if err != nil {
		return 0, fmt.Errorf("write zstd frames: %w", err)
	}
	return s.pos, nil
}

func packer() (blocks.Packer, error) {
	z, err := encoder()
	return func(dst, block []byte) ([]byte, error) { return z.EncodeAll(block, dst), nil }, err
}

// stream writes frames and remembers their sizes.
type stream struct {
	w     io.WriterAt
	pos   int64
	size  int64 // of the disk
	zero  *zstd.Encoder
	empty []byte // a whole frame of zeros
	table []byte
	next  int64 // frame
}

// length is how much of the disk is in a frame.
func length(disk, i int64) int64 { return min(Size, disk-i*Size) }

func (s *stream) put(frame []byte) error {
	if _, err := s.w.WriteAt(frame, s.pos); err != nil {
		return err
	}
	s.pos += int64(len(frame))
	s.table = binary.LittleEndian.AppendUint32(s.table, uint32(len(frame)))
	s.table = binary.LittleEndian.AppendUint32(s.table, uint32(length(s.size, s.next)))
	s.next++
	return nil
}

// zeros writes frames of zeros up to frame i.
func (s *stream) zeros(i int64) error {
	for s.next < i {
		frame := s.empty
		if n := length(s.size, s.next); n < Size {
			frame = s.zero.EncodeAll(make([]byte, n), nil)
		} else if frame == nil {
			frame = s.zero.EncodeAll(make([]byte, Size), nil)
			s.empty = frame
		}
		if err := s.put(frame); err != nil {
			return err
		}
	}
	return nil
}

// finish writes the table.
func (s *stream) finish() error {
	b := binary.LittleEndian.AppendUint32(nil, skippable)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.table)+footerSize))
	b = append(b, s.table...)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.next))
	b = append(b, 0) // descriptor: no checksums in the table
	b = binary.LittleEndian.AppendUint32(b, seekable)
	_, err := s.w.WriteAt(b, s.pos)
	s.pos += int64(len(b))
	return err
}
