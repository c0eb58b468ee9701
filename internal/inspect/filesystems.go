package inspect

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/partition/erofs"
	"github.com/ingot-os/ingot/partition/squashfs"
	"github.com/ingot-os/ingot/partition/tree"
	"github.com/ingot-os/ingot/partition/verity"
)

func readSquashfs(n *Node, r io.ReaderAt, size int64) error {
	v, err := squashfs.Open(r, size)
	if err != nil {
		return err
	}
	i := v.Info()
	n.add("compression", i.Compression)
	n.addUse(i.BlockSize, i.Epoch, uint64(i.Inodes), i.Size)
	if err := addTreeOf(n, v); err != nil {
		return err
	}
	for _, c := range n.Children {
		f := v.Inodes()[c.Name]
		c.detail("mtime", date(f.Time))
		c.detail("inode", f.Number)
		if f.Stored > 0 {
			c.detail("stored size", f.Stored)
			c.detail("data at", f.Start)
		}
	}
	n.detail("compressor level", i.Level)
	n.detail("stored data", fmt.Sprintf("%d bytes", i.Data))
	n.detail("flags", strings.Join(i.Flags, ", "))
	n.region(0, 96, "superblock")
	n.region(96, i.Data, "data blocks")
	n.region(i.Data, i.Size, "tables")
	return addVerity(n, r, size, i.Size)
}

func readErofs(n *Node, r io.ReaderAt, size int64) error {
	v, err := erofs.Open(r, size)
	if err != nil {
		return err
	}
	i := v.Info()
	n.addUse(i.BlockSize, i.Epoch, i.Inodes, i.Size)
	if err := addTreeOf(n, v); err != nil {
		return err
	}
	for _, c := range n.Children {
		f := v.Inodes()[c.Name]
		c.detail("mtime", date(f.Time))
		c.detail("inode at", f.Number) // erofs numbers inodes by their places
	}
	n.detail("uuid", i.UUID)
	n.detail("label", i.Label)
	n.region(0, i.Size, "blocks")
	return addVerity(n, r, size, i.Size)
}

// addUse says what every root filesystem has.
func (n *Node) addUse(block int, epoch int64, inodes uint64, used int64) {
	n.add("block size", block)
	n.add("epoch", date(epoch))
	n.add("inodes", inodes)
	n.add("bytes used", used)
}

// addTreeOf adds the files of an open filesystem.
func addTreeOf(n *Node, v interface{ Tree() (*tree.Tree, error) }) error {
	t, err := v.Tree()
	if err != nil {
		return err
	}
	return addTree(n, t, false)
}

// addVerity looks for a hash tree behind a filesystem of so many bytes: at the
// next whole block, and not before the second.
func addVerity(n *Node, r io.ReaderAt, size, used int64) error {
	n.region(used, (used+verity.BlockSize-1)/verity.BlockSize*verity.BlockSize, "padding after the filesystem")
	at := max(2*verity.BlockSize, (used+verity.BlockSize-1)/verity.BlockSize*verity.BlockSize)
	if at+verity.BlockSize > size {
		return nil
	}
	if _, err := verity.ReadSuperblock(io.NewSectionReader(r, at, size-at)); err != nil {
		return nil // nothing there, or nothing of ours
	}
	c := n.child("verity", fmt.Sprintf("at %d", at)).placed(at, size-at)
	return readVerity(c, io.NewSectionReader(r, at, size-at), size-at)
}

func readVerity(n *Node, r io.ReaderAt, _ int64) error {
	s, err := verity.ReadSuperblock(r)
	if err != nil {
		return err
	}
	n.add("algorithm", s.Algorithm)
	n.add("uuid", hex.EncodeToString(s.UUID[:]))
	n.add("salt", hex.EncodeToString(s.Salt))
	n.add("data blocks", s.DataBlocks)
	n.add("block size", s.BlockSize)
	n.region(0, 512, "superblock")
	n.region(512, verity.BlockSize, "padding after the superblock")
	n.region(verity.BlockSize, 1<<62, "hash tree")
	return nil
}
