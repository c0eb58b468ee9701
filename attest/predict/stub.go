package predict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/boot/pe"
)

// rules are what one major version of systemd-stub measures, and what it hands
// to the kernel.
type rules struct {
	// sections are measured into PCR 11 in this order, name and content.
	sections []string
	// startsByFirmware: without Secure Boot the kernel is started through the
	// firmware's LoadImage, which measures it into PCR 4. (With it, the stub's
	// own security override answers before the measuring hook.)
	startsByFirmware bool
	microcode        bool // .ucode goes before .initrd
	osRelease        bool // .osrel goes into the initrd
	// addsConsole: a command line without console= gets one that depends on the
	// machine's devices. It is not measured into PCR 12, but is in PCR 9.
	addsConsole bool
	// bootSecret: a secret of the machine goes behind the initrd where the
	// volume of the image has a folder \loader and there is a random seed.
	bootSecret bool
	leading    leading
}

// leading is what a stub does with white space at the start of a command line.
type leading int

const (
	unknown leading = iota // not compared with a boot
	kept
	cut
)

// The sections by the version that began to measure them (research of the
// stub's source; compared with boots of 252, 254, 257 and 262).
var (
	sections252 = []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"}
	sections254 = []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"}
	sections256 = []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"}
)

var stubs = map[int]rules{
	252: {sections: sections252, startsByFirmware: true, leading: kept},
	253: {sections: sections252, startsByFirmware: true},
	254: {sections: sections254, startsByFirmware: true, leading: kept},
	255: {sections: sections254, startsByFirmware: true},
	256: {sections: sections256, startsByFirmware: true, microcode: true},
	257: {sections: sections256, startsByFirmware: true, microcode: true, osRelease: true, leading: cut},
	// What came between was not compared: at which version the kernel ceased to
	// be started by LoadImage, and a console and a secret to be added, is not known.
	262: {sections: sections256, microcode: true, osRelease: true, addsConsole: true, bootSecret: true, leading: cut},
}

// machineDependent are sections among which the stub chooses by the hardware or
// by the load options.
var machineDependent = []string{".profile", ".dtbauto", ".hwids", ".efifw"}

// VersionError says that the measurements of a stub, or of systemd-boot, are
// not known.
type VersionError struct {
	Stub string // what .sdmagic says
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%q: no rules for this version, only for systemd-stub %s and systemd-boot %d", e.Stub, strings.Join(Versions(), ", "), loaderVersion)
}

// Versions are the major versions of systemd-stub that have rules.
func Versions() []string {
	var out []string
	for v := range stubs {
		out = append(out, strconv.Itoa(v))
	}
	slices.Sort(out)
	return out
}

// CheckStub returns a *VersionError for a stub without rules, by what it calls
// itself.
func CheckStub(name string) error {
	if _, known := stubs[majorVersion(name, "systemd-stub ")]; !known {
		return &VersionError{name}
	}
	return nil
}

// ErrNoUKI is wrapped by errors about images that systemd-stub did not make.
var ErrNoUKI = errors.New("not a unified kernel image with systemd-stub")

// uki is an image whose stub is known.
type uki struct {
	r     io.ReaderAt
	size  int64
	file  *pe.File
	stub  string
	rules rules
}

func openUKI(r io.ReaderAt, size int64) (*uki, error) {
	f, err := pe.Parse(r, size)
	if err != nil {
		return nil, err
	}
	u := &uki{r: r, size: size, file: f}
	if f.Section(".linux") == nil {
		return nil, fmt.Errorf("no section .linux: %w", ErrNoUKI)
	}
	if u.stub, err = loaderInfo(f, r); err != nil {
		return nil, err
	}
	if err := CheckStub(u.stub); err != nil {
		return nil, err
	}
	u.rules = stubs[majorVersion(u.stub, "systemd-stub ")]
	for _, name := range machineDependent {
		if f.Section(name) != nil {
			return nil, fmt.Errorf("section %s: what is measured depends on the machine", name)
		}
	}
	return u, nil
}

// maxMagic bounds .sdmagic, which is one line.
const maxMagic = 4096

