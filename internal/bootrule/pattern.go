package bootrule

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// textError is an error of one value, with what to do about it.
type textError struct{ msg, hint string }

func (e *textError) Error() string { return e.msg }

// Hint is shown with the error.
func (e *textError) Hint() string { return e.hint }

// MACPattern is a MAC address in which bytes may be free: 52:54:00:12:34:56,
// 52:54:00:* or 52:54:*:*:*:01. A * at the end stands for all that follow.
type MACPattern struct {
	addr, mask netboot.MAC
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *MACPattern) UnmarshalText(b []byte) error {
	bad := &textError{"not a MAC address or pattern", "52:54:00:12:34:56 is one machine, 52:54:00:* all of a maker"}
	parts := strings.FieldsFunc(string(b), func(r rune) bool { return r == ':' || r == '-' })
	open := len(parts) > 0 && parts[len(parts)-1] == "*"
	if len(parts) > len(p.addr) || len(parts) < len(p.addr) && !open || strings.Count(string(b), ":")+strings.Count(string(b), "-") != len(parts)-1 {
		return bad
	}
	var out MACPattern
	for i, s := range parts {
		if s == "*" {
			continue
		}
		n, err := strconv.ParseUint(s, 16, 8)
		if err != nil || len(s) != 2 {
			return bad
		}
		out.addr[i], out.mask[i] = byte(n), 0xff
	}
	if out.exact() && out.addr.IsZero() {
		return &textError{"no machine has the address zero", bad.hint}
	}
	*p = out
	return nil
}

func (p MACPattern) exact() bool { return !slices.Contains(p.mask[:], 0) }

func (p MACPattern) matches(m netboot.MAC) bool {
	for i, b := range m {
		if b&p.mask[i] != p.addr[i] {
			return false
		}
	}
	return !m.IsZero()
}

// overlaps reports whether one address could match both.
func (p MACPattern) overlaps(q MACPattern) bool {
	for i := range p.addr {
		if both := p.mask[i] & q.mask[i]; p.addr[i]&both != q.addr[i]&both {
			return false
		}
	}
	return true
}

func (p MACPattern) String() string {
	parts := make([]string, len(p.addr))
	last := 0
	for i, b := range p.addr {
		parts[i] = "*"
		if p.mask[i] != 0 {
			parts[i], last = fmt.Sprintf("%02x", b), i+1
		}
	}
	return strings.Join(parts[:min(last+1, len(parts))], ":")
}

// Glob is a text, or the beginning of one followed by *. Letters count as they
// are written.
type Glob string

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *Glob) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" || strings.Contains(strings.TrimSuffix(s, "*"), "*") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return &textError{"not a text or the beginning of one", "printable ASCII; only the last character may be *, for any rest"}
	}
	*g = Glob(s)
	return nil
}

func (g Glob) matches(s string) bool {
	if begin, ok := strings.CutSuffix(string(g), "*"); ok {
		return s != "" && strings.HasPrefix(s, begin)
	}
	return s != "" && s == string(g)
}

func (g Glob) overlaps(h Glob) bool {
	a, open := strings.CutSuffix(string(g), "*")
	b, also := strings.CutSuffix(string(h), "*")
	switch {
	case open && also:
		return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
	case open:
		return strings.HasPrefix(b, a)
	case also:
		return strings.HasPrefix(a, b)
	}
	return a == b
}

// UUID is that of SMBIOS, in lower case. All zero and all ones are what firmware
// without one sends (SMBIOS 3.6 section 7.2.1), and never name a machine.
type UUID string

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) error {
	s := strings.ToLower(string(b))
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != 16 || len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return &textError{"not a UUID", "ingot hosts MAC --explain shows the one that a machine sends, dmidecode -s system-uuid the machine itself"}
	}
	if !Identifies(s) {
		return &textError{"it is what firmware without a UUID sends", "name the machine by its MAC address"}
	}
	*u = UUID(s)
	return nil
}

// Identifies reports whether a UUID tells a machine from others: not all zero,
// not all ones, not empty.
func Identifies(uuid string) bool {
	return strings.Trim(uuid, "0-") != "" && strings.Trim(strings.ToLower(uuid), "f-") != ""
}

// Subnet is a network in CIDR notation.
type Subnet struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Subnet) UnmarshalText(b []byte) error {
	p, err := netip.ParsePrefix(string(b))
	if err != nil {
		return &textError{"not a network", "192.0.2.0/24 or 2001:db8::/64"}
	}
	if p != p.Masked() {
		return &textError{"it has bits beyond its prefix", "write " + p.Masked().String()}
	}
	n.Prefix = p
	return nil
}

// EK is the name of an endorsement key, or at least its first 16 digits.
type EK string

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *EK) UnmarshalText(b []byte) error {
	s := strings.ToLower(string(b))
	if len(s) < 16 || len(s) > 128 || strings.Trim(s, "0123456789abcdef") != "" {
		return &textError{"not the digits of an endorsement key", "ingot hosts HOST shows it as EK; at least its first 16 hexadecimal digits"}
	}
	*e = EK(s)
	return nil
}

func (e EK) matches(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, string(e)) })
}

// archNames are the words of rules for client system architectures.
var archNames = map[string][]netboot.Arch{
	"bios":  {netboot.BIOS, netboot.HTTPBIOS},
	"x64":   {netboot.EFIX64, netboot.EFIBC, netboot.HTTPX64, netboot.HTTPBC},
	"arm64": {netboot.EFIARM64, netboot.HTTPARM64},
	"ia32":  {netboot.EFI32, netboot.HTTP32},
	"arm32": {netboot.EFIARM32, netboot.HTTPARM32},
	"http":  {netboot.HTTP32, netboot.HTTPX64, netboot.HTTPBC, netboot.HTTPARM32, netboot.HTTPARM64, netboot.HTTPBIOS},
}

// Arch is a word for some architectures, or the number of one.
type Arch struct {
	word string
	is   []netboot.Arch
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Arch) UnmarshalText(b []byte) error {
	s := string(b)
	if is, ok := archNames[s]; ok {
		*a = Arch{s, is}
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || netboot.Arch(n) == netboot.Unknown {
		return &textError{"not an architecture", "bios, x64, arm64, ia32, arm32, http, or a number of option 93"}
	}
	*a = Arch{s, []netboot.Arch{netboot.Arch(n)}}
	return nil
}

func (a Arch) String() string { return a.word }
