package kmod

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// FormatError says where a module file stops being one.
type FormatError struct {
	Off   int64  // byte offset in the decompressed file
	Field string // name as in elf(5), or the section
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("offset %#x: %s: %s", e.Off, e.Field, e.Msg)
}

func formatf(off int, field, format string, args ...any) error {
	return &FormatError{Off: int64(off), Field: field, Msg: fmt.Sprintf(format, args...)}
}

// Sizes of Elf64_Ehdr and Elf64_Shdr (System V ABI, chapter 4).
const (
	ehdrSize = 64
	shdrSize = 64
)

// info is what .modinfo says, in file order.
type info struct {
	alias, depends, softdep, weakdep, firmware []string
}

// section is the used part of an Elf64_Shdr.
type section struct {
	name      uint32
	kind      uint32
	off, size uint64
}

// parseInfo reads the .modinfo section of a module. Names and values are
// slices of b turned into strings, so memory is bounded by the file.
func parseInfo(b []byte) (info, error) {
	var in info
	data, err := modinfo(b)
	if err != nil {
		return in, err
	}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		key, value, ok := strings.Cut(string(entry), "=")
		if !ok || value == "" {
			continue
		}
		switch key {
		case "alias":
			in.alias = append(in.alias, value)
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					in.depends = append(in.depends, normal(name))
				}
			}
		case "softdep":
			in.softdep = append(in.softdep, value)
		case "weakdep":
			in.weakdep = append(in.weakdep, value)
		case "firmware":
			in.firmware = append(in.firmware, value)
		}
	}
	return in, nil
}

// modinfo returns the content of the .modinfo section.
func modinfo(b []byte) ([]byte, error) {
	sections, names, err := sectionTable(b)
	if err != nil {
		return nil, err
	}
	for i, s := range sections {
		if sectionName(names, s.name) != ".modinfo" {
			continue
		}
		return sectionData(b, s, fmt.Sprintf("section %d .modinfo", i))
	}
	return nil, formatf(0, ".modinfo", "no such section")
}

// sectionTable checks the ELF header and returns all sections and their name table.
func sectionTable(b []byte) ([]section, []byte, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < ehdrSize:
		return nil, nil, formatf(0, "e_ident", "file of %d bytes", len(b))
	case string(b[:4]) != "\x7fELF":
		return nil, nil, formatf(0, "e_ident", "%q is no ELF magic", b[:4])
	case b[4] != 2 || b[5] != 1:
		return nil, nil, formatf(4, "e_ident", "class %d, data %d: want 64-bit little-endian", b[4], b[5])
	case le.Uint16(b[16:]) != 1:
		return nil, nil, formatf(16, "e_type", "%d, want 1 (ET_REL)", le.Uint16(b[16:]))
	case le.Uint16(b[58:]) != shdrSize:
		return nil, nil, formatf(58, "e_shentsize", "%d, want %d", le.Uint16(b[58:]), shdrSize)
	}
	off, count, strings := le.Uint64(b[40:]), int(le.Uint16(b[60:])), int(le.Uint16(b[62:]))
	if off > uint64(len(b)) || uint64(count*shdrSize) > uint64(len(b))-off {
		return nil, nil, formatf(40, "e_shoff", "%d headers at %#x leave the file of %#x bytes", count, off, len(b))
	}
	if strings >= count {
		return nil, nil, formatf(62, "e_shstrndx", "%d of %d sections", strings, count)
	}
	sections := make([]section, count)
	for i := range sections {
		h := b[off+uint64(i*shdrSize):]
		sections[i] = section{name: le.Uint32(h), kind: le.Uint32(h[4:]), off: le.Uint64(h[24:]), size: le.Uint64(h[32:])}
	}
	names, err := sectionData(b, sections[strings], ".shstrtab")
	return sections, names, err
}

func sectionData(b []byte, s section, field string) ([]byte, error) {
	const nobits = 8 // SHT_NOBITS occupies no space in the file
	if s.kind == nobits {
		return nil, formatf(0, field, "has no content")
	}
	if s.off > uint64(len(b)) || s.size > uint64(len(b))-s.off {
		return nil, formatf(0, field, "%#x bytes at %#x leave the file of %#x bytes", s.size, s.off, len(b))
	}
	return b[s.off : s.off+s.size], nil
}

func sectionName(names []byte, off uint32) string {
	if uint64(off) >= uint64(len(names)) {
		return ""
	}
	name, _, _ := bytes.Cut(names[off:], []byte{0})
	return string(name)
}
