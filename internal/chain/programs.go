package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Program is an iPXE program on the server's disk, with the digest that it must have.
type Program struct {
	File   string `yaml:"file"`
	SHA256 string `yaml:"sha256"` // hex
}

// Programs are the keys of ipxe: in serve.yaml. Debian's package ipxe has them as
// /usr/lib/ipxe/undionly.kpxe and /usr/lib/ipxe/snponly.efi, for x86 only.
type Programs struct {
	BIOS  Program `yaml:"bios"`
	X64   Program `yaml:"x64"`
	ARM64 Program `yaml:"arm64"`
}

// Names under which clients fetch the programs.
const (
	biosName  = "undionly.kpxe"
	x64Name   = "snponly.efi"
	arm64Name = "snponly-arm64.efi"
)

// maxProgram bounds an iPXE program in bytes; the largest of Debian's has 1 MB.
const maxProgram = 4 << 20

// ErrDigest: a program is not the one that the configuration names.
var ErrDigest = errors.New("other content than the configuration names")

// DigestError says what the file has, for a hint.
type DigestError struct {
	Key, File  string
	Want, Have string // hex; Want is "" when the configuration names none
}

// Error implements error.
func (e *DigestError) Error() string {
	if e.Want == "" {
		return fmt.Sprintf("load ipxe.%s: no sha256 for %s", e.Key, e.File)
	}
	return fmt.Sprintf("load ipxe.%s: %s has the SHA-256 %s, not %s", e.Key, e.File, e.Have, e.Want)
}

// Hint is the line that makes the file the locked one.
func (e *DigestError) Hint() string {
	return fmt.Sprintf("if the file is the one you mean, write under ipxe.%s: sha256: %s", e.Key, e.Have)
}

// Unwrap gives ErrDigest.
func (e *DigestError) Unwrap() error { return ErrDigest }

// Loaded is a program that has been read and checked.
type Loaded struct {
	Name   string // under which it is served
	SHA256 string // hex
	Data   []byte
}

// ProgramsSet are the programs that a server has.
type ProgramsSet struct{ bios, x64, arm64 *Loaded }

// Load reads the programs that are configured. All that is wrong is in the error, each
// a *DigestError when a digest is missing or another.
func Load(p Programs) (*ProgramsSet, error) {
	s := &ProgramsSet{}
	var errs []error
	for _, x := range []struct {
		key, name string
		from      Program
		to        **Loaded
	}{{"bios", biosName, p.BIOS, &s.bios}, {"x64", x64Name, p.X64, &s.x64}, {"arm64", arm64Name, p.ARM64, &s.arm64}} {
		if x.from == (Program{}) {
			continue
		}
		l, err := load(x.key, x.name, x.from)
		errs = append(errs, err)
		*x.to = l
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func load(key, name string, p Program) (*Loaded, error) {
	data, err := regular.Read(p.File, maxProgram)
	if err != nil {
		return nil, fmt.Errorf("load ipxe.%s: %w", key, err)
	}
	sum := sha256.Sum256(data)
	have := hex.EncodeToString(sum[:])
	if !strings.EqualFold(have, p.SHA256) {
		return nil, &DigestError{Key: key, File: p.File, Want: p.SHA256, Have: have}
	}
	if isPE := bytes.HasPrefix(data, []byte("MZ")); isPE != (key != "bios") {
		return nil, fmt.Errorf("load ipxe.%s: %s is %s", key, p.File, map[bool]string{true: "a program for UEFI", false: "no program for UEFI"}[isPE])
	}
	return &Loaded{name, have, data}, nil
}

// forArch is the program for an architecture, nil without one, and its key.
func (s *ProgramsSet) forArch(a netboot.Arch) (*Loaded, string) {
	if s == nil {
		s = &ProgramsSet{}
	}
	switch {
	case a == netboot.BIOS || a == netboot.HTTPBIOS:
		return s.bios, "bios"
	case a.GOARCH() == "arm64":
		return s.arm64, "arm64"
	}
	return s.x64, "x64"
}

// Named is the program that is served under a name, nil for none.
func (s *ProgramsSet) Named(name string) *Loaded {
	if s == nil {
		return nil
	}
	for _, l := range []*Loaded{s.bios, s.x64, s.arm64} {
		if l != nil && l.Name == name {
			return l
		}
	}
	return nil
}
