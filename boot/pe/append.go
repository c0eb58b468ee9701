package pe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/ingot-os/ingot/partition/tree"
)

// Section is one section to append to a stub. It is read-only data.
type Section struct {
	Name string    // 1 to 8 bytes
	Data tree.Blob // at least one byte
}

// pageSize is the least alignment of an appended section: the stub and newer
// firmware (NX_COMPAT) set page permissions section by section, and Debian's
// stub of systemd 252 states an alignment of less than a page.
const pageSize = 4096

// AppendSections plans the image that is stub with more sections behind its
// own. Each new section is aligned to a page in memory and to FileAlignment in
// the file; the header grows, and all raw data moves, when the section table
// has no room. Build traces are removed: the COFF time stamp, the symbol table
// and what else follows the last section, the checksum, and a signature, which
// could not hold. The length is padded with zeros to a multiple of 8 bytes, so
// that signing does not change the digest.
//
// The sections' content is not read before Plan.WriteTo.
func AppendSections(stub []byte, sections []Section) (*Plan, error) {
	f, err := Parse(bytes.NewReader(stub), int64(len(stub)))
	if err != nil {
		return nil, fmt.Errorf("append sections to stub: %w", err)
	}
	a := appender{stub: stub, file: f, add: sections}
	for _, step := range []func() error{a.check, a.growHeader, a.place, a.writeHeader} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("append sections to stub: %w", err)
		}
	}
	return a.plan, nil
}

// appender carries the work of AppendSections from step to step.
type appender struct {
	stub []byte
	file *File
	add  []Section

	grow uint32          // bytes by which the headers grow
	all  []SectionHeader // of the result
	plan *Plan
}

func (a *appender) check() error {
	for _, s := range a.file.Sections {
		if len(s.Name) > 0 && s.Name[0] == '/' {
			return formatf(a.file.table, "Name", "section %q is named by the string table", s.Name)
		}
	}
	for _, s := range a.add {
		if s.Name == "" || len(s.Name) > 8 || s.Name[0] == '/' || bytes.IndexByte([]byte(s.Name), 0) >= 0 {
			return fmt.Errorf("section %q: name is not 1 to 8 bytes", s.Name)
		}
		if n := s.Data.Size(); n <= 0 || n > math.MaxInt32 {
			return fmt.Errorf("section %q: %d bytes is not within 1..%d", s.Name, n, math.MaxInt32)
		}
	}
	if n := len(a.file.Sections) + len(a.add); n > maxSections {
		return fmt.Errorf("%d sections are more than %d", n, maxSections)
	}
	return nil
}

// growHeader finds by how much the headers must grow to hold the new table,
// and checks that nothing but padding is overwritten and nothing points into
// data that moves.
func (a *appender) growHeader() error {
	f := a.file
	end := f.table + int64(len(f.Sections))*sectionHeaderSize
	need := end + int64(len(a.add))*sectionHeaderSize
	if free := a.stub[end:min(need, int64(f.SizeOfHeaders))]; !isPadding(free) {
		return formatf(end, "section table", "the space behind it is in use")
	}
	if need <= int64(f.SizeOfHeaders) {
		return nil
	}
	if need > HeaderLimit {
		return formatf(end, "section table", "%d sections reach behind %#x", len(f.Sections)+len(a.add), HeaderLimit)
	}
	a.grow = alignUp(uint32(need)-f.SizeOfHeaders, f.FileAlignment)
	if len(f.Directories) > dirDebug && f.Directories[dirDebug].Size != 0 {
		return formatf(f.dirs+dirDebug*directorySize, "Debug", "the debug directory holds file offsets, so the headers cannot grow")
	}
	for _, s := range f.Sections {
		if s.VirtualAddress < f.SizeOfHeaders+a.grow {
			return formatf(f.table, "VirtualAddress", "section %q leaves no room for %d sections", s.Name, len(a.add))
		}
	}
	return nil
}

// nopARM64 is the instruction that fills the header of the arm64 stub of
// systemd 252, which is assembled like code.
var nopARM64 = []byte{0x1f, 0x20, 0x03, 0xd5}

func isPadding(b []byte) bool {
	return len(bytes.Trim(bytes.ReplaceAll(b, nopARM64, nil), "\x00")) == 0
}

