package pe_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/oracle"
)

var le = binary.LittleEndian

// stubSpec describes a synthetic stub. Zero fields get working values.
type stubSpec struct {
	headers, fileAlign, sectionAlign, firstVMA uint32
	sections                                   []string // names; content is 600 bytes of the name
	trailer                                    int      // bytes of symbol table (a string table only) behind the last section
	pe32                                       bool
}

// Offsets in a synthetic stub: e_lfanew is 0x40.
const (
	atCOFF     = 0x44
	atOptional = 0x58
)

// buildStub writes a PE image as a linker would. It shares no code with the
// package under test.
func buildStub(s stubSpec) []byte {
	def := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	def(&s.headers, 0x400)
	def(&s.fileAlign, 0x200)
	def(&s.sectionAlign, 0x1000)
	def(&s.firstVMA, 0x1000)
	if s.sections == nil {
		s.sections = []string{".text", ".sdmagic"}
	}
	up := func(n, to uint32) uint32 { return (n + to - 1) / to * to }
	head := make([]byte, s.headers)
	var body []byte
	optSize, dirs := uint16(112+128), 112
	if s.pe32 {
		optSize, dirs = 96+128, 96
	}
	copy(head, "MZ")
	le.PutUint32(head[0x3c:], 0x40)
	copy(head[0x40:], "PE\x00\x00")
	coff, opt := head[atCOFF:], head[atOptional:]
	le.PutUint16(coff, pe.MachineAMD64)
	le.PutUint16(coff[2:], uint16(len(s.sections)))
	le.PutUint32(coff[4:], 0x5eed5eed)
	le.PutUint16(coff[16:], optSize)
	le.PutUint16(coff[18:], 0x22)
	le.PutUint16(opt, map[bool]uint16{false: 0x20b, true: 0x10b}[s.pe32])
	le.PutUint32(opt[16:], s.firstVMA)
	le.PutUint32(opt[32:], s.sectionAlign)
	le.PutUint32(opt[36:], s.fileAlign)
	le.PutUint32(opt[60:], s.headers)
	le.PutUint32(opt[64:], 0xc4ecc4ec)
	le.PutUint16(opt[68:], 10)
	le.PutUint32(opt[dirs-4:], 16)
	vma := s.firstVMA
	for i, name := range s.sections {
		content := bytes.Repeat([]byte(name), 600)[:600]
		e := head[atOptional+int(optSize)+40*i:]
		copy(e, name)
		le.PutUint32(e[8:], 600)
		le.PutUint32(e[12:], vma)
		le.PutUint32(e[16:], up(600, s.fileAlign))
		le.PutUint32(e[20:], s.headers+uint32(len(body)))
		le.PutUint32(e[36:], 0x60000020)
		body = append(body, content...)
		body = append(body, make([]byte, int(up(600, s.fileAlign))-600)...)
		vma = up(vma+600, s.sectionAlign)
	}
	le.PutUint32(opt[56:], vma) // SizeOfImage
	if s.trailer == 0 {
		return append(head, body...)
	}
	le.PutUint32(coff[8:], s.headers+uint32(len(body))) // PointerToSymbolTable
	trailer := bytes.Repeat([]byte{0x77}, s.trailer)
	le.PutUint32(trailer, uint32(s.trailer))
	return append(append(head, body...), trailer...)
}

// debianStub is the stub of the installed systemd-boot-efi.
func debianStub(t *testing.T) []byte {
	t.Helper()
	b := oracle.ReadFile(t, "systemd-boot-efi", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	return b
}

func mustParse(t *testing.T, b []byte) *pe.File {
	t.Helper()
	f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}
