// Package efivar encodes and decodes UEFI variables that ingot reads and
// writes: boot options and their order (UEFI 2.10 section 3.1), device paths
// (section 10.3), and the files of Linux's efivarfs. It reaches no firmware
// itself: bytes in, bytes out.
//
// Device path nodes that it does not know are kept as they are. Texts are
// UTF-16; an unpaired surrogate reads as U+FFFD.
//
// # Short paths
//
// SlotEntry writes the short form of a path, HD(...)/file, with no hardware in
// front. OVMF and AAVMF 2022.11 start it from a partition of any type, from
// entries that were in the flash before the first boot. They find the partition
// by number and GUID: with a wrong number or GUID the entry is "Not Found", with
// wrong Start and Size it boots, so an entry written for 512-byte sectors holds
// on a disk with 4096. UEFI 2.10 section 3.1.2 leaves the comparison open:
// what is written on a machine should have the sectors of its disk.
//
// Shape of use:
//
//	o := efivar.SlotEntry(efivar.HDPartition{Number: 2, Start: 264192, Size: 524288, GUID: g}, "EFI/BOOT/BOOTX64.EFI", "ingot slot A", nil)
//	b, err := o.MarshalBinary()
//	file := efivar.MarshalFile(efivar.BootAttributes, b) // /sys/firmware/efi/efivars/ + efivar.FileName(efivar.BootName(0x10), efivar.Global)
//	o, err = efivar.ParseLoadOption(b)
package efivar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/partition/gpt"
)

var le = binary.LittleEndian

// Vendor GUIDs of variables.
var (
	Global        = gpt.MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c") // UEFI 2.10 section 3.3
	ImageSecurity = gpt.MustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // section 32.6.1: db, dbx
	Loader        = gpt.MustGUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f") // systemd's boot loader interface
)

// Attribute bits of a variable (UEFI 2.10 section 8.2.1).
const (
	NonVolatile        uint32 = 1 << 0
	BootServiceAccess  uint32 = 1 << 1
	RuntimeAccess      uint32 = 1 << 2
	TimeAuthentication uint32 = 1 << 5

	// BootAttributes is what Boot####, BootOrder and BootNext have.
	BootAttributes = NonVolatile | BootServiceAccess | RuntimeAccess
)

// Names of the variables of the boot manager (UEFI 2.10 section 3.3), all of vendor Global.
const (
	BootOrder   = "BootOrder"
	BootNext    = "BootNext"
	BootCurrent = "BootCurrent"
)

// FormatError says where a value is malformed.
type FormatError struct {
	Off   int64  // offset in bytes from the start of the value
	Field string // the field's name in the specification
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("efi variable: offset %#x, %s: %s", e.Off, e.Field, e.Msg)
}

func formatf(off int, field, format string, args ...any) error {
	return &FormatError{Off: int64(off), Field: field, Msg: fmt.Sprintf(format, args...)}
}

// FileName returns the name of a variable's file in efivarfs.
func FileName(name string, guid gpt.GUID) string { return name + "-" + guid.String() }

// ParseFileName splits the name of a file in efivarfs.
func ParseFileName(s string) (name string, guid gpt.GUID, err error) {
	const guidLen = 36
	at := len(s) - guidLen - 1
	if at < 1 || s[at] != '-' {
		return "", gpt.GUID{}, fmt.Errorf("parse variable file name %q: not NAME-GUID", s)
	}
	guid, err = gpt.ParseGUID(s[at+1:])
	return s[:at], guid, err
}

// MarshalFile returns the content of a variable's file in efivarfs: four bytes
// of attributes, then the data. The kernel wants it in one write.
func MarshalFile(attributes uint32, data []byte) []byte {
	return append(le.AppendUint32(make([]byte, 0, 4+len(data)), attributes), data...)
}

// ParseFile splits the content of a file in efivarfs.
func ParseFile(b []byte) (attributes uint32, data []byte, err error) {
	if len(b) < 4 {
		return 0, nil, formatf(0, "attributes", "file has %d bytes, not 4 or more", len(b))
	}
	return le.Uint32(b), b[4:], nil
}

// BootName returns "Boot" and four upper-case hexadecimal digits.
func BootName(number uint16) string { return fmt.Sprintf("Boot%04X", number) }

// ParseBootName returns the number of a Boot#### name, and whether it is one.
// Section 3.1.1 allows upper-case digits only.
func ParseBootName(s string) (uint16, bool) {
	digits, ok := strings.CutPrefix(s, "Boot")
	if !ok || len(digits) != 4 || strings.ToUpper(digits) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 16)
	return uint16(n), err == nil
}

// MarshalOrder encodes BootOrder, or with one number BootNext.
func MarshalOrder(numbers ...uint16) []byte {
	b := make([]byte, 0, 2*len(numbers))
	for _, n := range numbers {
		b = le.AppendUint16(b, n)
	}
	return b
}

// ParseOrder decodes BootOrder.
func ParseOrder(b []byte) ([]uint16, error) {
	if len(b)%2 != 0 {
		return nil, formatf(len(b)-1, "BootOrder", "%d bytes are not a list of 16-bit numbers", len(b))
	}
	out := make([]uint16, len(b)/2)
	for i := range out {
		out[i] = le.Uint16(b[2*i:])
	}
	return out, nil
}

// ParseNumber decodes BootNext or BootCurrent.
func ParseNumber(b []byte) (uint16, error) {
	if len(b) != 2 {
		return 0, formatf(0, "boot option number", "%d bytes are not one 16-bit number", len(b))
	}
	return le.Uint16(b), nil
}

// errText is returned for text without the terminating NUL.
var errText = errors.New("no terminating NUL")

// ParseText decodes a NUL-terminated UTF-16 text, as the variables of vendor
// Loader hold, and ignores what follows it.
func ParseText(b []byte) (string, error) {
	s, _, err := cutText(b)
	return s, err
}
