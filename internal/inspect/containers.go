package inspect

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/partition/blockmap"
	"github.com/ingot-os/ingot/partition/frames"
	"github.com/ingot-os/ingot/partition/iso"
	"github.com/ingot-os/ingot/partition/qcow2"
	"github.com/ingot-os/ingot/partition/vhd"
	"github.com/ingot-os/ingot/partition/vmdk"
)

// maxDisk bounds the disks that are looked into, in bytes. A container of some
// bytes can claim any size, and everything is hashed.
const maxDisk = 64 << 30

// addDisk descends into the disk that a container holds.
func addDisk(n *Node, disk io.ReaderAt, size int64) error {
	if size > maxDisk {
		return fmt.Errorf("a disk of %d bytes is not looked into here: qemu-img convert -O raw makes a file of it that is", size)
	}
	in := n.child("disk", "disk")
	in.add("size", size)
	if err := readDisk(in, disk, size); err != nil {
		in.add("problem", err)
	}
	return nil
}

func readQcow2(n *Node, r io.ReaderAt, size int64) error {
	m, err := qcow2.Open(r, size)
	if err != nil {
		return err
	}
	n.add("cluster size", m.ClusterSize())
	return addDisk(n, m, m.Size())
}

func readVHD(n *Node, r io.ReaderAt, size int64) error {
	m, err := vhd.Open(r, size)
	if err != nil {
		return err
	}
	n.add("unique id", fmt.Sprintf("%x", m.ID()))
	n.add("created", date(m.Created()))
	n.add("block size", m.BlockSize())
	return addDisk(n, m, m.Size())
}

func readVMDK(n *Node, r io.ReaderAt, size int64) error {
	m, err := vmdk.Open(r, size)
	if err != nil {
		return err
	}
	n.add("compressed", m.Compressed())
	n.add("descriptor", "\n"+m.Descriptor())
	return addDisk(n, m, m.Size())
}

// readZstd tells a disk in frames from an initramfs, and that from a part of a
// release on a stick.
func readZstd(n *Node, r io.ReaderAt, size int64) error {
	m, err := frames.Open(r, size, frames.Options{})
	if errors.Is(err, frames.ErrNoTable) {
		return readStream(n, r, size)
	}
	n.Kind = "zst"
	if err != nil {
		return err
	}
	n.add("frames", m.Frames())
	n.add("frame size", m.FrameSize())
	return addDisk(n, m, m.Size())
}

// readStream describes a zstd stream: an initramfs, or other bytes by their first
// and their digest. Nothing of them is kept in memory.
func readStream(n *Node, r io.ReaderAt, size int64) error {
	z, err := zstd.NewReader(io.NewSectionReader(r, 0, size), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	head := make([]byte, 4096)
	k, err := io.ReadFull(z, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF || bytes.HasPrefix(head, []byte("0707")) || k == 0 {
		return readInitramfs(n, r, size)
	}
	n.Kind = "zst"
	sum := sha256.New()
	sum.Write(head[:k])
	rest, err := io.Copy(sum, io.LimitReader(z, maxDisk))
	if err != nil {
		return err
	}
	for _, f := range formats {
		if !f.container && f.match(head[:k]) {
			n.add("content", f.kind)
			break
		}
	}
	n.add("unpacked size", int64(k)+rest)
	n.add("unpacked sha256", hex.EncodeToString(sum.Sum(nil)))
	return nil
}

// maxWindow is the largest window of a zstd stream that is unpacked, in bytes.
const maxWindow = 128 << 20

func readISO(n *Node, r io.ReaderAt, size int64) error {
	c, err := iso.Open(r, size)
	if err != nil {
		return err
	}
	n.add("volume id", c.Label)
	n.add("created", c.Created)
	n.add("volume size", c.Size)
	for _, f := range c.Files {
		e := n.child("file", f.Name)
		e.add("offset", f.Off)
		e.add("size", f.Size)
	}
	for _, b := range c.Boot {
		e := n.child("boot image", fmt.Sprintf("platform %#02x", b.Platform))
		e.add("offset", b.Off)
		e.add("size", b.Size)
		if b.Off+b.Size > size {
			continue
		}
		in, err := Reader(io.NewSectionReader(r, b.Off, b.Size), b.Size, "volume")
		if err != nil {
			return err
		}
		e.Children = append(e.Children, in)
	}
	return nil
}

func readBlockMap(n *Node, r io.ReaderAt, size int64) error {
	if size > blockmap.MaxFile {
		return fmt.Errorf("a block map of %d bytes", size)
	}
	data, err := io.ReadAll(io.NewSectionReader(r, 0, size))
	if err != nil {
		return err
	}
	m, err := blockmap.Parse(data)
	if err != nil {
		return err
	}
	n.add("image size", m.Size)
	n.add("block size", m.BlockSize)
	n.add("mapped blocks", m.Mapped())
	for _, r := range m.Ranges {
		c := n.child("file", fmt.Sprintf("blocks %d to %d", r.First, r.Last)) // one line each
		c.add("sha256", r.SHA256)
	}
	return nil
}

func isBlockMap(head []byte) bool {
	return bytes.HasPrefix(head, []byte("<?xml")) && bytes.Contains(head, []byte("<bmap "))
}
