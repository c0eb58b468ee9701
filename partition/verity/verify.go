package verity

import (
	"bytes"
	"fmt"
	"io"
)

// Verify checks the tree of a hash area against a root hash, from the top down,
// and then all data blocks. The first block that differs is a *MismatchError.
// As in the kernel nothing but the root hash is trusted: the salt and the number
// of blocks come from the superblock, and another salt gives another root.
func Verify(data, hash io.ReaderAt, root [digestSize]byte) error {
	s, err := ReadSuperblock(hash)
	if err != nil {
		return err
	}
	tree := levels(s.DataBlocks)
	want := root[:] // digests of the blocks below
	for i := len(tree) - 1; i >= 0; i-- {
		src := source{hash, "hash", tree[i].first, tree[i].blocks}
		if err := verifyLevel(src, bytes.NewReader(want), int64(len(want)), s.Salt); err != nil {
			return err
		}
		if i == 0 {
			break
		}
		want = make([]byte, tree[i].blocks*BlockSize)
		if err := src.read(want, 0); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		want = want[:tree[i-1].blocks*digestSize]
	}
	leaves := io.NewSectionReader(hash, int64(tree[0].first)*BlockSize, int64(tree[0].blocks)*BlockSize)
	return verifyLevel(source{data, "data", 0, s.DataBlocks}, leaves, leaves.Size(), s.Salt)
}

// verifyLevel hashes all blocks of src and compares with the list of digests.
func verifyLevel(src source, digests io.ReaderAt, size int64, salt []byte) error {
	groups := (src.blocks + fanout - 1) / fanout
	return parallel(groups, 0, salt, func(h *hasher, i uint64) error {
		if err := h.group(src, i); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		want := make([]byte, min(BlockSize, size-int64(i)*BlockSize))
		if n, err := digests.ReadAt(want, int64(i)*BlockSize); n < len(want) {
			return fmt.Errorf("verify: read digests: %w", err)
		}
		for k := uint64(0); k < fanout && i*fanout+k < src.blocks; k++ {
			if !bytes.Equal(h.out[k*digestSize:(k+1)*digestSize], want[k*digestSize:(k+1)*digestSize]) {
				return &MismatchError{src.area, src.first + i*fanout + k}
			}
		}
		return nil
	})
}
