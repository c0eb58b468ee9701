package verity

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// rawSuperblock is the superblock as it is stored, little endian.
type rawSuperblock struct {
	Signature     [8]byte
	Version       uint32
	HashType      uint32
	UUID          [16]byte
	Algorithm     [32]byte
	DataBlockSize uint32
	HashBlockSize uint32
	DataBlocks    uint64
	SaltSize      uint16
	Pad1          [6]byte
	Salt          [maxSalt]byte
	Pad2          [168]byte
}

const superblockSize = 512

var signature = [8]byte([]byte("verity\x00\x00"))

// Superblock is what the head of a hash area says.
type Superblock struct {
	UUID       [16]byte `json:"uuid"`
	Algorithm  string   `json:"algorithm"`
	BlockSize  int      `json:"block_size"` // bytes, of data and hash blocks
	DataBlocks uint64   `json:"data_blocks"`
	Salt       []byte   `json:"salt"`
}

// FormatError says which superblock field does not hold, and where.
type FormatError struct {
	Off   int64 // byte offset in the hash area
	Field string
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("verity superblock: %s at byte %d: %s", e.Field, e.Off, e.Msg)
}

func newSuperblock(dataBlocks uint64, p Params) *rawSuperblock {
	s := &rawSuperblock{
		Signature: signature, Version: 1, HashType: 1, UUID: p.UUID,
		DataBlockSize: BlockSize, HashBlockSize: BlockSize,
		DataBlocks: dataBlocks, SaltSize: uint16(len(p.Salt)),
	}
	copy(s.Algorithm[:], "sha256")
	copy(s.Salt[:], p.Salt)
	return s
}

func (s *rawSuperblock) marshal() []byte {
	b, err := binary.Append(nil, binary.LittleEndian, s)
	if err != nil {
		panic(err) // a structure of fixed size
	}
	return b
}

// ReadSuperblock reads the head of a hash area and refuses what this package
// does not do. Errors about the content are a *FormatError.
func ReadSuperblock(hash io.ReaderAt) (*Superblock, error) {
	b := make([]byte, superblockSize)
	if _, err := io.ReadFull(io.NewSectionReader(hash, 0, superblockSize), b); err != nil {
		return nil, fmt.Errorf("read verity superblock: %w", err)
	}
	var s rawSuperblock
	if _, err := binary.Decode(b, binary.LittleEndian, &s); err != nil {
		return nil, fmt.Errorf("read verity superblock: %w", err)
	}
	alg := string(bytes.TrimRight(s.Algorithm[:], "\x00"))
	bad := func(off int64, field, format string, args ...any) error {
		return &FormatError{off, field, fmt.Sprintf(format, args...)}
	}
	switch {
	case s.Signature != signature:
		return nil, bad(0, "signature", "%q, want %q", s.Signature[:], signature[:])
	case s.Version != 1:
		return nil, bad(8, "version", "%d, want 1", s.Version)
	case s.HashType != 1:
		return nil, bad(12, "hash_type", "%d, want 1", s.HashType)
	case alg != "sha256":
		return nil, bad(32, "algorithm", "%q, want sha256", alg)
	case s.DataBlockSize != BlockSize:
		return nil, bad(64, "data_block_size", "%d, want %d", s.DataBlockSize, BlockSize)
	case s.HashBlockSize != BlockSize:
		return nil, bad(68, "hash_block_size", "%d, want %d", s.HashBlockSize, BlockSize)
	case checkBlocks(s.DataBlocks) != nil:
		return nil, bad(72, "data_blocks", "%v", checkBlocks(s.DataBlocks))
	case s.SaltSize > maxSalt:
		return nil, bad(80, "salt_size", "%d, want at most %d", s.SaltSize, maxSalt)
	}
	return &Superblock{UUID: s.UUID, Algorithm: alg, BlockSize: BlockSize, DataBlocks: s.DataBlocks, Salt: s.Salt[:s.SaltSize]}, nil
}
