package inspect

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/pe"
)

func readPE(n *Node, r io.ReaderAt, size int64) error {
	info, err := boot.Inspect(r, size)
	if err != nil {
		return err
	}
	n.add("arch", info.Arch)
	n.add("stub", info.Stub)
	n.add("uname", info.Uname)
	n.add("os", strings.TrimSpace(info.OS.PrettyName))
	n.add("signed", info.Signed)
	n.add("problem", info.Problem)
	addHeader(n, info.PE)
	n.add("authenticode", info.Authenticode)
	addSignatures(n, r, size)
	for _, s := range info.Sections {
		c := n.child("section", s.Name).placed(s.Offset, s.Size)
		c.add("offset", s.Offset)
		c.add("size", s.Size)
		c.add("virtual address", fmt.Sprintf("%#x", s.VirtualAddress))
		c.add("virtual size", s.VirtualSize)
		c.add("sha256", s.SHA256)
		if err := readSection(c, io.NewSectionReader(r, s.Offset, s.Size), s); err != nil {
			c.add("problem", err)
		}
	}
	return peRegions(n, r, info, size)
}

// peRegions names what lies around sections.
func peRegions(n *Node, r io.ReaderAt, info boot.Info, size int64) error {
	if info.PE == nil {
		return nil
	}
	end, err := headersEnd(r, len(info.PE.Sections))
	if err != nil {
		return err
	}
	if c := info.PE.Certificates; c.Size > 0 {
		n.region(int64(c.VirtualAddress), int64(c.VirtualAddress)+int64(c.Size), "signatures")
	}
	n.region(0, end, "headers")
	n.region(end, int64(info.PE.SizeOfHeaders), "padding after headers")
	for _, s := range info.PE.Sections {
		n.region(int64(s.Offset)+s.DataSize(), int64(s.Offset)+int64(s.RawSize), "padding after section "+s.Name)
	}
	n.region(int64(info.PE.SizeOfHeaders), size, "padding between sections")
	return nil
}

// headersEnd finds the end of the section table: 40 bytes each, behind the
// optional header (PE/COFF 3.3 and 4).
func headersEnd(r io.ReaderAt, sections int) (int64, error) {
	le := binary.LittleEndian
	var at [4]byte
	if _, err := r.ReadAt(at[:], 0x3c); err != nil {
		return 0, err
	}
	coff := int64(le.Uint32(at[:])) + 4
	var size [2]byte
	if _, err := r.ReadAt(size[:], coff+16); err != nil {
		return 0, err
	}
	return coff + 20 + int64(le.Uint16(size[:])) + 40*int64(sections), nil
}

// addHeader names the PE fields that a build decides (PE/COFF 3.3 and 3.4).
func addHeader(n *Node, f *pe.File) {
	if f == nil {
		return
	}
	n.add("time date stamp", f.TimeDateStamp)
	n.add("check sum", f.CheckSum)
	n.add("size of image", f.SizeOfImage)
	n.add("size of headers", f.SizeOfHeaders)
}

// readSection shows texts as they are and opens the initramfs.
func readSection(c *Node, r *io.SectionReader, s boot.SectionInfo) error {
	switch s.Name {
	case ".cmdline", ".osrel", ".uname", ".sbat", ".sdmagic", ".profile":
		text, err := io.ReadAll(io.LimitReader(r, 1<<16))
		if err != nil {
			return err
		}
		c.add("text", strings.TrimRight(string(text), "\x00\n"))
	case ".initrd", ".ucode":
		in, err := Reader(r, s.Size, "initramfs")
		if err != nil {
			return err
		}
		c.Children = append(c.Children, in.placed(0, s.Size))
	}
	return nil
}
