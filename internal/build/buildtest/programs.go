package buildtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/partition/tree"
)

// efiProgram is the least that reads as an EFI program for amd64: headers and
// one section of code (PE/COFF specification, sections 2 to 4).
func efiProgram(code int) []byte {
	const headers, align = 0x400, 0x1000
	b := make([]byte, headers+code)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x280)
	copy(b[0x280:], "PE\x00\x00")
	coff, opt := b[0x284:], b[0x298:]
	le.PutUint16(coff, pe.MachineAMD64)
	le.PutUint16(coff[2:], 1)    // sections
	le.PutUint16(coff[16:], 240) // size of the optional header
	le.PutUint16(coff[18:], 0x22)
	le.PutUint16(opt, 0x20b)
	for at, v := range map[int]uint32{4: uint32(code), 16: align, 20: align, 32: align, 36: 0x200, 56: 2 * align, 60: headers, 108: 16} {
		le.PutUint32(opt[at:], v)
	}
	le.PutUint16(opt[68:], pe.SubsystemEFIApplication)
	section := opt[240:]
	copy(section, ".text")
	for at, v := range map[int]uint32{8: uint32(code), 12: align, 16: uint32(code), 20: headers, 36: 0x60000020} {
		le.PutUint32(section[at:], v)
	}
	return b
}

// Kernel passes for a bzImage (Documentation/arch/x86/boot.rst).
func Kernel() []byte {
	b := efiProgram(0x200)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(b[0x236:], 1)
	binary.LittleEndian.PutUint16(b[0x20e:], 0x400-0x200) // kernel_version
	copy(b[0x400:], "6.12.0-tiny (test) #1\x00")
	return b
}

// Stub passes for systemd-stub.
func Stub(tb testing.TB) []byte {
	tb.Helper()
	p, err := pe.AppendSections(efiProgram(0x200), []pe.Section{{Name: ".sdmagic", Data: tree.Bytes("#### LoaderInfo: systemd-stub 257.13-1 ####\x00")}})
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// Module is a kernel module: an ELF object with the one section that matters,
// .modinfo. depends is a list with commas.
func Module(name, depends, note string) []byte {
	const ehdr, shdr = 64, 64
	info := fmt.Sprintf("license=GPL\x00depends=%s\x00name=%s\x00description=%s\x00", depends, name, note)
	names := "\x00.modinfo\x00.shstrtab\x00"
	b := make([]byte, ehdr)
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 1)  // ET_REL
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint32(b[20:], 1)
	b = append(b, info...)
	b = append(b, names...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	le.PutUint64(b[40:], uint64(len(b)))
	le.PutUint16(b[52:], ehdr)
	le.PutUint16(b[58:], shdr)
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 2)
	table := make([]byte, 3*shdr)
	for i, s := range []struct{ name, kind, off, size int }{{1, 1, ehdr, len(info)}, {10, 3, ehdr + len(info), len(names)}} {
		h := table[(i+1)*shdr:]
		le.PutUint32(h, uint32(s.name))
		le.PutUint32(h[4:], uint32(s.kind))
		le.PutUint64(h[24:], uint64(s.off))
		le.PutUint64(h[32:], uint64(s.size))
		le.PutUint64(h[48:], 1)
	}
	return append(b, table...)
}

// Program is the head of an ELF executable for amd64 without an interpreter.
func Program() []byte {
	b := make([]byte, 64+56)
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // ET_EXEC
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint32(b[64:], 1) // PT_LOAD
	return b
}
