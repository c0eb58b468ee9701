package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"
	"unsafe"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// The data file system is made small and grown by the kernel: go-diskfs writes
// correct ext4 at the one geometry that is tested here and is off at others,
// and the kernel's online resize is what every large ext4 has been through.
// 512 MiB gives a journal of 16 MiB (1/32), which stays that size. Twice as much
// doubles the time (a second of a first boot under emulation).
const formatSize = 512 << 20

// MinData is the smallest data partition in bytes: below, go-diskfs refuses.
const MinData = 16 << 20

const (
	blockSize  = 4096
	sectorSize = 512    // the smallest there is
	superAt    = 1024   // ext4 superblock, bytes from the start of the device
	superMagic = 0xEF53 // s_magic
	resizeFS   = 0x40086610
)

// Content is what the start of a data partition holds.
type Content int

// The contents.
const (
	Blank   Content = iota // nothing: the first MiB is zero, or a Format was cut
	Ext4                   // an ext4 file system
	Foreign                // something else; never overwritten
)

// Super is what init wants to know of an ext4 superblock.
type Super struct {
	Size    int64 // bytes
	Dirty   bool  // was not unmounted: the journal is replayed at mount
	Errored bool  // the kernel has found errors in it
}

// blankSize is how many bytes of zeros a blank partition begins with. Many file
// systems leave the first block alone: btrfs begins at 64 KiB.
const blankSize = 1 << 20

// begun is the first sector while Format runs: a cut leaves a partition that is
// known to hold nothing. The superblock lies in the third and fourth sector; this
// one goes last, because a disk writes no more than a sector as a whole.
func begun() []byte {
	b := make([]byte, sectorSize)
	copy(b, "an ext4 file system was begun here; there is nothing in it\n")
	return b
}

// Probe reads the start of a partition. A format that was cut by a power failure
// reads as Blank.
func Probe(r io.ReaderAt) (Content, Super, error) {
	b := make([]byte, blockSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return Foreign, Super{}, fmt.Errorf("read data partition at offset 0: %w", err)
	}
	if bytes.Equal(b[:sectorSize], begun()) {
		return Blank, Super{}, nil
	}
	sb := b[superAt:]
	if binary.LittleEndian.Uint16(sb[0x38:]) != superMagic {
		content, err := blank(r)
		return content, Super{}, err
	}
	const incompatRecover, incompat64Bit = 0x4, 0x80
	incompat := binary.LittleEndian.Uint32(sb[0x60:])
	blocks := uint64(binary.LittleEndian.Uint32(sb[0x4:]))
	if incompat&incompat64Bit != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(sb[0x150:])) << 32
	}
	shift := 10 + binary.LittleEndian.Uint32(sb[0x18:])&7
	if blocks > math.MaxInt64>>shift {
		return Foreign, Super{}, fmt.Errorf("read ext4 superblock: offset %#x: %d blocks of %d bytes are no size", superAt+4, blocks, 1<<shift)
	}
	state := binary.LittleEndian.Uint16(sb[0x3A:])
	return Ext4, Super{
		Size:    int64(blocks << shift),
		Dirty:   state&1 == 0 || incompat&incompatRecover != 0,
		Errored: state&2 != 0,
	}, nil
}

// blank looks whether what is no ext4 is nothing.
func blank(r io.ReaderAt) (Content, error) {
	b := make([]byte, blankSize)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Foreign, fmt.Errorf("read data partition at offset %d: %w", n, err)
	}
	if slices.ContainsFunc(b[:n], func(c byte) bool { return c != 0 }) {
		return Foreign, nil
	}
	return Blank, nil
}

// Target is where Format writes: a partition.
type Target interface {
	io.WriterAt
	Sync() error
	// Zero makes n bytes at off read as zeros.
	Zero(off, n int64) error
}

// inodeRatio is the bytes for each inode, fixed for ever by Format. The steps
// are those of mke2fs.conf's "big" and "huge": at 16 TiB the tables are 64 GiB
// with the last, 256 GiB with the first.
func inodeRatio(size int64) int64 {
	switch {
	case size >= 4<<40:
		return 65536
	case size >= 64<<30:
		return 32768
	}
	return 16384
}

// Format makes an ext4 file system for a partition of size bytes. It takes at
// most formatSize of it; Resize takes the rest. It is made in memory first, then
// written with the first sector last, so that a cut leaves a Blank partition. The UUID is random
// and so is the hash seed that go-diskfs picks: this runs on the machine and
// is no part of the image.
func Format(t Target, size int64) error {
	if size < MinData {
		return fmt.Errorf("format data: %d bytes are less than %d", size, MinData)
	}
	made := min(size/blockSize*blockSize, formatSize)
	mem := &sparse{size: made, pages: map[int64][]byte{}}
	id := uuid.New()
	_, err := ext4.Create(mem, made, 0, 512, &ext4.Params{
		UUID: &id, InodeRatio: inodeRatio(size), SectorsPerBlock: blockSize / 512, VolumeName: "data", LogFlexBlockGroups: 4,
		Features: []ext4.FeatureOpt{
			// Its resize inode is wrong (measured); the kernel grows by meta_bg without one.
			ext4.WithFeatureReservedGDTBlocksForExpansion(false),
			ext4.WithFeatureMetadataChecksums(true),
			ext4.WithFeatureDirectoryIndices(true),
			ext4.WithFeatureLargeSubdirectoryCount(true),
			ext4.WithFeatureLargeInodes(true),
		},
	})
	if err != nil {
		return fmt.Errorf("format data: %w", err)
	}
	if err := mem.flush(t); err != nil {
		return fmt.Errorf("format data: %w", err)
	}
	return nil
}

