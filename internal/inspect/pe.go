package inspect

import (
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
	for _, s := range info.Sections {
		c := n.child("section", s.Name)
		c.add("offset", s.Offset)
		c.add("size", s.Size)
		c.add("virtual address", fmt.Sprintf("%#x", s.VirtualAddress))
		c.add("virtual size", s.VirtualSize)
		c.add("sha256", s.SHA256)
		if err := readSection(c, io.NewSectionReader(r, s.Offset, s.Size), s); err != nil {
			c.add("problem", err)
		}
	}
	return nil
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
		c.Children = append(c.Children, in)
	}
	return nil
}
