package erofs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"

	lib "github.com/erofs/go-erofs"

	"github.com/ingot-os/ingot/partition/tree"
)

const (
	superblockOff = 1024
	magic         = 0xE0F5E1E2
	minBlockBits  = 9
	maxBlockBits  = 16
)

// superblock is struct erofs_super_block of the kernel's fs/erofs/erofs_fs.h.
type superblock struct {
	Magic, Checksum, Compat uint32
	BlockBits, ExtSlots     uint8
	RootNid                 uint16
	Inodes, BuildTime       uint64
	BuildTimeNsec           uint32
	Blocks                  uint32
	MetaBlock, XattrBlock   uint32
	UUID                    [16]byte
	Name                    [16]byte
	Incompat                uint32
	Rest                    [44]byte
}

// Info is what the superblock says.
type Info struct {
	UUID      string `json:"uuid"`  // 32 hexadecimal digits, all zero from this package
	Label     string `json:"label"` // empty from this package
	BlockSize int    `json:"block_size"`
	Size      int64  `json:"size"`  // bytes of all blocks
	Epoch     int64  `json:"epoch"` // seconds since 1970
	Inodes    uint64 `json:"inodes"`
	Compat    uint32 `json:"feature_compat"`
	Incompat  uint32 `json:"feature_incompat"`
}

// FormatError says which field of a filesystem does not hold, and where.
type FormatError struct {
	Off   int64 // byte offset in the filesystem; -1 where the library does not tell
	Field string
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	if e.Off < 0 {
		return fmt.Sprintf("erofs: %s: %s", e.Field, e.Msg)
	}
	return fmt.Sprintf("erofs: %s at byte %d: %s", e.Field, e.Off, e.Msg)
}

func bad(off int64, field, format string, args ...any) error {
	return &FormatError{off, field, fmt.Sprintf(format, args...)}
}

// FS is an opened filesystem.
type FS struct {
	img  fs.FS
	info Info
	left int64 // names that a tree may still have

	inodes map[string]InodeInfo
}

// InodeInfo is what an inode says beside its node.
type InodeInfo struct {
	Number int64
	Time   int64 // modification time, seconds since 1970
}

// Inodes gives, after Tree, what the inodes say beside their nodes, by path.
func (f *FS) Inodes() map[string]InodeInfo { return f.inodes }

// Open checks the superblock of a filesystem of size bytes. Errors about the
// content are a *FormatError.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	var raw [128]byte
	if _, err := io.ReadFull(io.NewSectionReader(r, superblockOff, max(size-superblockOff, 0)), raw[:]); err != nil {
		return nil, fmt.Errorf("read erofs: superblock: %w", err)
	}
	var s superblock
	if _, err := binary.Decode(raw[:], binary.LittleEndian, &s); err != nil {
		return nil, fmt.Errorf("read erofs: superblock: %w", err)
	}
	switch {
	case s.Magic != magic:
		return nil, bad(superblockOff, "magic", "0x%08x, want 0x%08x", s.Magic, uint32(magic))
	case s.BlockBits < minBlockBits || s.BlockBits > maxBlockBits:
		return nil, bad(superblockOff+12, "blkszbits", "%d, want %d to %d", s.BlockBits, minBlockBits, maxBlockBits)
	case int64(s.Blocks)<<s.BlockBits > size:
		return nil, bad(superblockOff+36, "blocks", "%d of %d bytes, the volume has %d", s.Blocks, 1<<s.BlockBits, size)
	}
	f := &FS{info: Info{
		UUID: hex.EncodeToString(s.UUID[:]), Label: string(bytes.TrimRight(s.Name[:], "\x00")), BlockSize: 1 << s.BlockBits,
		Size: int64(s.Blocks) << s.BlockBits, Epoch: int64(s.BuildTime), Inodes: s.Inodes, Compat: s.Compat, Incompat: s.Incompat,
	}}
	err := guard("superblock", func() (err error) {
		f.img, err = lib.Open(io.NewSectionReader(r, 0, size))
		return err
	})
	return f, err
}

// guard turns a panic of the library on hostile input into an error.
func guard(what string, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = bad(-1, what, "%v", p)
		}
	}()
	return do()
}

// Info returns what the superblock says.
func (f *FS) Info() Info { return f.info }

// Tree reads all inodes and directories. The contents of files stay in the
// filesystem and are read when their blobs are opened, so its reader must
// outlive the tree. A directory that is entered twice, a path longer than 4095
// bytes and more names than the filesystem has room for are a *FormatError.
//
// An inode with several names is a node for its first path and hard links for the others.
func (f *FS) Tree() (*tree.Tree, error) {
	// A directory entry takes 12 bytes and its name; blocks can be shared by
	// hostile directories, names cannot be more than this in honest ones.
	f.left = 4096 + f.info.Size/8
	f.inodes = map[string]InodeInfo{}
	w := &walker{FS: f, dirs: map[int64]bool{}, linked: map[int64]string{}}
	err := guard("tree", func() error {
		info, err := fs.Stat(f.img, ".")
		if err != nil {
			return bad(-1, "root", "%v", err)
		}
		return w.enter(".", info)
	})
	return &w.tree, err
}