// Resize grows the mounted file system at dir to size bytes (EXT4_IOC_RESIZE_FS).
func Resize(dir string, size int64) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("grow data: %w", err)
	}
	defer f.Close()
	blocks := uint64(size / blockSize)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), resizeFS, uintptr(unsafe.Pointer(&blocks)))
	if errno != 0 {
		return fmt.Errorf("grow data to %d bytes: %w", size, errno)
	}
	return nil
}

var zeroPage [blockSize]byte

// sparse is a disk in memory that remembers which pages were written; a page
// of zeros costs no memory.
type sparse struct {
	size  int64
	pages map[int64][]byte // by page number; nil = written, all zero
	pos   int64
}

var _ backend.Storage = (*sparse)(nil)

// WriteAt implements io.WriterAt.
func (s *sparse) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > s.size {
		return 0, fmt.Errorf("write %d bytes at %d: past the end at %d", len(b), off, s.size)
	}
	for done := 0; done < len(b); {
		page, at := (off+int64(done))/blockSize, (off+int64(done))%blockSize
		n := min(len(b)-done, int(blockSize-at))
		s.writePage(page, at, b[done:done+n])
		done += n
	}
	return len(b), nil
}

func (s *sparse) writePage(page, at int64, b []byte) {
	p := s.pages[page]
	if p == nil {
		if bytes.Equal(b, zeroPage[:len(b)]) {
			s.pages[page] = nil
			return
		}
		p = make([]byte, blockSize)
		s.pages[page] = p
	}
	copy(p[at:], b)
}

// ReadAt implements io.ReaderAt.
func (s *sparse) ReadAt(b []byte, off int64) (int, error) {
	n := int(max(min(int64(len(b)), s.size-off), 0))
	for done := 0; done < n; {
		page, at := (off+int64(done))/blockSize, (off+int64(done))%blockSize
		from := s.pages[page]
		if from == nil {
			from = zeroPage[:]
		}
		done += copy(b[done:n], from[at:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// flush writes what was written, the first sector last; until then it says that
// the rest is being written.
func (s *sparse) flush(t Target) error {
	pages := make([]int64, 0, len(s.pages))
	for p := range s.pages {
		pages = append(pages, p)
	}
	slices.Sort(pages)
	if _, err := t.WriteAt(begun(), 0); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := s.flushZeros(t, pages); err != nil {
		return err
	}
	for _, p := range pages {
		data, skip := s.pages[p], int64(0)
		if p == 0 {
			skip = sectorSize
		}
		if data == nil {
			continue
		}
		if _, err := t.WriteAt(data[skip:], p*blockSize+skip); err != nil {
			return err
		}
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if _, err := t.WriteAt(s.pages[0][:sectorSize], 0); err != nil {
		return err
	}
	return t.Sync()
}

// flushZeros zeroes runs of zero pages: inode tables and the journal, 48 MiB in
// a few runs that a disk can often zero without a transfer.
func (s *sparse) flushZeros(t Target, pages []int64) error {
	for i := 0; i < len(pages); {
		if s.pages[pages[i]] != nil {
			i++
			continue
		}
		n := i
		for n < len(pages) && s.pages[pages[n]] == nil && pages[n]-pages[i] == int64(n-i) {
			n++
		}
		if err := t.Zero(pages[i]*blockSize, int64(n-i)*blockSize); err != nil {
			return err
		}
		i = n
	}
	return nil
}

// Read implements io.Reader.
func (s *sparse) Read(b []byte) (int, error) {
	n, err := s.ReadAt(b, s.pos)
	s.pos += int64(n)
	return n, err
}

// Seek implements io.Seeker.
func (s *sparse) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += s.pos
	case io.SeekEnd:
		off += s.size
	}
	s.pos = off
	return off, nil
}

// Close implements io.Closer.
func (s *sparse) Close() error { return nil }

// Sys implements backend.Storage.
func (s *sparse) Sys() (*os.File, error) { return nil, backend.ErrNotSuitable }

// Writable implements backend.Storage.
func (s *sparse) Writable() (backend.WritableFile, error) { return s, nil }

// Path implements backend.Storage.
func (s *sparse) Path() string { return "" }

// Stat implements fs.File.
func (s *sparse) Stat() (fs.FileInfo, error) { return sparseInfo{s.size}, nil }

type sparseInfo struct{ size int64 }

func (i sparseInfo) Name() string       { return "data" }
func (i sparseInfo) Size() int64        { return i.size }
func (i sparseInfo) Mode() fs.FileMode  { return 0o600 }
func (i sparseInfo) ModTime() time.Time { return time.Time{} }
func (i sparseInfo) IsDir() bool        { return false }
func (i sparseInfo) Sys() any           { return nil }