// place gives every section its address and file offset.
func (a *appender) place() error {
	f := a.file
	offset, address := uint64(f.SizeOfHeaders+a.grow), uint64(f.SizeOfImage)
	for _, s := range f.Sections {
		if s.RawSize > 0 {
			s.Offset += a.grow
			offset = max(offset, uint64(s.Offset)+uint64(s.RawSize))
		}
		address = max(address, uint64(s.VirtualAddress)+s.memorySize())
		a.all = append(a.all, s)
	}
	align := uint64(max(pageSize, f.SectionAlignment))
	for _, s := range a.add {
		size := uint64(s.Data.Size())
		offset, address = alignUp(offset, uint64(f.FileAlignment)), alignUp(address, align)
		h := SectionHeader{Name: s.Name, VirtualAddress: uint32(address), VirtualSize: uint32(size), Offset: uint32(offset),
			RawSize: uint32(alignUp(size, uint64(f.FileAlignment))), Characteristics: readOnlyData}
		offset, address = offset+uint64(h.RawSize), address+size
		if offset > math.MaxUint32 || alignUp(address, align) > math.MaxUint32 {
			return fmt.Errorf("section %q: the image is larger than 4 GiB", s.Name)
		}
		a.all = append(a.all, h)
	}
	a.plan = &Plan{size: int64(alignUp(offset, 8)), Sections: slices.Clone(a.all)}
	return nil
}

// writeHeader fills the plan: patched headers and the stub's own data as one
// piece, then one piece per new section.
func (a *appender) writeHeader() error {
	f, n := a.file, len(a.file.Sections)
	head := make([]byte, f.SizeOfHeaders+a.grow)
	copy(head, a.stub[:f.SizeOfHeaders])
	var added uint64
	for _, h := range a.all[n:] {
		added += uint64(h.RawSize)
	}
	last := a.all[len(a.all)-1]
	align := max(f.SectionAlignment, 1)
	coff, opt := head[f.coff:], head[f.optional:]
	le.PutUint16(coff[offNumberOfSections:], uint16(len(a.all)))
	le.PutUint32(coff[offTimeDateStamp:], 0)
	le.PutUint32(coff[offPointerToSymbolTable:], 0)
	le.PutUint32(coff[offNumberOfSymbols:], 0)
	le.PutUint32(opt[offSizeOfInitializedData:], le.Uint32(opt[offSizeOfInitializedData:])+uint32(added))
	if len(a.add) > 0 {
		le.PutUint32(opt[offSizeOfImage:], alignUp(last.VirtualAddress+last.VirtualSize, align))
	}
	le.PutUint32(opt[offSizeOfHeaders:], uint32(len(head)))
	le.PutUint32(opt[offCheckSum:], 0)
	if len(f.Directories) > dirCertificates {
		clear(head[f.dirs+dirCertificates*directorySize:][:directorySize])
	}
	if err := a.writeTable(head[f.table:]); err != nil {
		return err
	}
	a.plan.addBytes(0, head)
	for i, s := range f.Sections {
		if s.RawSize > 0 {
			a.plan.addBytes(int64(a.all[i].Offset), a.stub[s.Offset:s.Offset+s.RawSize])
		}
	}
	for i, s := range a.add {
		a.plan.add(s.Name, int64(a.all[n+i].Offset), s.Data)
	}
	return nil
}

func (a *appender) writeTable(table []byte) error {
	n := len(a.file.Sections)
	for i, h := range a.all {
		entry := table[i*sectionHeaderSize:]
		if i < n {
			if h.RawSize > 0 {
				le.PutUint32(entry[offPointerToRawData:], h.Offset)
			}
			continue
		}
		s := sectionHeader{VirtualSize: h.VirtualSize, VirtualAddress: h.VirtualAddress, SizeOfRawData: h.RawSize,
			PointerToRawData: h.Offset, Characteristics: h.Characteristics}
		copy(s.Name[:], h.Name)
		if _, err := binary.Encode(entry, le, &s); err != nil {
			return fmt.Errorf("section %q: %w", h.Name, err)
		}
	}
	return nil
}

func alignUp[T uint32 | uint64](n, to T) T { return (n + to - 1) &^ (to - 1) }
