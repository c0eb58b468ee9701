package netboot

import (
	"encoding/hex"
	"errors"
	"strings"
)

// MAC is a hardware address of six bytes (EUI-48): other kinds of link do not boot here.
type MAC [6]byte

// ErrMAC is the error of ParseMAC.
var ErrMAC = errors.New("not six bytes in hex (52:54:00:12:34:56)")

// ParseMAC reads an address, with colons, hyphens or nothing between its bytes.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	b, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "").Replace(s))
	if err != nil || len(b) != len(m) {
		return m, ErrMAC
	}
	copy(m[:], b)
	return m, nil
}

// String is the address with colons, in lower case.
func (m MAC) String() string {
	s := m.Plain()
	return s[0:2] + ":" + s[2:4] + ":" + s[4:6] + ":" + s[6:8] + ":" + s[8:10] + ":" + s[10:12]
}

// Plain is the address as twelve digits, for file names.
func (m MAC) Plain() string { return hex.EncodeToString(m[:]) }

// IsZero reports whether no address is known.
func (m MAC) IsZero() bool { return m == MAC{} }

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMAC(string(b))
	return err
}
