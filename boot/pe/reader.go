package pe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

var le = binary.LittleEndian

// Parse reads the headers of the PE image that is the first size bytes of r
// and checks that no field points outside of it. Errors about the content are
// *FormatError.
func Parse(r io.ReaderAt, size int64) (*File, error) {
	head := make([]byte, min(max(size, 0), HeaderLimit))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, formatf(int64(n), "headers", "%v", err)
	}
	p := parser{head: head, file: &File{Size: size}}
	steps := []func() error{p.locate, p.coffHeader, p.optionalHeader, p.directories, p.sections, p.file.checkLayout, p.certificates}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p.file, nil
}

type parser struct {
	head     []byte // the file up to HeaderLimit
	file     *File
	nSection int
	optSize  int64
}

// decode fills v from the bytes at off.
func (p *parser) decode(off int64, field string, v any) error {
	if off < 0 || off > int64(len(p.head)) {
		return formatf(off, field, "outside of the first %d bytes", len(p.head))
	}
	if _, err := binary.Decode(p.head[off:], le, v); err != nil {
		return formatf(off, field, "truncated at %d bytes", len(p.head))
	}
	return nil
}

// locate follows the DOS header to the signature "PE\0\0".
func (p *parser) locate() error {
	if len(p.head) < dosHeaderSize || string(p.head[:2]) != "MZ" {
		return formatf(0, "e_magic", "no MZ header")
	}
	at := int64(le.Uint32(p.head[0x3c:]))
	if at < dosHeaderSize || at > int64(len(p.head))-4 {
		return formatf(0x3c, "e_lfanew", "%#x is not within %#x..%#x", at, dosHeaderSize, len(p.head)-4)
	}
	if string(p.head[at:at+4]) != "PE\x00\x00" {
		return formatf(at, "Signature", "not PE")
	}
	p.file.coff = at + 4
	return nil
}

func (p *parser) coffHeader() error {
	var h fileHeader
	if err := p.decode(p.file.coff, "COFF header", &h); err != nil {
		return err
	}
	if h.NumberOfSections == 0 || h.NumberOfSections > maxSections {
		return formatf(p.file.coff+offNumberOfSections, "NumberOfSections", "%d is not within 1..%d", h.NumberOfSections, maxSections)
	}
	p.nSection, p.optSize = int(h.NumberOfSections), int64(h.SizeOfOptionalHeader)
	f := p.file
	f.Machine, f.TimeDateStamp, f.Characteristics = h.Machine, h.TimeDateStamp, h.Characteristics
	f.optional = f.coff + fileHeaderSize
	f.table = f.optional + p.optSize
	return nil
}

func (p *parser) optionalHeader() error {
	var h optionalHead
	var t optionalTail
	f := p.file
	if err := p.decode(f.optional, "optional header", &h); err != nil {
		return err
	}
	if err := p.decode(f.optional+32, "optional header", &t); err != nil {
		return err
	}
	f.Magic, f.EntryPoint = h.Magic, h.AddressOfEntryPoint
	f.SectionAlignment, f.FileAlignment = t.SectionAlignment, t.FileAlignment
	f.SizeOfImage, f.SizeOfHeaders = t.SizeOfImage, t.SizeOfHeaders
	f.CheckSum, f.Subsystem = t.CheckSum, t.Subsystem
	if err := p.imageBase(); err != nil {
		return err
	}
	return p.checkOptional()
}

// imageBase reads the one field whose width and place depend on Magic.
func (p *parser) imageBase() error {
	f := p.file
	switch f.Magic {
	case magic32:
		var base uint32
		f.dirs = f.optional + optional32Size
		err := p.decode(f.optional+28, "ImageBase", &base)
		f.ImageBase = uint64(base)
		return err
	case magic64:
		f.dirs = f.optional + optional64Size
		return p.decode(f.optional+24, "ImageBase", &f.ImageBase)
	}
	return formatf(f.optional, "Magic", "%#x is neither PE32 nor PE32+", f.Magic)
}

func (p *parser) checkOptional() error {
	f := p.file
	switch {
	case f.dirs > f.table:
		return formatf(f.coff+16, "SizeOfOptionalHeader", "%d is too small", p.optSize)
	case !powerOfTwo(f.SectionAlignment):
		return formatf(f.optional+32, "SectionAlignment", "%#x is not a power of two", f.SectionAlignment)
	case !powerOfTwo(f.FileAlignment) || f.FileAlignment > maxFileAlignment:
		return formatf(f.optional+36, "FileAlignment", "%#x is not a power of two up to %#x", f.FileAlignment, maxFileAlignment)
	case int64(f.SizeOfHeaders) > f.Size:
		return formatf(f.optional+offSizeOfHeaders, "SizeOfHeaders", "%#x is more than the file's %#x bytes", f.SizeOfHeaders, f.Size)
	case f.table+int64(p.nSection)*sectionHeaderSize > int64(f.SizeOfHeaders):
		return formatf(f.optional+offSizeOfHeaders, "SizeOfHeaders", "%#x ends before the section table", f.SizeOfHeaders)
	}
	return nil
}

// maxFileAlignment is the specification's. Its least, 512, does not hold: the
// x86 kernel had 32 until Linux 6.6.
const maxFileAlignment = 64 << 10

func powerOfTwo(n uint32) bool { return n != 0 && n&(n-1) == 0 }

func (p *parser) directories() error {
	f := p.file
	var n uint32
	if err := p.decode(f.dirs-4, "NumberOfRvaAndSizes", &n); err != nil {
		return err
	}
	if n > maxDirectories || f.dirs+int64(n)*directorySize > f.table {
		return formatf(f.dirs-4, "NumberOfRvaAndSizes", "%d directories do not fit the optional header", n)
	}
	f.Directories = make([]Directory, n)
	return p.decode(f.dirs, "data directories", f.Directories)
}

func (p *parser) sections() error {
	raw := make([]sectionHeader, p.nSection)
	if err := p.decode(p.file.table, "section table", raw); err != nil {
		return err
	}
	for i, s := range raw {
		name, rest, _ := bytes.Cut(s.Name[:], []byte{0})
		if len(bytes.Trim(rest, "\x00")) > 0 {
			return formatf(p.file.table+int64(i)*sectionHeaderSize, "Name", "bytes behind the end of %q", name)
		}
		p.file.Sections = append(p.file.Sections, SectionHeader{
			Name: string(name), VirtualAddress: s.VirtualAddress, VirtualSize: s.VirtualSize,
			Offset: s.PointerToRawData, RawSize: s.SizeOfRawData, Characteristics: s.Characteristics,
		})
	}
	return nil
}

// certificates checks data directory 4, which holds a file offset.
func (p *parser) certificates() error {
	f := p.file
	if len(f.Directories) <= dirCertificates {
		return nil
	}
	c := f.Directories[dirCertificates]
	off := f.dirs + dirCertificates*directorySize
	switch {
	case c.Size == 0 && c.VirtualAddress == 0:
		return nil
	case c.Size == 0 || c.VirtualAddress < f.SizeOfHeaders:
		return formatf(off, "Certificate Table", "%d bytes at %#x", c.Size, c.VirtualAddress)
	case int64(c.VirtualAddress)+int64(c.Size) > f.Size:
		return formatf(off, "Certificate Table", "ends at %#x, the file at %#x", int64(c.VirtualAddress)+int64(c.Size), f.Size)
	}
	f.Certificates = c
	return nil
}
