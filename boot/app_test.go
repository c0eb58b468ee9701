package boot_test

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/pe"
)

var le = binary.LittleEndian

// Values of EFI_RESET_TYPE (UEFI 2.10 section 8.5.1).
const (
	resetCold     = 0
	resetShutdown = 2
)

// efiApp makes a whole EFI application of 1 KiB in one section: it writes text
// to the console and resets the machine. It stands for a UKI where no kernel
// is needed, and looks like a stub: AppendSections can grow it.
func efiApp(arch, text string, reset byte) []byte {
	code := map[string]func(string, byte) []byte{boot.AMD64: codeAMD64, boot.ARM64: codeARM64}[arch](text, reset)
	const headers, align = 0x200, 0x1000
	raw := (len(code) + headers - 1) / headers * headers
	b := make([]byte, headers+raw)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	coff, opt, table := b[0x44:], b[0x58:], b[0x58+240:]
	machine := map[string]uint16{boot.AMD64: pe.MachineAMD64, boot.ARM64: pe.MachineARM64}[arch]
	le.PutUint16(coff, machine)
	le.PutUint16(coff[2:], 1)          // NumberOfSections
	le.PutUint32(coff[4:], 0x5eed5eed) // TimeDateStamp
	le.PutUint16(coff[16:], 240)       // SizeOfOptionalHeader
	le.PutUint16(coff[18:], 0x22)      // executable, large addresses
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[4:], uint32(raw)) // SizeOfCode
	le.PutUint32(opt[16:], align)      // AddressOfEntryPoint
	le.PutUint32(opt[20:], align)      // BaseOfCode
	le.PutUint32(opt[32:], align)
	le.PutUint32(opt[36:], headers) // FileAlignment
	le.PutUint32(opt[56:], 2*align) // SizeOfImage
	le.PutUint32(opt[60:], headers)
	le.PutUint16(opt[68:], pe.SubsystemEFIApplication)
	le.PutUint32(opt[108:], 16) // NumberOfRvaAndSizes
	copy(table, ".text")
	le.PutUint32(table[8:], uint32(len(code)))
	le.PutUint32(table[12:], align)
	le.PutUint32(table[16:], uint32(raw))
	le.PutUint32(table[20:], headers)
	le.PutUint32(table[36:], 0x60000020) // code, execute, read
	copy(b[headers:], code)
	return b
}

// codeAMD64: ConOut->OutputString(text), RuntimeServices->ResetSystem(reset, 0, 0, 0).
func codeAMD64(text string, reset byte) []byte {
	code := []byte{
		0x48, 0x83, 0xec, 0x28, // sub rsp, 40
		0x48, 0x89, 0xd3, // mov rbx, rdx
		0x48, 0x8b, 0x4a, 0x40, // mov rcx, [rdx+0x40]
		0x48, 0x8d, 0x15, 26, 0, 0, 0, // lea rdx, [rip+26]
		0xff, 0x51, 0x08, // call [rcx+8]
		0x48, 0x8b, 0x43, 0x58, // mov rax, [rbx+0x58]
		0xb9, reset, 0, 0, 0, // mov ecx, reset
		0x31, 0xd2, // xor edx, edx
		0x45, 0x31, 0xc0, // xor r8d, r8d
		0x45, 0x31, 0xc9, // xor r9d, r9d
		0xff, 0x50, 0x68, // call [rax+0x68]
		0xf4, 0xeb, 0xfd, // hlt; jmp to it
	}
	return append(code, utf16le(text)...)
}

func codeARM64(text string, reset byte) []byte {
	var code []byte
	for _, word := range []uint32{
		0xaa0103f3,                         // mov x19, x1
		0xf9402020,                         // ldr x0, [x1, 0x40]
		0x10000161,                         // adr x1, +44
		0xf9400408,                         // ldr x8, [x0, 8]
		0xd63f0100,                         // blr x8
		0xf9402e68,                         // ldr x8, [x19, 0x58]
		0xf9403508,                         // ldr x8, [x8, 0x68]
		0xd2800000 | uint32(reset)<<5,      // mov x0, reset
		0xd2800001, 0xd2800002, 0xd2800003, // mov x1, x2, x3, 0
		0xd63f0100, // blr x8
		0x14000000, // b .
	} {
		code = le.AppendUint32(code, word)
	}
	return append(code, utf16le(text)...)
}

func utf16le(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s + "\x00")) {
		b = le.AppendUint16(b, u)
	}
	return b
}

// osRelease is the least that a menu shows.
func osRelease(title, version string) string {
	return fmt.Sprintf("ID=ingot\nPRETTY_NAME=%q\nVERSION_ID=%s\nIMAGE_VERSION=%s\n", title, version, version)
}
