// Package pe reads PE/COFF images as UEFI firmware loads them, appends
// sections to an EFI stub, and computes the Authenticode digest, to "PE
// Format" (Microsoft, revision of 2024) as narrowed by UEFI 2.10 section 2.1.1.
//
// Limits: PE32 and PE32+ images whose headers end within the first 64 KiB and
// that have at most 96 sections. Parse reads nothing but those headers. It
// refuses what a boot loader could read in two ways: raw or virtual overlaps,
// data behind the end of the file, sections below the headers. Section names
// of more than eight bytes (the COFF string table) are not resolved.
//
// Shape of use:
//
//	f, err := pe.Parse(r, size)               // headers as a value
//	p, err := pe.AppendSections(stub, extra)  // where every byte goes
//	n, err := p.WriteTo(w)                    // streams the extra sections
//	d, err := pe.Authenticode(r, size, crypto.SHA256)
package pe

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// Machine values of the COFF header for the architectures that ingot boots.
const (
	MachineAMD64 uint16 = 0x8664
	MachineARM64 uint16 = 0xaa64
)

// SubsystemEFIApplication is the optional header's Subsystem of an EFI application.
const SubsystemEFIApplication uint16 = 10

// HeaderLimit is the number of bytes from the start of a file within which all
// headers must lie; Parse never reads behind it.
const HeaderLimit = 64 << 10

// maxSections is the limit of the Windows loader; a real UKI has about 15.
const maxSections = 96

// File is the parsed headers of a PE image.
type File struct {
	Size             int64           `json:"size"` // of the file, in bytes
	Machine          uint16          `json:"machine"`
	TimeDateStamp    uint32          `json:"timeDateStamp"`
	Characteristics  uint16          `json:"characteristics"`
	Magic            uint16          `json:"magic"` // 0x10b PE32, 0x20b PE32+
	EntryPoint       uint32          `json:"entryPoint"`
	ImageBase        uint64          `json:"imageBase"`
	SectionAlignment uint32          `json:"sectionAlignment"`
	FileAlignment    uint32          `json:"fileAlignment"`
	SizeOfImage      uint32          `json:"sizeOfImage"`
	SizeOfHeaders    uint32          `json:"sizeOfHeaders"`
	CheckSum         uint32          `json:"checkSum"`
	Subsystem        uint16          `json:"subsystem"`
	Directories      []Directory     `json:"directories,omitempty"`
	Sections         []SectionHeader `json:"sections"`
	// Certificates is data directory 4: a file offset, not an address, and a
	// length in bytes. Both are 0 in an unsigned image.
	Certificates Directory `json:"certificates"`

	coff     int64 // file offset of the COFF header, behind "PE\0\0"
	optional int64 // file offset of the optional header
	dirs     int64 // file offset of the first data directory
	table    int64 // file offset of the section table
}

// Directory is one entry of the optional header's data directories.
type Directory struct {
	VirtualAddress uint32 `json:"virtualAddress"`
	Size           uint32 `json:"size"`
}

// SectionHeader is one entry of the section table.
type SectionHeader struct {
	Name            string `json:"name"`
	VirtualAddress  uint32 `json:"virtualAddress"`
	VirtualSize     uint32 `json:"virtualSize"` // bytes that count: what the stub reads and measures
	Offset          uint32 `json:"offset"`      // of the raw data in the file
	RawSize         uint32 `json:"rawSize"`     // a multiple of FileAlignment
	Characteristics uint32 `json:"characteristics"`
}

// DataSize returns the number of bytes of the section that are content in the
// file: VirtualSize, but not more than there is raw data.
func (s SectionHeader) DataSize() int64 { return int64(min(s.VirtualSize, s.RawSize)) }

// memorySize is the space a section takes when loaded; firmware falls back to
// the raw size where VirtualSize is 0.
func (s SectionHeader) memorySize() uint64 {
	if s.VirtualSize == 0 {
		return uint64(s.RawSize)
	}
	return uint64(s.VirtualSize)
}

// FormatError says which field of an image is wrong.
type FormatError struct {
	Off   int64  // file offset of the field in bytes
	Field string // name of the field in the specification
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("pe: offset %#x, %s: %s", e.Off, e.Field, e.Msg)
}

func formatf(off int64, field, format string, args ...any) error {
	return &FormatError{Off: off, Field: field, Msg: fmt.Sprintf(format, args...)}
}

