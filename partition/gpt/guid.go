package gpt

import (
	"encoding/hex"
	"fmt"
)

// GUID is an EFI_GUID as it lies on disk: the first three fields are little
// endian, the last eight bytes are in order (UEFI appendix A).
type GUID [16]byte

// guidOrder maps a byte of the textual form to its place on disk.
var guidOrder = [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}

// FromUUID turns the 16 bytes of an RFC 9562 UUID (all fields big endian) into a GUID.
func FromUUID(u [16]byte) GUID {
	var g GUID
	for i, at := range guidOrder {
		g[at] = u[i]
	}
	return g
}

// UUID returns the bytes in the order of the textual form.
func (g GUID) UUID() [16]byte {
	var u [16]byte
	for i, at := range guidOrder {
		u[i] = g[at]
	}
	return u
}

// ParseGUID reads the textual form, xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx in either case.
func ParseGUID(s string) (GUID, error) {
	bad := fmt.Errorf("parse guid %q: want xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx in hexadecimal", s)
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return GUID{}, bad
	}
	var u [16]byte
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return GUID{}, bad
	}
	return FromUUID(u), nil
}

// MustGUID is ParseGUID for constants; it panics on a malformed one.
func MustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// String gives the textual form in lower case, as Linux prints PARTUUID.
func (g GUID) String() string {
	u := g.UUID()
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// IsZero reports whether all bytes are zero, which marks an unused entry.
func (g GUID) IsZero() bool { return g == GUID{} }

// MarshalText implements encoding.TextMarshaler.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *GUID) UnmarshalText(b []byte) error {
	v, err := ParseGUID(string(b))
	if err == nil {
		*g = v
	}
	return err
}
