package debian

import "strings"

// Compare orders two version numbers as Debian Policy section 5.6.12 does:
// epoch, then upstream version, then revision. It returns -1, 0 or 1. Any
// string can be compared; one that is no valid version sorts by the same rules.
func Compare(a, b string) int {
	ae, au, ar := splitVersion(a)
	be, bu, br := splitVersion(b)
	if c := compareNumber(ae, be); c != 0 {
		return c
	}
	if c := comparePart(au, bu); c != 0 {
		return c
	}
	return comparePart(ar, br)
}

func splitVersion(v string) (epoch, upstream, revision string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// comparePart alternates between runs of non-digits and of digits.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		na, nb := run(a, false), run(b, false)
		if c := compareText(a[:na], b[:nb]); c != 0 {
			return c
		}
		a, b = a[na:], b[nb:]
		na, nb = run(a, true), run(b, true)
		if c := compareNumber(a[:na], b[:nb]); c != 0 {
			return c
		}
		a, b = a[na:], b[nb:]
	}
	return 0
}

// run returns the length of the leading run of digits, or of anything else.
func run(s string, digits bool) int {
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return i
		}
	}
	return len(s)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// compareText: the tilde sorts before the end, the end before letters, letters
// before everything else.
func compareText(a, b string) int {
	for i := 0; i < len(a) || i < len(b); i++ {
		if c := weight(a, i) - weight(b, i); c != 0 {
			return sign(c)
		}
	}
	return 0
}

func weight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case 'A' <= s[i] && s[i] <= 'Z' || 'a' <= s[i] && s[i] <= 'z':
		return int(s[i])
	}
	return int(s[i]) + 256
}

// compareNumber compares runs of digits of any length.
func compareNumber(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return sign(len(a) - len(b))
	}
	return strings.Compare(a, b)
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