// Section returns the first section of that name, or nil. The systemd stub,
// too, takes the first.
func (f *File) Section(name string) *SectionHeader {
	i := slices.IndexFunc(f.Sections, func(s SectionHeader) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &f.Sections[i]
}

// Data returns a reader of the section's content inside r, which must be the
// file that f was parsed from.
func (s SectionHeader) Data(r io.ReaderAt) *io.SectionReader {
	return io.NewSectionReader(r, int64(s.Offset), s.DataSize())
}

// CertificateEntry returns the file offset of data directory 4, which says
// where the certificates are, and of CheckSum: what signing changes in the
// headers. It fails on an image whose directories end before it.
func (f *File) CertificateEntry() (entry, checkSum int64, err error) {
	if len(f.Directories) <= dirCertificates {
		return 0, 0, formatf(f.dirs-4, "NumberOfRvaAndSizes", "%d directories leave no room for a signature", len(f.Directories))
	}
	return f.dirs + dirCertificates*directorySize, f.optional + offCheckSum, nil
}

// Signed reports whether the image carries a certificate table. It says
// nothing about who signed it or whether the signature holds.
func (f *File) Signed() bool { return f.Certificates.Size != 0 }

// CheckUKI reports why an image is not a unified kernel image that has exactly
// one meaning: it must be an EFI application with a .linux section, no two
// sections may share a name, no profiles may choose among them, and content
// that is only read may not be longer in memory than in the file. (UAPI.5: the
// stub takes the first section of a name, another tool may take the last; the
// stub measures VirtualSize bytes, another tool the raw ones.)
func (f *File) CheckUKI() error {
	if f.Subsystem != SubsystemEFIApplication {
		return formatf(f.optional+offSubsystem, "Subsystem", "%d is not an EFI application (%d)", f.Subsystem, SubsystemEFIApplication)
	}
	if err := f.CheckSections(); err != nil {
		return err
	}
	if f.Section(".linux") == nil {
		return formatf(f.table, "section table", "no .linux section")
	}
	return nil
}

// CheckSections reports why the sections of a UKI, or of the stub that one is
// made of, mean one thing to a reader and another to the next, as CheckUKI says.
func (f *File) CheckSections() error {
	seen := map[string]bool{}
	for i, s := range f.Sections {
		off := f.table + int64(i)*sectionHeaderSize
		if seen[s.Name] {
			return formatf(off, "Name", "second section named %q", s.Name)
		}
		if s.Name == ".profile" {
			return formatf(off, "Name", "an image with profiles has more than one meaning")
		}
		if s.Characteristics&memWrite == 0 && s.VirtualSize > s.RawSize {
			return formatf(off+8, "VirtualSize", "section %q has %#x bytes in memory and %#x in the file", s.Name, s.VirtualSize, s.RawSize)
		}
		seen[s.Name] = true
	}
	return nil
}

// checkLayout refuses sections that overlap each other or the headers, in the
// file or in memory.
func (f *File) checkLayout() error {
	for i, s := range f.Sections {
		if err := f.checkSection(f.table+int64(i)*sectionHeaderSize, s); err != nil {
			return err
		}
	}
	raw := f.inFileOrder()
	for i := 1; i < len(raw); i++ {
		if a, b := raw[i-1], raw[i]; uint64(a.Offset)+uint64(a.RawSize) > uint64(b.Offset) {
			return formatf(int64(b.Offset), "PointerToRawData", "data of section %q lies inside %q", b.Name, a.Name)
		}
	}
	mem := slices.Clone(f.Sections)
	slices.SortStableFunc(mem, func(a, b SectionHeader) int { return cmp.Compare(a.VirtualAddress, b.VirtualAddress) })
	for i := 1; i < len(mem); i++ {
		if a, b := mem[i-1], mem[i]; uint64(a.VirtualAddress)+a.memorySize() > uint64(b.VirtualAddress) {
			return formatf(f.table, "VirtualAddress", "section %q at %#x lies inside %q", b.Name, b.VirtualAddress, a.Name)
		}
	}
	return nil
}

func (f *File) checkSection(off int64, s SectionHeader) error {
	switch {
	case s.RawSize > 0 && s.Offset < f.SizeOfHeaders:
		return formatf(off+20, "PointerToRawData", "section %q at %#x lies inside the headers (%#x bytes)", s.Name, s.Offset, f.SizeOfHeaders)
	case s.RawSize > 0 && int64(s.Offset)+int64(s.RawSize) > f.Size:
		return formatf(off+16, "SizeOfRawData", "section %q ends at %#x, the file at %#x", s.Name, int64(s.Offset)+int64(s.RawSize), f.Size)
	case s.memorySize() > 0 && s.VirtualAddress < f.SizeOfHeaders:
		return formatf(off+12, "VirtualAddress", "section %q at %#x lies inside the headers (%#x bytes)", s.Name, s.VirtualAddress, f.SizeOfHeaders)
	case uint64(s.VirtualAddress)+s.memorySize() > uint64(f.SizeOfImage):
		return formatf(off+8, "VirtualSize", "section %q ends at %#x, SizeOfImage is %#x", s.Name, uint64(s.VirtualAddress)+s.memorySize(), f.SizeOfImage)
	}
	return nil
}

// inFileOrder returns the sections that have raw data, by file offset.
func (f *File) inFileOrder() []SectionHeader {
	raw := slices.DeleteFunc(slices.Clone(f.Sections), func(s SectionHeader) bool { return s.RawSize == 0 })
	slices.SortStableFunc(raw, func(a, b SectionHeader) int { return cmp.Compare(a.Offset, b.Offset) })
	return raw
}
