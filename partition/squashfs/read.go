package squashfs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Info is what the superblock says.
type Info struct {
	Compression string   `json:"compression"` // "zstd" or "gzip"
	Level       int      `json:"level,omitempty"`
	BlockSize   int      `json:"block_size"` // bytes
	Size        int64    `json:"size"`       // bytes in use; the file may be padded
	Epoch       int64    `json:"epoch"`      // seconds since 1970
	Inodes      uint32   `json:"inodes"`
	Fragments   uint32   `json:"fragments"`
	IDs         int      `json:"ids"`
	Flags       []string `json:"flags,omitempty"`
	Data        int64    `json:"data"`   // bytes before the tables: file contents as stored
	Tables      int64    `json:"tables"` // bytes of the tables as stored
}

// FS is an opened filesystem.
type FS struct {
	r      io.ReaderAt
	sb     superblock
	zstd   *zstd.Decoder
	ids    []uint32
	budget int64 // bytes of names, targets and attributes that a tree may take
	facts  map[string]InodeInfo
	level  int

	mu            sync.Mutex // guards what follows: blobs are read on many goroutines
	cache         map[uint64]metaBlock
	lastTails     fragmentEntry
	lastTailsData []byte
}

// metaBlock is an uncompressed metadata block.
type metaBlock struct {
	data []byte
	next uint64 // where the block after it starts
}

const cacheBlocks = 64

// Open checks the superblock of a filesystem of size bytes and reads its
// owners. Errors about the content are a *FormatError.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	var raw [96]byte
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), raw[:]); err != nil {
		return nil, fmt.Errorf("read squashfs: superblock: %w", err)
	}
	f := &FS{r: r, cache: map[uint64]metaBlock{}}
	if _, err := binary.Decode(raw[:], binary.LittleEndian, &f.sb); err != nil {
		return nil, fmt.Errorf("read squashfs: superblock: %w", err)
	}
	if err := f.check(size); err != nil {
		return nil, err
	}
	if f.sb.Compression == compZstd {
		var err error
		f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxMemory(uint64(max(f.sb.BlockSize, metaSize))), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, fmt.Errorf("read squashfs: zstd: %w", err)
		}
	}
	// An honest name or inode costs at least a few bits on disk.
	f.budget = 64<<20 + 16*int64(f.sb.BytesUsed)
	f.level = f.readLevel()
	return f, f.readIDs()
}

// readLevel takes the compressor's level from the plain block of options after
// the superblock, whose first word it is for gzip and zstd; 0 when it is not said.
func (f *FS) readLevel() int {
	var b [6]byte
	if f.sb.Flags&flagCompressOpts == 0 || f.readAt(b[:], 96, "compressor options") != nil {
		return 0
	}
	if head := binary.LittleEndian.Uint16(b[:]); head&metaPlain == 0 || head&^metaPlain < 4 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(b[2:]))
}

func (f *FS) check(size int64) error {
	s := &f.sb
	switch {
	case s.Magic != magic:
		return bad(0, "s_magic", "0x%08x, want 0x%08x", s.Magic, magic)
	case s.Major != 4 || s.Minor != 0:
		return bad(28, "s_major", "version %d.%d, want 4.0", s.Major, s.Minor)
	case s.BlockSize < minBlock || s.BlockSize > maxBlock || bits.OnesCount32(s.BlockSize) != 1:
		return bad(12, "block_size", "%d", s.BlockSize)
	case int(s.BlockLog) != bits.TrailingZeros32(s.BlockSize):
		return bad(22, "block_log", "%d for blocks of %d", s.BlockLog, s.BlockSize)
	case s.Compression != compZstd && s.Compression != compGzip:
		return bad(20, "compression", "%d, only 1 (gzip) and 6 (zstd) are read", s.Compression)
	case s.BytesUsed < 96 || s.BytesUsed > uint64(max(size, 0)):
		return bad(40, "bytes_used", "%d, the volume has %d", s.BytesUsed, size)
	case s.IDs == 0:
		return bad(26, "no_ids", "0")
	}
	for _, t := range []struct {
		off   uint64
		name  string
		start uint64
	}{{48, "id_table_start", s.IDTable}, {64, "inode_table_start", s.InodeTable}, {72, "directory_table_start", s.DirTable}} {
		if t.start < 96 || t.start >= s.BytesUsed {
			return bad(t.off, t.name, "%d, the filesystem has %d bytes", t.start, s.BytesUsed)
		}
	}
	return nil
}

