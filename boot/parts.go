package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/partition/tree"
)

var le = binary.LittleEndian

// stubInfo is what a stub says of itself.
type stubInfo struct {
	name  string // "systemd-stub 257.13-1~deb13u1"
	major int    // 257
}

// parseStub checks that b is an unused systemd-stub for an architecture.
func parseStub(b []byte, arch string) (stubInfo, error) {
	r := bytes.NewReader(b)
	f, err := pe.Parse(r, int64(len(b)))
	if err != nil {
		return stubInfo{}, err
	}
	if f.Machine != archs[arch].machine {
		return stubInfo{}, fmt.Errorf("machine %#x is not %s (%#x)", f.Machine, arch, archs[arch].machine)
	}
	if f.Subsystem != pe.SubsystemEFIApplication {
		return stubInfo{}, fmt.Errorf("subsystem %d is not an EFI application", f.Subsystem)
	}
	for _, name := range ukiSections {
		if f.Section(name) != nil {
			return stubInfo{}, fmt.Errorf("has a section %s: it is a UKI already", name)
		}
	}
	if err := f.CheckSections(); err != nil { // nobody could tell what the image measures
		return stubInfo{}, err
	}
	name, err := loaderInfo(f, r)
	if err != nil {
		// The arm64 stub of systemd 252 was converted from ELF into two
		// sections; its marks are in the file behind them, and not loaded.
		if name, err = cutLoaderInfo(b); err != nil {
			return stubInfo{}, err
		}
	}
	if !strings.HasPrefix(name, "systemd-stub ") {
		return stubInfo{}, fmt.Errorf("names itself %q, not systemd-stub", name)
	}
	return stubInfo{name: name, major: majorVersion(name)}, nil
}

// CheckStub reports why no UKI for an architecture can be made of a stub, and
// returns what it calls itself: "systemd-stub 257.13-1~deb13u1".
func CheckStub(stub tree.Blob, arch string) (string, error) {
	if n := stub.Size(); n > maxStub {
		return "", fmt.Errorf("check stub: %d bytes are more than %d", n, maxStub)
	}
	b, err := readHead(stub, maxStub)
	if err != nil {
		return "", fmt.Errorf("check stub: %w", err)
	}
	info, err := parseStub(b, arch)
	if err != nil {
		return "", fmt.Errorf("check stub: %w", err)
	}
	return info.name, nil
}

// ukiSections are the sections of UAPI.5 that a bare stub does not have.
var ukiSections = []string{".linux", ".initrd", ".cmdline", ".osrel", ".uname", ".ucode", ".splash", ".pcrsig", ".pcrpkey", ".profile", ".dtb"}

// maxText bounds a text section read into memory.
const maxText = 64 << 10

// The marks by which systemd's tools know their EFI programs.
const (
	loaderInfoBegin = "#### LoaderInfo: "
	loaderInfoEnd   = " ####"
)

// maxLoaderInfo bounds the text between the marks.
const maxLoaderInfo = 256

// loaderInfo returns the text "NAME VERSION" between the marks in the section
// .sdmagic.
func loaderInfo(f *pe.File, r io.ReaderAt) (string, error) {
	s := f.Section(".sdmagic")
	if s == nil {
		return "", fmt.Errorf("no section .sdmagic: not an EFI program of systemd")
	}
	text, err := sectionText(*s, r)
	if err != nil {
		return "", err
	}
	return cutLoaderInfo([]byte(text))
}

func cutLoaderInfo(b []byte) (string, error) {
	_, rest, ok := bytes.Cut(b, []byte(loaderInfoBegin))
	name, _, closed := bytes.Cut(rest, []byte(loaderInfoEnd))
	if !ok || !closed || len(name) > maxLoaderInfo {
		return "", fmt.Errorf("no %q: not an EFI program of systemd", loaderInfoBegin)
	}
	return string(name), nil
}

