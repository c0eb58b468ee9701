package plug

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/powercut"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/partition"
)

// slotSize is the smallest that FAT32 allows, rounded up, in bytes.
const slotSize = 34 << 20

// The firmware's choice is a model in package powercut; OVMF has to choose the
// same. The boot files are programs of 1 KiB that say their name and power off.
// INGOT_POWERCUT_STATES is how many states are started, 17 when it is not set:
// one of each row.
func TestOVMFAgrees(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	for _, m := range qemu.Tools(qemu.AMD64) {
		oracle.Missing(t, "%s is not installed (Debian package %s)", m.Name, m.Package)
	}
	n := 17
	if more, err := strconv.Atoi(os.Getenv("INGOT_POWERCUT_STATES")); err == nil {
		n = more
	}
	states, err := recordPrograms(t).Sample(n, 1)
	if err != nil {
		t.Fatal(err)
	}
	site := programSite(t)
	for _, s := range states {
		t.Run(fmt.Sprintf("%s/%d/%s", s.Row, s.Op, s.Where), func(t *testing.T) {
			t.Parallel()
			want := s.First()
			if want == "" {
				want = "selector"
			}
			if got := spoken(t, site, s); got != want {
				t.Errorf("OVMF starts %q, the model %q", got, want)
			}
		})
	}
}

// recordPrograms is an update whose boot files are programs.
func recordPrograms(t *testing.T) *powercut.History {
	t.Helper()
	var r [2]*powercut.Release
	for i, version := range []string{"1.0", "2.0"} {
		var err error
		if r[i], err = powercut.NewRelease(version, 1, program(version), slotSize); err != nil {
			t.Fatal(err)
		}
	}
	h, err := powercut.Record(r[0], r[1])
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// programSite is a disk with a selector that is a program, too.
func programSite(t *testing.T) Site {
	t.Helper()
	selector, err := powercut.NewRelease("selector", 0, program("selector"), slotSize)
	if err != nil {
		t.Fatal(err)
	}
	l, err := partition.Plan(partition.Spec{Name: "cut", ESP: slotSize, Slot: slotSize})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(l.Size); err != nil {
		t.Fatal(err)
	}
	esp := partition.ContentFunc(func(w io.WriterAt, _ int64) error {
		_, err := w.WriteAt(selector.Bytes(), 0)
		return err
	})
	if err := partition.Write(f, l, map[string]partition.Content{partition.ESP: esp}); err != nil {
		t.Fatal(err)
	}
	return Site{path, "cut", qemu.AMD64, l}
}

var says = regexp.MustCompile(`APP<(.*?)>`)

// spoken starts a machine until it powers off, and returns the first program that
// spoke.
func spoken(t *testing.T, site Site, s powercut.State) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	vm, err := site.Start(ctx, s, qemu.Machine{Memory: 256, WorkDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	line, err := vm.WaitLine(ctx, says)
	if err != nil {
		t.Fatal(err)
	}
	return says.FindStringSubmatch(line)[1]
}

// program is an EFI application for amd64: ConOut->OutputString(name), then
// RuntimeServices->ResetSystem(EfiResetShutdown).
func program(name string) []byte {
	code := []byte{
		0x48, 0x83, 0xec, 0x28, // sub rsp, 40
		0x48, 0x89, 0xd3, // mov rbx, rdx: the system table
		0x48, 0x8b, 0x4a, 0x40, // mov rcx, [rdx+0x40]: ConOut
		0x48, 0x8d, 0x15, 26, 0, 0, 0, // lea rdx, [rip+26]: the text
		0xff, 0x51, 0x08, // call [rcx+8]: OutputString
		0x48, 0x8b, 0x43, 0x58, // mov rax, [rbx+0x58]: RuntimeServices
		0xb9, 2, 0, 0, 0, // mov ecx, EfiResetShutdown
		0x31, 0xd2, 0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9, // xor edx, edx; xor r8d, r8d; xor r9d, r9d
		0xff, 0x50, 0x68, // call [rax+0x68]: ResetSystem
		0xf4, 0xeb, 0xfd, // hlt; jmp to it
	}
	for _, u := range utf16.Encode([]rune("\r\nAPP<" + name + ">\r\n\x00")) {
		code = binary.LittleEndian.AppendUint16(code, u)
	}
	const headers, align = 0x200, 0x1000
	b := make([]byte, 2*headers)
	put16 := func(off int, v uint16) { binary.LittleEndian.PutUint16(b[off:], v) }
	put32 := func(off int, v uint32) { binary.LittleEndian.PutUint32(b[off:], v) }
	copy(b, "MZ")
	put32(0x3c, 0x40)
	copy(b[0x40:], "PE\x00\x00")
	const coff, opt, table = 0x44, 0x58, 0x58 + 240
	put16(coff, 0x8664)
	put16(coff+2, 1)
	put16(coff+16, 240)
	put16(coff+18, 0x22)
	put16(opt, 0x20b)
	put32(opt+4, headers)    // SizeOfCode
	put32(opt+16, align)     // AddressOfEntryPoint
	put32(opt+20, align)     // BaseOfCode
	put32(opt+32, align)     // SectionAlignment
	put32(opt+36, headers)   // FileAlignment
	put32(opt+56, 2*align)   // SizeOfImage
	put32(opt+60, headers)   // SizeOfHeaders
	put16(opt+68, 10)        // EFI application
	put32(opt+108, 16)       // NumberOfRvaAndSizes
	copy(b[table:], ".text") // VirtualSize, VirtualAddress, SizeOfRawData, PointerToRawData follow
	put32(table+8, uint32(len(code)))
	put32(table+12, align)
	put32(table+16, headers)
	put32(table+20, headers)
	put32(table+36, 0x60000020)
	copy(b[headers:], code)
	return b
}
