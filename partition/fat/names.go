package fat

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	notInLong  = `"*/:<>?\|`
	alsoShort  = "!#$%&'()-@^_`{}~" // besides A-Z and 0-9 (section 6.1)
	maxTail    = 999999
	shortBlank = ' '
)

// checkName says why a name cannot be a VFAT long name (section 7.1).
func checkName(name string) error {
	if !utf8.ValidString(name) {
		return fmt.Errorf("name %q: not UTF-8", name)
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(notInLong, r) {
			return fmt.Errorf("name %q: FAT has no character %q", name, r)
		}
	}
	if strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, " ") {
		return fmt.Errorf("name %q: FAT drops a dot or space at the end and a space at the start", name)
	}
	if n := len(utf16.Encode([]rune(name))); n > maxNameUnits {
		return fmt.Errorf("name %q: %d UTF-16 units, FAT has room for %d", name, n, maxNameUnits)
	}
	return nil
}

// alias is the short name of an item.
type alias struct {
	name [11]byte
	// exact: the short name is the whole name, so that no long name is stored.
	exact bool
}

// aliases gives every name of one directory its short name. Names that fit 8.3
// keep theirs, the others get ~1, ~2 ... in the order given, so a sorted list
// always has the same answer.
func aliases(names []string) ([]alias, error) {
	out := make([]alias, len(names))
	folded := make(map[string]string, len(names))
	taken := make(map[[11]byte]bool, len(names))
	for i, name := range names {
		if err := checkName(name); err != nil {
			return nil, err
		}
		up := strings.ToUpper(name)
		if other, ok := folded[up]; ok {
			return nil, fmt.Errorf("names %q and %q: FAT does not tell upper from lower case", other, name)
		}
		folded[up] = name
		if short, ok := shortOf(up); ok {
			out[i] = alias{short, up == name}
			taken[short] = true
		}
	}
	next := map[[11]byte]int{}
	for i, name := range names {
		if out[i].name != [11]byte{} {
			continue
		}
		short, err := numbered(name, taken, next)
		if err != nil {
			return nil, err
		}
		out[i].name = short
	}
	return out, nil
}

// shortOf splits an upper-case name into 8.3 if it fits without any change.
func shortOf(up string) (short [11]byte, ok bool) {
	base, ext, dot := strings.Cut(up, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || dot && ext == "" || !shortChars(base) || !shortChars(ext) {
		return short, false
	}
	return pack(base, ext), true
}

func shortChars(s string) bool {
	for i := range len(s) {
		if !isShort(s[i]) {
			return false
		}
	}
	return true
}

func isShort(c byte) bool {
	return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(alsoShort, c) >= 0
}

func pack(base, ext string) (short [11]byte) {
	for i := range short {
		short[i] = shortBlank
	}
	copy(short[:8], base)
	copy(short[8:], ext)
	return short
}

// numbered makes a short name with a numeric tail (section 7.2: drop dots and
// spaces, put _ for what the short character set does not have).
func numbered(name string, taken map[[11]byte]bool, next map[[11]byte]int) ([11]byte, error) {
	base, ext := strings.TrimLeft(name, "."), ""
	if i := strings.LastIndexByte(base, '.'); i > 0 {
		base, ext = base[:i], base[i+1:]
	}
	base, ext = lossy(base, 8), lossy(ext, 3)
	if base == "" {
		base = "_"
	}
	basis := pack(base, ext)
	for n := next[basis] + 1; n <= maxTail; n++ {
		tail := "~" + strconv.Itoa(n)
		short := pack(base[:min(len(base), 8-len(tail))]+tail, ext)
		if !taken[short] {
			taken[short], next[basis] = true, n
			return short, nil
		}
	}
	return [11]byte{}, fmt.Errorf("name %q: no short name left in its directory", name)
}

func lossy(s string, limit int) string {
	var b []byte
	for _, r := range strings.ToUpper(s) {
		switch {
		case len(b) == limit:
			return string(b)
		case r == ' ' || r == '.':
		case r < 0x80 && isShort(byte(r)):
			b = append(b, byte(r))
		default:
			b = append(b, '_')
		}
	}
	return string(b)
}

// checksum ties long entries to their short one (section 7.3).
func checksum(short [11]byte) (sum uint8) {
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// longEntries returns the pieces of a name in the order they are stored: the last piece first.
func longEntries(name string, short [11]byte) []longEntry {
	units := utf16.Encode([]rune(name))
	n := (len(units) + unitsPerEntry - 1) / unitsPerEntry
	if len(units) < n*unitsPerEntry {
		units = append(units, 0)
	}
	for len(units) < n*unitsPerEntry {
		units = append(units, 0xFFFF)
	}
	out := make([]longEntry, n)
	for i := range out {
		e := longEntry{Ord: uint8(n - i), Attr: attrLongName, Checksum: checksum(short)}
		if i == 0 {
			e.Ord |= longLast
		}
		u := units[(n-1-i)*unitsPerEntry:]
		copy(e.Name1[:], u)
		copy(e.Name2[:], u[5:])
		copy(e.Name3[:], u[11:])
		out[i] = e
	}
	return out
}

// units returns the 13 UTF-16 units of a piece.
func (e *longEntry) units() (u [unitsPerEntry]uint16) {
	copy(u[:], e.Name1[:])
	copy(u[5:], e.Name2[:])
	copy(u[11:], e.Name3[:])
	return u
}

// shortString is the name a reader shows for an entry without a long name.
// Bytes above ASCII depend on a code page that the volume does not name; they
// are read as Latin-1.
func shortString(e *dirEntry) string {
	base, ext := shortPart(e.Name[:8], e.Case&caseLowerBase != 0), shortPart(e.Name[8:], e.Case&caseLowerExt != 0)
	if ext == "" {
		return base
	}
	return base + "." + ext
}

func shortPart(b []byte, lower bool) string {
	var s strings.Builder
	for _, c := range bytes.TrimRight(b, " ") {
		if lower && 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		s.WriteRune(rune(c))
	}
	return s.String()
}