// loaderInfo returns what stands between the marks in .sdmagic.
func loaderInfo(f *pe.File, r io.ReaderAt) (string, error) {
	s := f.Section(".sdmagic")
	if s == nil || s.DataSize() > maxMagic {
		return "", fmt.Errorf("no section .sdmagic: %w", ErrNoUKI)
	}
	b, err := io.ReadAll(s.Data(r))
	if err != nil {
		return "", fmt.Errorf("section .sdmagic: %w", err)
	}
	_, rest, ok := bytes.Cut(b, []byte("#### LoaderInfo: "))
	name, _, closed := bytes.Cut(rest, []byte(" ####"))
	if !ok || !closed {
		return "", fmt.Errorf("section .sdmagic does not name the stub: %w", ErrNoUKI)
	}
	return string(name), nil
}

// majorVersion gives 257 for "systemd-stub 257.13-1~deb13u1" and the prefix
// "systemd-stub ", 0 for anything else.
func majorVersion(name, prefix string) int {
	v, ok := strings.CutPrefix(name, prefix)
	if end := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		v = v[:end]
	}
	n, err := strconv.Atoi(v)
	if !ok || err != nil {
		return 0
	}
	return n
}

// zeros pads.
var zeros [4096]byte

// maxPadding bounds what a section may have in memory and not in the file.
// Tools that make images leave none; hashing 4 GiB of zeros is not worth a typo.
const maxPadding = 1 << 20

// content writes a section as it is in memory: VirtualSize bytes, zeros where
// the file has none.
func (u *uki) content(s *pe.SectionHeader) func(io.Writer) error {
	return func(w io.Writer) error {
		if pad := int64(s.VirtualSize) - s.DataSize(); pad > maxPadding {
			return fmt.Errorf("section %s: %d bytes in memory, %d in the file", s.Name, s.VirtualSize, s.DataSize())
		}
		if _, err := io.Copy(w, s.Data(u.r)); err != nil {
			return err
		}
		for n := int64(s.VirtualSize) - s.DataSize(); n > 0; n -= int64(len(zeros)) {
			if _, err := w.Write(zeros[:min(n, int64(len(zeros)))]); err != nil {
				return err
			}
		}
		return nil
	}
}

// section is the first of that name that has content, or nil.
func (u *uki) section(name string) *pe.SectionHeader {
	if s := u.file.Section(name); s != nil && s.VirtualSize > 0 {
		return s
	}
	return nil
}

// maxText bounds text that is held in memory: what goes into small cpios.
const maxText = 4 << 20

// bytes reads a section that is not large.
func (u *uki) bytes(s *pe.SectionHeader) ([]byte, error) {
	if s.VirtualSize > maxText {
		return nil, fmt.Errorf("section %s: %d bytes are more than %d", s.Name, s.VirtualSize, maxText)
	}
	var b bytes.Buffer
	if err := u.content(s)(&b); err != nil {
		return nil, fmt.Errorf("section %s: %w", s.Name, err)
	}
	return b.Bytes(), nil
}

// cmdline is the image's own command line as the stub hands it on: its section
// up to the first NUL, control characters as spaces, none at the end.
func (u *uki) cmdline() (string, error) {
	s := u.section(".cmdline")
	if s == nil {
		return "", nil
	}
	b, err := u.bytes(s)
	if err != nil {
		return "", err
	}
	text, _, _ := bytes.Cut(b, []byte{0})
	for i, c := range text {
		switch {
		case c >= 0x7f:
			return "", fmt.Errorf("section .cmdline: byte %#x at %d is not ASCII, what the stub makes of it is not known", c, i)
		case c < ' ':
			text[i] = ' '
		}
	}
	text = bytes.TrimRight(text, " ")
	if len(text) > 0 && text[0] == ' ' {
		switch u.rules.leading {
		case cut:
			text = bytes.TrimLeft(text, " ")
		case unknown:
			return "", fmt.Errorf("section .cmdline: begins with white space, what %q makes of it is not known", u.stub)
		}
	}
	return string(text), nil
}
