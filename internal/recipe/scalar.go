package recipe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The scalars of a recipe read and print themselves; the patterns are what the
// JSON Schema says about them.
const (
	sizePattern = `^[0-9]{1,15} ?([KMGT](iB|B)?|B)?$`
	modePattern = `^(0o)?0?[0-7]{1,4}$`
)

// valueError is a bad scalar with its remedy.
type valueError struct{ msg, hint string }

func (e valueError) Error() string { return e.msg }

// Hint says what to write instead.
func (e valueError) Hint() string { return e.hint }

// The size units. A recipe has only powers of 1024: "128M" is 128 MiB.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// UnmarshalText reads "128M", "128MiB", "1G" or a plain number of bytes.
func (s *Size) UnmarshalText(b []byte) error {
	bad := valueError{"not a size", "write a whole number with K, M, G or T (powers of 1024): 128M"}
	text := string(b)
	digits := strings.TrimRight(text, " BKMGTi")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || digits == "" || digits[0] == '-' || digits[0] == '+' || len(digits) > 15 {
		return bad
	}
	unit, ok := sizeUnits[strings.TrimPrefix(text[len(digits):], " ")]
	if !ok {
		return bad
	}
	if n > math.MaxInt64/int64(unit) {
		return valueError{"larger than any disk", bad.hint}
	}
	*s = Size(n) * unit
	return nil
}

var sizeUnits = map[string]Size{"": 1, "B": 1, "K": KiB, "KB": KiB, "KiB": KiB, "M": MiB, "MB": MiB, "MiB": MiB, "G": GiB, "GB": GiB, "GiB": GiB, "T": TiB, "TB": TiB, "TiB": TiB}

// String prints the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		size Size
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s != 0 && s%u.size == 0 {
			return fmt.Sprintf("%d %s", s/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d B", int64(s))
}

// YAMLName names the type in error messages.
func (*Size) YAMLName() string { return "a size such as 128M" }

// YAMLPattern is the text form for the JSON Schema; bare numbers are bytes.
func (*Size) YAMLPattern() (pattern string, numbers bool) { return sizePattern, true }

// UnmarshalText reads octal digits. YAML 1.2 reads 0644 as six hundred and
// forty-four, YAML 1.1 as octal; people always mean octal, so the digits
// count as they were written.
func (m *Mode) UnmarshalText(b []byte) error {
	digits := strings.TrimPrefix(string(b), "0o")
	n, err := strconv.ParseUint(digits, 8, 16)
	if err != nil || n > 0o7777 || len(digits) > 5 {
		return valueError{"not a file mode", "write octal digits: 0644, 0755 or 4755"}
	}
	*m = Mode(n)
	return nil
}

// String prints four octal digits.
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// YAMLName names the type in error messages.
func (*Mode) YAMLName() string { return "a file mode such as 0644" }

// YAMLPattern is the text form for the JSON Schema; bare numbers are octal digits.
func (*Mode) YAMLPattern() (pattern string, numbers bool) { return modePattern, true }
