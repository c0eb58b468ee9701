package vhd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/partition/blocks"
)

// Image is an open file. It may be read by several goroutines.
type Image struct {
	r io.ReaderAt
	f footer
	h dynamicHeader
}

// Open reads and checks both headers of a dynamic disk in a file of size bytes,
// and the footer in its last sector, which must be what its copy at the start
// says: programs differ in which of the two they believe.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	m := &Image{r: r}
	if err := m.load(&m.f, 0, sector, 64); err != nil {
		return nil, fmt.Errorf("open vhd: footer copy: %w", err)
	}
	switch {
	case string(m.f.Cookie[:]) != Magic:
		return nil, fmt.Errorf("open vhd: offset 0: cookie is %q, want %q", m.f.Cookie, Magic)
	case m.f.DiskType != dynamic:
		return nil, fmt.Errorf("open vhd: offset 60: disk type %d, this reader knows 3 (dynamic)", m.f.DiskType)
	case m.f.CurrentSize == 0 || m.f.CurrentSize > maxSize:
		return nil, fmt.Errorf("open vhd: offset 48: size is %d", m.f.CurrentSize)
	case m.f.DataOffset > uint64(size):
		return nil, fmt.Errorf("open vhd: offset 16: dynamic header is at %d, beyond the end of the file", m.f.DataOffset)
	}
	at := int64(m.f.DataOffset)
	if err := m.load(&m.h, at, 1024, 36); err != nil {
		return nil, fmt.Errorf("open vhd: dynamic header: %w", err)
	}
	h := &m.h
	switch {
	case string(h.Cookie[:]) != "cxsparse":
		return nil, fmt.Errorf("open vhd: offset %d: cookie is %q, want cxsparse", at, h.Cookie)
	case h.BlockSize < 4096 || h.BlockSize > 256<<20 || h.BlockSize&(h.BlockSize-1) != 0:
		return nil, fmt.Errorf("open vhd: offset %d: block size is %d", at+32, h.BlockSize)
	case uint64(h.MaxTableEntries)*uint64(h.BlockSize) < m.f.CurrentSize:
		return nil, fmt.Errorf("open vhd: offset %d: %d blocks are too few for the disk", at+28, h.MaxTableEntries)
	case h.TableOffset > uint64(size) || h.TableOffset+4*uint64(h.MaxTableEntries) > uint64(size):
		return nil, fmt.Errorf("open vhd: offset %d: the table at %d is beyond the end of the file", at+16, h.TableOffset)
	}
	return m, m.checkFooter(size - sector)
}

// checkFooter compares the footer at the end of the file with its copy.
func (m *Image) checkFooter(at int64) error {
	var end footer
	if err := m.load(&end, max(at, 0), sector, 64); err != nil {
		return fmt.Errorf("open vhd: footer: %w", err)
	}
	if end != m.f {
		return fmt.Errorf("open vhd: offset %d: the footer says something else than its copy at offset 0", at)
	}
	return nil
}

// load reads a structure of n bytes whose checksum is at offset sum in it.
func (m *Image) load(v any, off int64, n, sum int) error {
	b := make([]byte, n)
	if err := blocks.ReadFull(m.r, b, off); err != nil {
		return fmt.Errorf("offset %d: %w", off, err)
	}
	if err := binary.Read(bytes.NewReader(b), binary.BigEndian, v); err != nil {
		return err
	}
	want := binary.BigEndian.Uint32(b[sum:])
	clear(b[sum : sum+4])
	if got := checksum(b); got != want {
		return fmt.Errorf("offset %d: checksum is %#x, want %#x", off+int64(sum), want, got)
	}
	return nil
}

// Size is the size of the disk in bytes.
func (m *Image) Size() int64 { return int64(m.f.CurrentSize) }

// BlockSize is the unit of allocation in bytes.
func (m *Image) BlockSize() int64 { return int64(m.h.BlockSize) }

// ID is the unique id of the disk.
func (m *Image) ID() [16]byte { return m.f.UniqueID }

// Created is the time of creation in Unix seconds.
func (m *Image) Created() int64 { return int64(m.f.TimeStamp) + epoch2000 }

// ReadAt implements io.ReaderAt for the disk. What is not stored reads as
// zeros; the bitmap of a stored block says nothing that its bytes do not.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	return blocks.ReadAt(b, off, m.Size(), m.BlockSize(), m.read)
}

func (m *Image) read(i, within int64, b []byte) error {
	var e [4]byte
	if err := blocks.ReadFull(m.r, e[:], int64(m.h.TableOffset)+4*i); err != nil {
		return fmt.Errorf("read vhd: table entry %d: %w", i, err)
	}
	at := binary.BigEndian.Uint32(e[:])
	if at == unused {
		clear(b)
		return nil
	}
	bits := (m.BlockSize()/sector/8 + sector - 1) / sector * sector
	if err := blocks.ReadFull(m.r, b, int64(at)*sector+bits+within); err != nil {
		return fmt.Errorf("read vhd: block %d at sector %d: %w", i, at, err)
	}
	return nil
}
