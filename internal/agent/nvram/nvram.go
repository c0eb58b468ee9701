// Package nvram reads and writes UEFI variables through efivarfs. A variable is
// one file; the kernel sets the immutable flag on all that it does not know to
// be harmless to lose, so Set clears it, writes in one write(2) as efivarfs
// demands, and reads back: some firmware accepts a write and drops it.
package nvram

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

// immutable is FS_IMMUTABLE_FL of include/uapi/linux/fs.h.
const immutable = 0x10

// Dir is where efivarfs is mounted.
const Dir = "/sys/firmware/efi/efivars"

// ErrNotKept means that the firmware took a write but reads differently.
var ErrNotKept = errors.New("the firmware did not keep the value")

// Store is a directory of variables: efivarfs, or plain files in a test.
type Store struct{ Dir string }

// Get returns the value of a variable; os.ErrNotExist when there is none.
func (s Store) Get(name string, vendor gpt.GUID) ([]byte, error) {
	b, err := os.ReadFile(s.file(name, vendor))
	if err != nil {
		return nil, err
	}
	_, data, err := efivar.ParseFile(b)
	if err != nil {
		return nil, fmt.Errorf("read variable %s: %w", name, err)
	}
	return data, nil
}

// Text returns a NUL-terminated UTF-16 variable of the boot loader interface;
// "" when there is none.
func (s Store) Text(name string) string {
	b, err := s.Get(name, efivar.Loader)
	if err != nil {
		return ""
	}
	text, err := efivar.ParseText(b)
	if err != nil {
		return ""
	}
	return text
}

// Set writes a variable unless it has that value already (NVRAM wears), and
// verifies it.
func (s Store) Set(name string, vendor gpt.GUID, attributes uint32, data []byte) error {
	want := efivar.MarshalFile(attributes, data)
	file := s.file(name, vendor)
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, want) {
		return nil
	}
	if err := writable(file); err != nil {
		return fmt.Errorf("write variable %s: %w", name, explain(err))
	}
	if err := put(file, want); err != nil {
		return fmt.Errorf("write variable %s: %w", name, explain(err))
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("write variable %s: %w", name, errors.Join(ErrNotKept, err))
	}
	return nil
}

// put writes a file in one write(2). One that is new and was refused is removed:
// efivarfs shows it, empty, until it is mounted again.
func put(file string, b []byte) error {
	_, missing := os.Lstat(file)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err != nil && missing != nil {
		_ = os.Remove(file) // the firmware has none: there is nothing to lose
	}
	return err
}

// Names lists the variables of a vendor.
func (s Store) Names(vendor gpt.GUID) ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("list variables: %w", err)
	}
	var out []string
	for _, e := range entries {
		name, guid, err := efivar.ParseFileName(e.Name())
		if err == nil && guid == vendor {
			out = append(out, name)
		}
	}
	return out, nil
}

func (s Store) file(name string, vendor gpt.GUID) string {
	return filepath.Join(s.Dir, efivar.FileName(name, vendor))
}

// writable clears FS_IMMUTABLE_FL. A file system without such flags (a test's)
// answers ENOTTY or ENOTSUP, which is as good.
func writable(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		return nil
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}

// SecureBoot says "enabled", "disabled", "setup" (no platform key: anyone may
// enrol) or "unknown" (no UEFI).
func (s Store) SecureBoot() string {
	on, err := s.Get("SecureBoot", efivar.Global)
	if err != nil || len(on) != 1 {
		return "unknown"
	}
	if setup, err := s.Get("SetupMode", efivar.Global); err == nil && len(setup) == 1 && setup[0] == 1 {
		return "setup"
	}
	if on[0] == 1 {
		return "enabled"
	}
	return "disabled"
}

// PlatformKey returns the SHA-256, in hex, of the certificate that owns the
// platform: which fleet's keys this firmware enforces. It is empty without one.
//
// PK is one EFI_SIGNATURE_LIST with one certificate (UEFI 2.10 section 32.3.1);
// package esl, which reads all lists, would bring crypto/x509 into ingot-init.
func (s Store) PlatformKey() string {
	const header, owner = 28, 16 // EFI_SIGNATURE_LIST and SignatureOwner, section 32.4.1
	b, err := s.Get("PK", efivar.Global)
	if err != nil || len(b) < header+owner {
		return ""
	}
	skip, size := binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint32(b[24:])
	b = b[header:]
	if size <= owner || uint64(skip)+uint64(size) > uint64(len(b)) {
		return ""
	}
	sum := sha256.Sum256(b[skip+owner : skip+size])
	return hex.EncodeToString(sum[:])
}

// Current is the device path of the boot entry that was started; nil when the
// firmware does not say.
func (s Store) Current() efivar.DevicePath {
	b, err := s.Get(efivar.BootCurrent, efivar.Global)
	if err != nil {
		return nil
	}
	number, err := efivar.ParseNumber(b)
	if err != nil {
		return nil
	}
	if b, err = s.Get(efivar.BootName(number), efivar.Global); err != nil {
		return nil
	}
	o, err := efivar.ParseLoadOption(b)
	if err != nil {
		return nil
	}
	return o.Path()
}
