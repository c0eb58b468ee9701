package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/zlib"

	"github.com/ingot-os/ingot/partition/blocks"
)

// Image is an open file. It may be read by several goroutines, one at a time.
type Image struct {
	r          io.ReaderAt
	file       int64
	h          header
	descriptor string

	mu    sync.Mutex
	at    int64  // grain in cache, -1 = none
	cache []byte // the grain, unpacked
}

// Bounds of what Open takes.
const (
	maxGrain      = 1 << 20 // bytes
	maxDescriptor = 64 << 10
)

// Open reads and checks the header of a sparse extent in a file of size bytes,
// compressed or not. Reading keeps one grain in memory.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	m := &Image{r: r, file: size, at: -1}
	if err := m.open(); err != nil {
		return nil, fmt.Errorf("open vmdk: %w", err)
	}
	return m, nil
}

func (m *Image) open() error {
	if err := m.load(&m.h, 0); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if string(m.h.Magic[:]) != Magic {
		return fmt.Errorf("offset 0: magic is %q, want %q", m.h.Magic, Magic)
	}
	if m.h.DirectoryOffset == atEnd {
		// The footer is followed by the end-of-stream marker.
		if err := m.load(&m.h, m.file-2*sector); err != nil {
			return fmt.Errorf("footer: %w", err)
		}
	}
	return m.check()
}

func (m *Image) check() error {
	h := &m.h
	n := m.grainSize()
	switch {
	case string(h.Magic[:]) != Magic:
		return fmt.Errorf("footer: magic is %q, want %q", h.Magic, Magic)
	case h.Version < 1 || h.Version > 3:
		return fmt.Errorf("offset 4: version %d, this reader knows 1 to 3", h.Version)
	case h.Capacity == 0 || h.Capacity > maxSize/sector:
		return fmt.Errorf("offset 12: capacity is %d sectors", h.Capacity)
	case h.GrainSize < 8 || h.GrainSize > maxGrain/sector || h.GrainSize&(h.GrainSize-1) != 0:
		return fmt.Errorf("offset 20: grain size is %d sectors", h.GrainSize)
	case h.PerTable != perTable:
		return fmt.Errorf("offset 44: %d entries in a table, want %d", h.PerTable, perTable)
	case h.Compress > 1 || h.Flags&flagCompressed != 0 && h.Compress == 0:
		return fmt.Errorf("offset 77: unknown compression %d", h.Compress)
	case h.DescriptorSize > maxDescriptor/sector:
		return fmt.Errorf("offset 36: descriptor of %d sectors", h.DescriptorSize)
	}
	count := (m.Size() + n*perTable - 1) / (n * perTable)
	if h.DirectoryOffset > uint64(m.file/sector) || int64(h.DirectoryOffset)*sector+4*count > m.file {
		return fmt.Errorf("offset 56: the directory at sector %d is beyond the end of the file", h.DirectoryOffset)
	}
	if h.DescriptorOff > uint64(m.file/sector) {
		return fmt.Errorf("offset 28: the descriptor at sector %d is beyond the end of the file", h.DescriptorOff)
	}
	text := make([]byte, h.DescriptorSize*sector)
	if err := blocks.ReadFull(m.r, text, int64(h.DescriptorOff)*sector); err != nil {
		return fmt.Errorf("descriptor: %w", err)
	}
	m.descriptor, _, _ = strings.Cut(string(text), "\x00")
	return nil
}

func (m *Image) load(h *header, off int64) error {
	b := make([]byte, sector)
	if off < 0 {
		return io.ErrUnexpectedEOF
	}
	if err := blocks.ReadFull(m.r, b, off); err != nil {
		return fmt.Errorf("offset %d: %w", off, err)
	}
	return binary.Read(bytes.NewReader(b), binary.LittleEndian, h)
}

func (m *Image) grainSize() int64 { return int64(m.h.GrainSize) * sector }

// Size is the size of the disk in bytes.
func (m *Image) Size() int64 { return int64(m.h.Capacity) * sector }

// Descriptor is the text that describes the disk.
func (m *Image) Descriptor() string { return m.descriptor }

// Compressed says whether the grains are.
func (m *Image) Compressed() bool { return m.h.Flags&flagCompressed != 0 }

// ReadAt implements io.ReaderAt for the disk. What is not stored reads as zeros.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	return blocks.ReadAt(b, off, m.Size(), m.grainSize(), m.read)
}

func (m *Image) read(i, within int64, b []byte) error {
	at, err := m.place(i)
	if err != nil {
		return fmt.Errorf("read vmdk: grain %d: %w", i, err)
	}
	switch {
	case at <= 1: // not stored; 1 says zeros
		clear(b)
		return nil
	case !m.Compressed():
		if err := blocks.ReadFull(m.r, b, at*sector+within); err != nil {
			return fmt.Errorf("read vmdk: grain %d at sector %d: %w", i, at, err)
		}
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at != i {
		m.at = -1
		if err := m.unpack(at * sector); err != nil {
			return fmt.Errorf("read vmdk: grain %d at sector %d: %w", i, at, err)
		}
		m.at = i
	}
	copy(b, m.cache[within:])
	return nil
}

// place is the first sector of a grain in the file, 0 when it is not stored.
func (m *Image) place(i int64) (int64, error) {
	table, err := m.entry(int64(m.h.DirectoryOffset)*sector + 4*(i/perTable))
	if err != nil || table == 0 {
		return 0, err
	}
	return m.entry(table*sector + 4*(i%perTable))
}

func (m *Image) entry(off int64) (int64, error) {
	var b [4]byte
	if err := blocks.ReadFull(m.r, b[:], off); err != nil {
		return 0, fmt.Errorf("table entry at offset %d: %w", off, err)
	}
	return int64(binary.LittleEndian.Uint32(b[:])), nil
}

// unpack reads the compressed grain at off into the cache.
func (m *Image) unpack(off int64) error {
	head := make([]byte, 12)
	if err := blocks.ReadFull(m.r, head, off); err != nil {
		return err
	}
	packed := int64(binary.LittleEndian.Uint32(head[8:]))
	if packed == 0 || packed > 2*m.grainSize() {
		return fmt.Errorf("offset %d: a grain of %d bytes", off+8, packed)
	}
	z, err := zlib.NewReader(io.NewSectionReader(m.r, off+12, packed))
	if err != nil {
		return err
	}
	if m.cache == nil {
		m.cache = make([]byte, m.grainSize())
	}
	_, err = io.ReadFull(z, m.cache)
	return err
}
