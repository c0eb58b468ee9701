package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// ErrSections: the UKI is not laid out as its manifest says.
var ErrSections = errors.New("not the sections that the manifest names")

// maxCmdline bounds the section with the command line; the kernel's own limit is 2047.
const maxCmdline = 4096

// Part is a section of a UKI.
type Part struct {
	Offset, Size int64  // bytes in the UKI
	SHA256       string // hex, from the manifest
}

// Parts are what a BIOS boot takes out of a UKI. They refer to it: nothing but the
// command line is in memory.
type Parts struct {
	// Dir is where the script finds the files, relative to itself: that of Dir, and a
	// slash behind it. "": beside itself.
	Dir       string
	UKI       string // NAME-VERSION.efi
	Cmdline   string
	Kernel    Part
	Initrd    Part
	Microcode *Part // nil: none
}

// dirDigits is how many digits of a digest name a directory: 64 bits, so that nobody
// meets two releases of one by chance, and a line of a script stays short.
const dirDigits = 16

// Dir is the directory, below that of the machine, with what iPXE loads of a release:
// the first digits of the SHA-256 of its manifest. iPXE loads one file after the other,
// and what the machine boots may be decided anew between two of them; under names of no
// release it would start the kernel of one with the initrd of another.
func Dir(digest string) string { return digest[:min(len(digest), dirDigits)] }

// IsDir reports whether a part of a path could be that of Dir.
func IsDir(name string) bool {
	return len(name) == dirDigits && strings.Trim(name, "0123456789abcdef") == ""
}

// Split finds the parts of a UKI of a release whose manifest, of that SHA-256, names
// sections. The
// caller has checked the UKI as a whole (package bootfiles); here its headers are held
// against the manifest, and the command line, which is read, against its digest.
func Split(uki io.ReaderAt, size int64, m *release.Manifest, digest string) (*Parts, error) {
	f, err := pe.Parse(uki, size)
	if err != nil {
		return nil, fmt.Errorf("split UKI: %w", err)
	}
	p := &Parts{Dir: Dir(digest) + "/", UKI: m.Stem() + ".efi"}
	if p.Kernel, err = find(f, m, ".linux"); err != nil {
		return nil, err
	}
	if p.Initrd, err = find(f, m, ".initrd"); err != nil {
		return nil, err
	}
	if f.Section(".ucode") != nil {
		u, err := find(f, m, ".ucode")
		if err != nil {
			return nil, err
		}
		p.Microcode = &u
	}
	c, err := find(f, m, ".cmdline")
	if err != nil {
		return nil, err
	}
	if p.Cmdline, err = c.text(uki); err != nil {
		return nil, err
	}
	return p, nil
}

// find is a section as headers and manifest agree on it.
func find(f *pe.File, m *release.Manifest, name string) (Part, error) {
	h := f.Section(name)
	if h == nil {
		return Part{}, fmt.Errorf("split UKI: no section %s", name)
	}
	for _, s := range m.Sections {
		if s.Name != name {
			continue
		}
		if s.Offset != int64(h.Offset) || s.Size != int64(h.VirtualSize) || s.Size > int64(h.RawSize) {
			return Part{}, fmt.Errorf("split UKI: section %s at %d, %d bytes, in the manifest at %d, %d bytes: %w",
				name, h.Offset, h.VirtualSize, s.Offset, s.Size, ErrSections)
		}
		return Part{s.Offset, s.Size, s.SHA256}, nil
	}
	return Part{}, fmt.Errorf("split UKI: section %s: %w", name, ErrSections)
}

func (p Part) text(uki io.ReaderAt) (string, error) {
	if p.Size > maxCmdline {
		return "", fmt.Errorf("split UKI: a command line of %d bytes, at most %d", p.Size, maxCmdline)
	}
	b := make([]byte, p.Size)
	if _, err := uki.ReadAt(b, p.Offset); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("split UKI: command line: %w", err)
	}
	if err := p.check(b); err != nil {
		return "", fmt.Errorf("split UKI: command line: %w", err)
	}
	return string(b), nil
}

func (p Part) check(b []byte) error {
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != p.SHA256 {
		return ErrSections
	}
	return nil
}

// Check reads a part and holds it against its digest.
func (p Part) Check(uki io.ReaderAt) error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(uki, p.Offset, p.Size)); err != nil {
		return fmt.Errorf("check section: %w", err)
	}
	if hex.EncodeToString(h.Sum(nil)) != p.SHA256 {
		return fmt.Errorf("check section: %w", ErrSections)
	}
	return nil
}

// Named is the part that is served under a name; false for none.
func (p *Parts) Named(name string) (Part, bool) {
	switch {
	case name == Kernel:
		return p.Kernel, true
	case name == Initrd:
		return p.Initrd, true
	case name == Microcode && p.Microcode != nil:
		return *p.Microcode, true
	}
	return Part{}, false
}

// Of is the part as a file that is served out of the whole one.
func (p Part) Of(uki netboot.Content) netboot.Content { return section{uki, p} }

type section struct {
	netboot.Content
	part Part
}

func (s section) Size() int64 { return s.part.Size }

// Digest is the SHA-256 of the part, in hex.
func (s section) Digest() string { return s.part.SHA256 }

func (s section) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= s.part.Size {
		return 0, io.EOF
	}
	cut := s.part.Size - off
	if int64(len(b)) <= cut {
		return s.Content.ReadAt(b, s.part.Offset+off)
	}
	n, err := s.Content.ReadAt(b[:cut], s.part.Offset+off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}
