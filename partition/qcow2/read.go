package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/blocks"
)

// Image is an open file. It may be read by several goroutines.
type Image struct {
	r    io.ReaderAt
	file int64
	h    header
}

// maxL1 bounds the first-level table as QEMU does, in bytes.
const maxL1 = 32 << 20

// Open reads and checks the header of a file of size bytes. Features that
// Write does not use are refused by name. Nothing else is kept in memory.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	raw := make([]byte, headerLength)
	if err := blocks.ReadFull(r, raw, 0); err != nil {
		return nil, fmt.Errorf("open qcow2: read header: %w", err)
	}
	m := &Image{r: r, file: size}
	if err := binary.Read(bytes.NewReader(raw), binary.BigEndian, &m.h); err != nil {
		return nil, fmt.Errorf("open qcow2: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("open qcow2: %w", err)
	}
	return m, nil
}

func (m *Image) check() error {
	h := &m.h
	switch {
	case string(h.Magic[:]) != Magic:
		return fmt.Errorf("offset 0: magic is %q, want %q", h.Magic, Magic)
	case h.Version != 3:
		return fmt.Errorf("offset 4: version %d, this reader knows 3", h.Version)
	case h.BackingFileOffset != 0:
		return fmt.Errorf("offset 8: the disk stands on a backing file")
	case h.ClusterBits < 9 || h.ClusterBits > 21:
		return fmt.Errorf("offset 20: cluster_bits is %d, want 9 to 21", h.ClusterBits)
	case h.Size == 0 || h.Size > maxSize:
		return fmt.Errorf("offset 24: size is %d", h.Size)
	case h.CryptMethod != 0:
		return fmt.Errorf("offset 32: the disk is encrypted (method %d)", h.CryptMethod)
	case h.IncompatibleFeatures != 0:
		return fmt.Errorf("offset 72: incompatible features %#x", h.IncompatibleFeatures)
	}
	span := uint64(1) << (2*h.ClusterBits - 3)
	if need := (h.Size + span - 1) / span; uint64(h.L1Size) < need || uint64(h.L1Size)*8 > maxL1 {
		return fmt.Errorf("offset 36: l1_size is %d, the disk needs %d", h.L1Size, need)
	}
	if end := h.L1TableOffset + uint64(h.L1Size)*8; h.L1TableOffset > uint64(m.file) || end > uint64(m.file) {
		return fmt.Errorf("offset 40: l1_table_offset %d is beyond the end of the file", h.L1TableOffset)
	}
	return nil
}

// Size is the size of the disk in bytes.
func (m *Image) Size() int64 { return int64(m.h.Size) }

// ClusterSize is the unit of allocation in bytes.
func (m *Image) ClusterSize() int64 { return 1 << m.h.ClusterBits }

// ReadAt implements io.ReaderAt for the disk. What is not stored reads as zeros.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	return blocks.ReadAt(b, off, m.Size(), m.ClusterSize(), m.read)
}

func (m *Image) read(i, within int64, b []byte) error {
	at, err := m.place(i)
	if err != nil {
		return fmt.Errorf("read qcow2: cluster %d: %w", i, err)
	}
	if at == 0 {
		clear(b)
		return nil
	}
	if err := blocks.ReadFull(m.r, b, at+within); err != nil {
		return fmt.Errorf("read qcow2: cluster %d at offset %d: %w", i, at, err)
	}
	return nil
}

// Bits of a table entry that are the offset; the lowest bit of a second-level
// entry says that the cluster reads as zeros, bit 62 that it is compressed.
const (
	offsetMask = 0x00fffffffffffe00
	zeroFlag   = 1
	packedFlag = 1 << 62
)

// place is the offset of a cluster in the file, 0 when it is not stored.
func (m *Image) place(i int64) (int64, error) {
	per := m.ClusterSize() / 8
	l1, err := m.entry(int64(m.h.L1TableOffset) + 8*(i/per))
	if err != nil || l1&offsetMask == 0 {
		return 0, err
	}
	l2, err := m.entry(int64(l1&offsetMask) + 8*(i%per))
	switch {
	case err != nil:
		return 0, err
	case l2&packedFlag != 0:
		return 0, fmt.Errorf("it is compressed, which this reader does not know")
	case l2&zeroFlag != 0:
		return 0, nil
	}
	return int64(l2 & offsetMask), nil
}

func (m *Image) entry(off int64) (uint64, error) {
	var b [8]byte
	if err := blocks.ReadFull(m.r, b[:], off); err != nil {
		return 0, fmt.Errorf("table entry at offset %d: %w", off, err)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}