// sectionText reads a section of at most maxText bytes, without trailing NULs.
func sectionText(s pe.SectionHeader, r io.ReaderAt) (string, error) {
	if s.DataSize() > maxText {
		return "", fmt.Errorf("section %s: %d bytes are more than %d", s.Name, s.DataSize(), maxText)
	}
	b, err := io.ReadAll(s.Data(r))
	if err != nil {
		return "", fmt.Errorf("section %s: %w", s.Name, err)
	}
	return string(bytes.TrimRight(b, "\x00")), nil
}

// majorVersion returns 257 for "systemd-stub 257.13-1~deb13u1", 0 if there is no number.
func majorVersion(name string) int {
	_, v, _ := strings.Cut(name, " ")
	end := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		v = v[:end]
	}
	n, _ := strconv.Atoi(v)
	return n
}

// checkKernel looks at the first bytes of a kernel: it must be an EFI program
// for the architecture in the boot format that Linux documents for it.
func checkKernel(k tree.Blob, arch string, uname string) error {
	if k == nil {
		return fmt.Errorf("no kernel given")
	}
	head, err := readHead(k, pe.HeaderLimit)
	if err != nil {
		return err
	}
	f, err := pe.Parse(bytes.NewReader(head), k.Size())
	if err != nil {
		return fmt.Errorf("not a kernel with an EFI stub: %w", err)
	}
	if f.Machine != archs[arch].machine {
		return fmt.Errorf("machine %#x is not %s (%#x)", f.Machine, arch, archs[arch].machine)
	}
	if arch == ARM64 {
		return checkArm64Image(head)
	}
	return checkBzImage(head, uname)
}

// checkBzImage checks the x86 boot protocol header
// (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
func checkBzImage(head []byte, uname string) error {
	const minVersion = 0x20c // xloadflags
	if len(head) < 0x268 || string(head[0x202:0x206]) != "HdrS" {
		return fmt.Errorf("no boot header HdrS at offset 0x202: not a bzImage")
	}
	if v := le.Uint16(head[0x206:]); v < minVersion {
		return fmt.Errorf("boot protocol %#x is older than %#x", v, minVersion)
	}
	if le.Uint16(head[0x236:])&1 == 0 {
		return fmt.Errorf("xloadflags at 0x236: not a 64-bit kernel")
	}
	release := bzImageRelease(head)
	if uname != "" && release != "" && release != uname {
		return fmt.Errorf("kernel calls itself %q, not %q", release, uname)
	}
	return nil
}

// bzImageRelease returns the first word of the version text that kernel_version
// points to, or "" where there is none.
func bzImageRelease(head []byte) string {
	at := int(le.Uint16(head[0x20e:])) + 0x200
	if at == 0x200 || at >= len(head) {
		return ""
	}
	text, _, _ := bytes.Cut(head[at:], []byte{0})
	word, _, _ := strings.Cut(string(text), " ")
	return word
}

// checkArm64Image checks the magic of Documentation/arch/arm64/booting.rst, or
// that of a compressed EFI image (drivers/firmware/efi/libstub/zboot-header.S).
func checkArm64Image(head []byte) error {
	if len(head) < 64 || string(head[56:60]) != "ARM\x64" && string(head[4:8]) != "zimg" {
		return fmt.Errorf("neither an arm64 Image nor an EFI zboot image")
	}
	return nil
}

// initrdMagics are the beginnings of what the kernel unpacks as an initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst, lib/decompress.c).
var initrdMagics = []string{"070701", "070702", "\x1f\x8b", "\x28\xb5\x2f\xfd", "\xfd7zXZ\x00", "\x02\x21\x4c\x18", "BZh", "\x89LZO", "\x5d\x00\x00"}

func checkInitrd(b tree.Blob) error {
	if b == nil {
		return fmt.Errorf("none given")
	}
	head, err := readHead(b, 8)
	if err != nil {
		return err
	}
	for _, m := range initrdMagics {
		if bytes.HasPrefix(head, []byte(m)) {
			return nil
		}
	}
	return fmt.Errorf("begins with %q: neither a newc cpio archive nor one of the kernel's compressions", head)
}

func checkSplash(b tree.Blob) error {
	if b == nil {
		return nil
	}
	head, err := readHead(b, 2)
	if err == nil && string(head) != "BM" {
		err = fmt.Errorf("not a BMP picture")
	}
	return err
}
