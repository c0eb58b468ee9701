package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/erofs"
	"github.com/ingot-os/ingot/partition/squashfs"
	"github.com/ingot-os/ingot/partition/tree"
	"github.com/ingot-os/ingot/partition/verity"
)

// checkRoot computes the dm-verity root hash of the payload again and compares
// it with the one that the command line trusts, then reads its files.
func (v *verifier) checkRoot(c *Check, out contents) error {
	r := v.m.Root
	if r == nil {
		c.skip(WhyNoRoot)
		return nil
	}
	read := map[string]map[string]content{} // by digest of the partition
	for _, role := range []string{partition.RootA, partition.RootB} {
		p := v.part(role)
		if p == nil || !p.intact {
			continue
		}
		if files := read[p.sum]; files != nil {
			out[role] = files
			c.Count++
			continue
		}
		if err := v.readRoot(c, p, r, out); err != nil {
			return err
		}
		read[p.sum] = out[role]
	}
	if c.Count == 0 {
		c.skip(v.nothing())
	}
	return nil
}

func (v *verifier) readRoot(c *Check, p *partFacts, r *release.Root, out contents) error {
	c.Count++
	place := at(v.image.name, p.Role)
	s := v.section(p.Part)
	if r.HashStart >= p.Size {
		c.refuse(RootVerity, place, "a hash tree within the partition", fmt.Sprint(r.HashStart))
		return nil
	}
	err := verifyRoot(s, p.Size, r)
	var mismatch *verity.MismatchError
	switch {
	case errors.As(err, &mismatch):
		c.malformed(RootHash, place, err)
		return nil
	case err != nil:
		c.malformed(RootVerity, place, err)
		return nil
	}
	t, err := rootTree(io.NewSectionReader(s, 0, r.DataSize), r)
	if err == nil {
		err = out.add(v.ctx, p.Role, t)
	}
	if err != nil {
		c.malformed(RootMalformed, place, err)
	}
	return v.ctx.Err()
}

// verifyRoot demands a tree over exactly the data that the manifest names: the
// superblock is the only other place that says how much that is.
func verifyRoot(s io.ReaderAt, size int64, r *release.Root) error {
	hashes := io.NewSectionReader(s, r.HashStart, size-r.HashStart)
	super, err := verity.ReadSuperblock(hashes)
	if err != nil {
		return err
	}
	if want := uint64(r.DataSize / verity.BlockSize); super.DataBlocks != want {
		return fmt.Errorf("superblock: %d data blocks, want %d", super.DataBlocks, want)
	}
	root, err := hex.DecodeString(r.RootHash)
	if err != nil || len(root) != 32 {
		return fmt.Errorf("root hash %q is no SHA-256", r.RootHash)
	}
	return verity.Verify(s, hashes, [32]byte(root))
}

func rootTree(r *io.SectionReader, root *release.Root) (*tree.Tree, error) {
	switch root.Format {
	case "squashfs":
		v, err := squashfs.Open(r, r.Size())
		if err != nil {
			return nil, err
		}
		return v.Tree()
	case "erofs":
		v, err := erofs.Open(r, r.Size())
		if err != nil {
			return nil, err
		}
		return v.Tree()
	}
	return nil, fmt.Errorf("unknown format %q", root.Format)
}
