// Package verity builds and checks dm-verity hash trees, version 1 of the
// format in the Linux kernel's Documentation/admin-guide/device-mapper/verity.rst
// and cryptsetup's on-disk superblock: byte for byte what "veritysetup format"
// writes.
//
// The hash area starts with a superblock in a block of its own; after it come
// the levels of the tree, the top level first. Each digest is SHA-256 over the
// salt and then the block:
//
//	sum, err := verity.Build(data, blocks, hashArea, verity.Params{Salt: salt, UUID: id})
//	err = verity.Verify(data, hashArea, sum)
//
// Limits: SHA-256, blocks of 4096 bytes, no forward error correction. Volumes
// of a single block are refused: veritysetup and the kernel disagree with
// themselves on where their tree lies.
package verity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

const (
	// BlockSize is the number of bytes of a data block and of a hash block.
	BlockSize = 4096

	digestSize = sha256.Size
	fanout     = BlockSize / digestSize
	maxSalt    = 256
	// maxBlocks keeps every byte offset below 2^62, tree included.
	maxBlocks = 1 << 49
)

// Params are the inputs of a tree besides the data.
type Params struct {
	Salt    []byte   // at most 256 bytes, hashed before every block
	UUID    [16]byte // names the hash area; the kernel does not look at it
	Workers int      // goroutines that hash; 0 takes one for each processor. The bytes do not depend on it
}

// MismatchError is returned by Verify for the first block that is not what the root hash stands for.
type MismatchError struct {
	Area  string // "data" or "hash"
	Block uint64 // number of the block in its area, from 0
}

// Error implements error.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("verify: %s block %d (byte %d) does not match its digest", e.Area, e.Block, e.Block*BlockSize)
}

// level is one level of the tree.
type level struct {
	first  uint64 // hash block number
	blocks uint64
}

// levels returns the tree from the leaves to the top; it is stored in the
// opposite order, from hash block 1 on.
func levels(dataBlocks uint64) []level {
	var out []level
	for n := dataBlocks; n > 1; {
		n = (n + fanout - 1) / fanout
		out = append(out, level{blocks: n})
	}
	next := uint64(1)
	for i := len(out) - 1; i >= 0; i-- {
		out[i].first = next
		next += out[i].blocks
	}
	return out
}

func checkBlocks(n uint64) error {
	if n < 2 || n > maxBlocks {
		return fmt.Errorf("%d data blocks, want 2 to %d", n, uint64(maxBlocks))
	}
	return nil
}

// HashSize returns the bytes of superblock and tree for a number of data blocks.
func HashSize(dataBlocks uint64) int64 {
	n := uint64(1)
	for _, l := range levels(dataBlocks) {
		n += l.blocks
	}
	return int64(n) * BlockSize
}

// Build hashes dataBlocks blocks of data, writes superblock and tree to w from
// offset 0 on and returns the root hash. It writes every one of the HashSize
// bytes, at different offsets at once, as io.WriterAt allows.
func Build(data io.ReaderAt, dataBlocks uint64, w io.WriterAt, p Params) (root [digestSize]byte, err error) {
	if err := checkBlocks(dataBlocks); err != nil {
		return root, fmt.Errorf("build verity tree: %w", err)
	}
	if len(p.Salt) > maxSalt {
		return root, fmt.Errorf("build verity tree: salt of %d bytes, want at most %d", len(p.Salt), maxSalt)
	}
	head := make([]byte, BlockSize)
	copy(head, newSuperblock(dataBlocks, p).marshal())
	if _, err := w.WriteAt(head, 0); err != nil {
		return root, fmt.Errorf("write verity superblock: %w", err)
	}
	tree := levels(dataBlocks)
	digests, err := buildLeaves(source{data, "data", 0, dataBlocks}, tree[0], w, p)
	if err != nil {
		return root, err
	}
	for _, l := range tree[1:] {
		if digests, err = buildLevel(digests, l, w, p.Salt); err != nil {
			return root, err
		}
	}
	return [digestSize]byte(digests), nil
}

// source is a stretch of blocks that is hashed.
type source struct {
	r      io.ReaderAt
	area   string
	first  uint64
	blocks uint64
}

// read fills buf from block i on.
func (s source) read(buf []byte, i uint64) error {
	off := int64(s.first+i) * BlockSize
	n, err := s.r.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %s at byte %d: %w", s.area, off+int64(n), err)
}

// hasher is what one worker needs.
type hasher struct {
	h    hash.Hash
	salt []byte
	in   []byte // fanout blocks
	out  []byte // their digests: one hash block
}

func newHasher(salt []byte) *hasher {
	return &hasher{sha256.New(), salt, make([]byte, fanout*BlockSize), make([]byte, BlockSize)}
}

// sum appends the digest of a block to dst.
func (h *hasher) sum(dst, block []byte) []byte {
	h.h.Reset()
	h.h.Write(h.salt)
	h.h.Write(block)
	return h.h.Sum(dst)
}

// group hashes up to fanout blocks of src, the i-th group of them, into h.out.
func (h *hasher) group(src source, i uint64) error {
	n := min(fanout, src.blocks-i*fanout)
	in := h.in[:n*BlockSize]
	if err := src.read(in, i*fanout); err != nil {
		return err
	}
	clear(h.out)
	out := h.out[:0]
	for ; len(in) > 0; in = in[BlockSize:] {
		out = h.sum(out, in[:BlockSize])
	}
	return nil
}

// buildLeaves hashes the data, writes the lowest level and returns the digests of its blocks.
func buildLeaves(src source, l level, w io.WriterAt, p Params) ([]byte, error) {
	digests := make([]byte, l.blocks*digestSize)
	err := parallel(l.blocks, p.Workers, p.Salt, func(h *hasher, i uint64) error {
		if err := h.group(src, i); err != nil {
			return fmt.Errorf("build verity tree: %w", err)
		}
		h.sum(digests[i*digestSize:i*digestSize], h.out)
		return write(w, h.out, l.first+i)
	})
	return digests, err
}

// buildLevel writes a level that holds the given digests and returns those of its own
// blocks. It is 1/128 of the leaves and less, not worth a second goroutine.
func buildLevel(below []byte, l level, w io.WriterAt, salt []byte) ([]byte, error) {
	h, digests := newHasher(salt), make([]byte, 0, l.blocks*digestSize)
	for i := range l.blocks {
		clear(h.out)
		copy(h.out, below[i*BlockSize:])
		digests = h.sum(digests, h.out)
		if err := write(w, h.out, l.first+i); err != nil {
			return nil, err
		}
	}
	return digests, nil
}

func write(w io.WriterAt, block []byte, i uint64) error {
	if _, err := w.WriteAt(block, int64(i)*BlockSize); err != nil {
		return fmt.Errorf("write verity tree: %w", err)
	}
	return nil
}