// Info returns what the superblock says.
func (f *FS) Info() Info {
	s := &f.sb
	i := Info{Compression: "zstd", Level: f.level, BlockSize: int(s.BlockSize), Size: int64(s.BytesUsed), Epoch: int64(s.Time),
		Inodes: s.Inodes, Fragments: s.Fragments, IDs: int(s.IDs)}
	i.Data = int64(min(s.InodeTable, s.BytesUsed))
	i.Tables = i.Size - i.Data
	if s.Compression == compGzip {
		i.Compression = "gzip"
	}
	names := map[int]string{0: "plain-inodes", 1: "plain-data", 3: "plain-fragments", 4: "no-fragments", 5: "tails-in-fragments",
		6: "duplicates-removed", 7: "exportable", 8: "plain-xattrs", 9: "no-xattrs", 10: "compressor-options", 11: "plain-ids"}
	for bit := range 16 {
		if name := names[bit]; name != "" && s.Flags&(1<<bit) != 0 {
			i.Flags = append(i.Flags, name)
		}
	}
	return i
}

// decompress refuses more than limit bytes.
func (f *FS) decompress(b []byte, limit int) ([]byte, error) {
	if f.zstd != nil {
		out, err := f.zstd.DecodeAll(b, nil)
		if err == nil && len(out) > limit {
			err = errors.New("too much data")
		}
		return out, err
	}
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z, int64(limit)+1))
	if err == nil && len(out) > limit {
		err = errors.New("too much data")
	}
	return out, err
}

// readAt reads inside the filesystem.
func (f *FS) readAt(b []byte, off uint64, what string) error {
	if off > f.sb.BytesUsed || uint64(len(b)) > f.sb.BytesUsed-off {
		return bad(off, what, "%d bytes from here leave the filesystem of %d bytes", len(b), f.sb.BytesUsed)
	}
	if _, err := f.r.ReadAt(b, int64(off)); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read squashfs: %s at byte %d: %w", what, off, err)
	}
	return nil
}

// meta returns the metadata block at a byte offset.
func (f *FS) meta(off uint64) (metaBlock, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := f.cache[off]; ok {
		return m, nil
	}
	var head [2]byte
	if err := f.readAt(head[:], off, "metadata"); err != nil {
		return metaBlock{}, err
	}
	word := binary.LittleEndian.Uint16(head[:])
	b := make([]byte, word&^metaPlain)
	if len(b) == 0 || len(b) > metaSize {
		return metaBlock{}, bad(off, "metadata", "a block of %d bytes", len(b))
	}
	if err := f.readAt(b, off+2, "metadata"); err != nil {
		return metaBlock{}, err
	}
	m := metaBlock{b, off + 2 + uint64(len(b))}
	if word&metaPlain == 0 {
		var err error
		if m.data, err = f.decompress(b, metaSize); err != nil {
			return metaBlock{}, bad(off, "metadata", "%v", err)
		}
	}
	if len(f.cache) >= cacheBlocks {
		clear(f.cache)
	}
	f.cache[off] = m
	return m, nil
}

// cursor reads along a table.
type cursor struct {
	f    *FS
	at   uint64 // byte offset of the metadata block that off is in
	off  int
	what string
}

func (f *FS) cursor(table uint64, r ref, what string) *cursor {
	return &cursor{f, table + r.block(), r.off(), what}
}

// read fills b.
func (c *cursor) read(b []byte) error {
	for len(b) > 0 {
		m, err := c.f.meta(c.at)
		if err != nil {
			return err
		}
		if c.off > len(m.data) || c.off == len(m.data) && len(m.data) < metaSize {
			return bad(c.at, c.what, "offset %d in a metadata block of %d bytes", c.off, len(m.data))
		}
		n := copy(b, m.data[c.off:])
		b, c.off = b[n:], c.off+n
		if c.off == metaSize {
			c.at, c.off = m.next, 0
		}
	}
	return nil
}

// decode reads a structure of fixed size.
func (c *cursor) decode(v any) error {
	b := make([]byte, binary.Size(v))
	if err := c.read(b); err != nil {
		return err
	}
	_, err := binary.Decode(b, binary.LittleEndian, v)
	return err
}

// text reads n bytes within the budget.
func (c *cursor) text(n int) (string, error) {
	if c.f.budget -= int64(n) + 64; c.f.budget < 0 {
		return "", bad(c.at, c.what, "names and attributes are out of proportion to the filesystem")
	}
	b := make([]byte, n)
	err := c.read(b)
	return string(b), err
}

// listed returns a cursor at entry i of a table that is found through a list of block offsets.
func (f *FS) listed(list uint64, i uint64, size int, what string) (*cursor, error) {
	var b [8]byte
	per := uint64(metaSize / size)
	if list == absent {
		return nil, bad(0, what, "there is no such table")
	}
	if err := f.readAt(b[:], list+i/per*8, what); err != nil {
		return nil, err
	}
	return &cursor{f, binary.LittleEndian.Uint64(b[:]), int(i%per) * size, what}, nil
}

func (f *FS) readIDs() error {
	f.ids = make([]uint32, f.sb.IDs)
	for i := range f.ids {
		c, err := f.listed(f.sb.IDTable, uint64(i), 4, "id table")
		if err != nil {
			return err
		}
		if err := c.decode(&f.ids[i]); err != nil {
			return err
		}
	}
	return nil
}
