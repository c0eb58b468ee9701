// Package varstore reads and writes the UEFI variables inside a flash image of
// EDK2, such as OVMF_VARS_4M.fd and AAVMF_VARS.fd: the firmware volume header
// (PI 1.7 volume 3, section 3.2.1), the variable store header and the records
// of MdeModulePkg/Include/Guid/VariableFormat.h, authenticated form.
//
// So a virtual machine starts with its boot entries in place. Bytes writes the
// valid variables one after another and fills the rest with erased flash (0xff);
// deleted records are gone. Limits: one volume at offset 0, as all builds of
// OVMF and ArmVirt have it; the non-authenticated record form is refused; a
// fault-tolerant write that firmware has begun and not finished is not
// finished here. Signatures of authenticated variables are not checked: who
// can write the flash can write anything.
//
// A blank image, all 0x00 or all 0xff, opens as an empty store of ArmVirt's
// geometry: Debian's AAVMF_VARS.fd is blank, and that firmware formats it at
// the first boot.
//
// Shape of use:
//
//	s, err := varstore.Open(image)
//	err = s.Set(varstore.Variable{Name: efivar.BootOrder, GUID: efivar.Global, Attributes: efivar.BootAttributes, Data: efivar.MarshalOrder(0x10, 0x11)})
//	image = s.Bytes()
package varstore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/partition/gpt"
)

// ErrNoSpace is returned by Set when the variables would not fit the store.
var ErrNoSpace = errors.New("variable store is full")

// FormatError says where an image is not a variable store.
type FormatError struct {
	Off   int64 // in the image, in bytes
	Field string
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("variable store: offset %#x, %s: %s", e.Off, e.Field, e.Msg)
}

func formatf(off int, field, format string, args ...any) error {
	return &FormatError{Off: int64(off), Field: field, Msg: fmt.Sprintf(format, args...)}
}

// Variable is one UEFI variable. Name and GUID together are its identity.
type Variable struct {
	Name       string   `json:"name"`
	GUID       gpt.GUID `json:"guid"`
	Attributes uint32   `json:"attributes"` // UEFI 2.10 section 8.2.1
	Data       []byte   `json:"data"`
}

// Store is the variables of one image.
type Store struct {
	image      []byte
	start, end int // of the records, offsets in image
	records    []record
}

// record is one valid variable. What Variable does not carry is kept as it was.
type record struct {
	v      Variable
	name   []byte // UTF-16 as in flash, with the NUL
	header variableHeader
}

// size is the length in flash; the next record begins at a multiple of 4.
func (r record) size() int {
	return alignUp(variableHeaderSize + len(r.name) + len(r.v.Data))
}

func alignUp(n int) int { return (n + 3) &^ 3 }

// List returns the variables in the order of the store. The caller may change
// nothing in them.
func (s *Store) List() []Variable {
	out := make([]Variable, len(s.records))
	for i, r := range s.records {
		out[i] = r.v
	}
	return out
}

func (s *Store) find(name string, guid gpt.GUID) int {
	return slices.IndexFunc(s.records, func(r record) bool { return r.v.Name == name && r.v.GUID == guid })
}

// Get returns a variable, and whether there is one.
func (s *Store) Get(name string, guid gpt.GUID) (Variable, bool) {
	i := s.find(name, guid)
	if i < 0 {
		return Variable{}, false
	}
	return s.records[i].v, true
}

// Set adds a variable or replaces the one of the same name and GUID. It
// returns an error that wraps ErrNoSpace when there is no room, and then
// changes nothing.
func (s *Store) Set(v Variable) error {
	if v.Name == "" || len(v.Data) == 0 {
		return fmt.Errorf("set variable %q: name and data must not be empty", v.Name)
	}
	v.Data = bytes.Clone(v.Data)
	records := slices.Clone(s.records)
	if i := s.find(v.Name, v.GUID); i >= 0 {
		records[i].v = v
	} else {
		records = append(records, record{v: v, name: encodeName(v.Name)})
	}
	used := 0
	for _, r := range records {
		used += r.size()
	}
	if room := s.end - s.start; used > room {
		return fmt.Errorf("set variable %q: %w: %d bytes needed, %d there", v.Name, ErrNoSpace, used, room)
	}
	s.records = records
	return nil
}

// Delete removes a variable and reports whether there was one.
func (s *Store) Delete(name string, guid gpt.GUID) bool {
	i := s.find(name, guid)
	if i < 0 {
		return false
	}
	s.records = slices.Delete(slices.Clone(s.records), i, i+1)
	return true
}

// Bytes returns a new image with the variables as they are now. Everything
// outside of the records is as it was opened.
func (s *Store) Bytes() []byte {
	out := bytes.Clone(s.image)
	at := s.start
	for _, r := range s.records {
		end := at + copy(out[at:], r.encode())
		at += r.size()
		fill(out[end:min(at, s.end)], 0xff)
	}
	fill(out[min(at, s.end):s.end], 0xff)
	return out
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}
