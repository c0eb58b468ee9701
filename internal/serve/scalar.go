package serve

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// valueError is a bad scalar with its remedy.
type valueError struct{ msg, hint string }

func (e valueError) Error() string { return e.msg }

// Hint says what to write instead.
func (e valueError) Hint() string { return e.hint }

// Addr is an IPv4 or IPv6 address.
type Addr struct{ netip.Addr }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Addr) UnmarshalText(b []byte) error {
	x, err := netip.ParseAddr(string(b))
	if err != nil || x.Zone() != "" || x.Is4In6() || x.IsUnspecified() || x.IsMulticast() {
		return valueError{"not an address of a host", "write one like 192.0.2.1 or 2001:db8::1, without a prefix length"}
	}
	a.Addr = x
	return nil
}

// YAMLName implements strictyaml.Named.
func (*Addr) YAMLName() string { return "an address such as 192.0.2.1" }

// YAMLPattern is the text form for the JSON Schema.
func (*Addr) YAMLPattern() (pattern string, numbers bool) { return `^[0-9A-Fa-f.:]+$`, false }

// Prefix is a subnet.
type Prefix struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Prefix) UnmarshalText(b []byte) error {
	x, err := netip.ParsePrefix(string(b))
	if err != nil || x.Bits() == 0 {
		return valueError{"not a subnet", "write its address with prefix length: 192.0.2.0/24"}
	}
	if x != x.Masked() {
		return valueError{"an address in a subnet, not a subnet", fmt.Sprintf("write %s", x.Masked())}
	}
	p.Prefix = x
	return nil
}

// YAMLName implements strictyaml.Named.
func (*Prefix) YAMLName() string { return "a subnet such as 192.0.2.0/24" }

// YAMLPattern is the text form for the JSON Schema.
func (*Prefix) YAMLPattern() (pattern string, numbers bool) {
	return `^[0-9A-Fa-f.:]+/[0-9]{1,3}$`, false
}

// Range is addresses from First to Last, both included.
type Range struct{ First, Last netip.Addr }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Range) UnmarshalText(b []byte) error {
	bad := valueError{"not a range of addresses", "write the first and the last address: 192.0.2.100-192.0.2.150"}
	first, last, ok := strings.Cut(string(b), "-")
	a, err1 := netip.ParseAddr(strings.TrimSpace(first))
	z, err2 := netip.ParseAddr(strings.TrimSpace(last))
	switch {
	case !ok || err1 != nil || err2 != nil || a.Is4() != z.Is4() || a.Zone() != "":
		return bad
	case z.Less(a):
		return valueError{"a range that ends before it begins", fmt.Sprintf("write %s-%s", z, a)}
	}
	r.First, r.Last = a, z
	return nil
}

// String implements fmt.Stringer.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// MarshalText implements encoding.TextMarshaler.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Contains reports whether an address is in the range.
func (r Range) Contains(a netip.Addr) bool {
	return r.First.IsValid() && a.BitLen() == r.First.BitLen() && !a.Less(r.First) && !r.Last.Less(a)
}

// YAMLName implements strictyaml.Named.
func (*Range) YAMLName() string { return "a range such as 192.0.2.100-192.0.2.150" }

// YAMLPattern is the text form for the JSON Schema.
func (*Range) YAMLPattern() (pattern string, numbers bool) {
	return `^[0-9A-Fa-f.:]+ ?- ?[0-9A-Fa-f.:]+$`, false
}

// MAC is a hardware address.
type MAC struct{ netboot.MAC }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(b []byte) error {
	x, err := netboot.ParseMAC(string(b))
	if err != nil || x.IsZero() || x[0]&1 != 0 {
		return valueError{"not the hardware address of a machine", `write six bytes in hexadecimal: "52:54:00:12:34:56"`}
	}
	m.MAC = x
	return nil
}

// YAMLName implements strictyaml.Named.
func (*MAC) YAMLName() string { return `a hardware address such as "52:54:00:12:34:56"` }

// YAMLPattern is the text form for the JSON Schema.
func (*MAC) YAMLPattern() (pattern string, numbers bool) {
	return `^[0-9A-Fa-f]{2}([:-]?[0-9A-Fa-f]{2}){5}$`, false
}

// PortID is what a relay agent says of a port: text as it stands, or bytes as 0x and
// hexadecimal digits, since many switches number their ports in binary.
type PortID string

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *PortID) UnmarshalText(b []byte) error {
	text := string(b)
	bad := valueError{"no id of option 82", `write it as the switch shows it, "ge-0/0/7", or its bytes in hexadecimal, 0x00040007`}
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		raw, err := hex.DecodeString(digits)
		if err != nil {
			return bad
		}
		text = string(raw)
	} else if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return bad
	}
	if text == "" || len(text) > 255 {
		return valueError{fmt.Sprintf("an id of %d bytes", len(text)), "option 82 has room for 1 to 255"}
	}
	*p = PortID(text)
	return nil
}

// YAMLName implements strictyaml.Named.
func (*PortID) YAMLName() string { return `an id such as "ge-0/0/7" or 0x00040007` }

// YAMLPattern is the text form for the JSON Schema. YAML takes 7 and 0x0007 for numbers when
// they stand without quotation marks; their text counts here all the same.
func (*PortID) YAMLPattern() (pattern string, numbers bool) { return `^[ -~]{1,512}$`, true }
