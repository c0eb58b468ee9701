package squashfs

import (
	"encoding/binary"
	"fmt"
)

const (
	magic     = 0x73717368 // "hsqs"
	metaSize  = 8192       // uncompressed bytes of a metadata block
	metaPlain = 1 << 15    // in a metadata header: not compressed
	dataPlain = 1 << 24    // in a data or fragment size: not compressed
	padTo     = 4096       // a loop device shows no partial block to the kernel
	absent    = 1<<64 - 1  // start of a table that is not there
	none      = 1<<32 - 1  // no fragment, no attributes

	minBlock     = 4 << 10
	maxBlock     = 1 << 20
	defaultBlock = 128 << 10

	maxName   = 255  // NAME_MAX; the format has room for 256
	maxTarget = 4095 // PATH_MAX without its NUL
	maxPath   = 4095
	maxRun    = 256 // entries after one directory header
)

// Compressors (squashfs_fs.h).
const (
	compGzip = 1
	compZstd = 6
)

// Superblock flags that this package sets or explains.
const (
	flagNoFragments  = 1 << 4
	flagAlwaysFrags  = 1 << 5
	flagDuplicates   = 1 << 6
	flagExportable   = 1 << 7
	flagNoXattrs     = 1 << 9
	flagCompressOpts = 1 << 10
)

// Inode types; the extended form of each is basic + extended.
const (
	typeDir      = 1
	typeFile     = 2
	typeSymlink  = 3
	typeBlock    = 4
	typeChar     = 5
	typeFifo     = 6
	typeSocket   = 7
	typeExtended = 7
)

// superblock is the first 96 bytes.
type superblock struct {
	Magic         uint32
	Inodes        uint32
	Time          uint32
	BlockSize     uint32
	Fragments     uint32
	Compression   uint16
	BlockLog      uint16
	Flags         uint16
	IDs           uint16
	Major         uint16
	Minor         uint16
	Root          uint64
	BytesUsed     uint64
	IDTable       uint64
	XattrTable    uint64
	InodeTable    uint64
	DirTable      uint64
	FragmentTable uint64
	ExportTable   uint64
}

// inodeHead starts every inode.
type inodeHead struct {
	Type, Mode, UID, GID uint16
	Time, Number         uint32
}

type dirInode struct {
	Block, Links     uint32
	FileSize, Offset uint16
	Parent           uint32
}

type extDirInode struct {
	Links, FileSize, Block, Parent uint32
	IndexCount, Offset             uint16
	Xattr                          uint32
}

// dirIndex follows an extDirInode; its name follows it.
type dirIndex struct{ Index, Block, NameSize uint32 }

// fileInode and extFileInode are followed by the sizes of the blocks.
type fileInode struct{ Start, Fragment, Offset, FileSize uint32 }

type extFileInode struct {
	Start, FileSize, Sparse        uint64
	Links, Fragment, Offset, Xattr uint32
}

// symlinkInode is followed by the target and, in the extended form, by an attribute index.
type symlinkInode struct{ Links, TargetSize uint32 }

type deviceInode struct{ Links, Device uint32 }

// dirHeader comes before up to 256 entries whose inodes share a metadata block.
type dirHeader struct{ Count, Block, Number uint32 }

// dirEntry is followed by its name.
type dirEntry struct {
	Offset         uint16
	Delta          int16
	Type, NameSize uint16
}

type fragmentEntry struct {
	Start        uint64
	Size, Unused uint32
}

type xattrEntry struct {
	Ref         uint64
	Count, Size uint32
}

type xattrHead struct {
	Table       uint64
	IDs, Unused uint32
}

// ref names a place in a table of metadata blocks: the block's byte offset in
// the table and the offset in the uncompressed block.
type ref uint64

func makeRef(block uint64, off int) ref { return ref(block<<16 | uint64(off)) }
func (r ref) block() uint64             { return uint64(r) >> 16 }
func (r ref) off() int                  { return int(r & 0xFFFF) }

// marshal appends a structure of fixed size, little endian; that cannot fail.
func marshal(b []byte, v any) []byte {
	b, err := binary.Append(b, binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

// encodeDevice is the kernel's new_encode_dev.
func encodeDevice(major, minor uint32) (uint32, error) {
	if major >= 1<<12 || minor >= 1<<20 {
		return 0, fmt.Errorf("device %d:%d: numbers end at 4095:1048575", major, minor)
	}
	return minor&0xFF | major<<8 | minor&^0xFF<<12, nil
}

func decodeDevice(d uint32) (major, minor uint32) {
	return d >> 8 & 0xFFF, d&0xFF | d>>12&0xFFF00
}

// FormatError says which field of a filesystem does not hold, and where.
type FormatError struct {
	Off   int64  // byte offset in the filesystem; of the metadata block for what is compressed
	Field string // name of the structure or field
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("squashfs: %s at byte %d: %s", e.Field, e.Off, e.Msg)
}

func bad(off uint64, field, format string, args ...any) error {
	return &FormatError{Off: int64(off), Field: field, Msg: fmt.Sprintf(format, args...)}
}
