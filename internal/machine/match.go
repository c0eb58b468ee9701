package machine

import "strings"

// The functions below say what the patterns of the keys say: a test compares
// them. Package regexp would be the larger part of this package in ingot-init.

func isHostname(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if len(part) > 63 || !only(part, isLower, '-') || strings.HasPrefix(part, "-") || strings.HasSuffix(part, "-") {
			return false
		}
	}
	return true
}

func isLabel(s string) bool {
	return len(s) <= 63 && only(s, isAlnum, '.', '_', '/', '-') && isAlnum(s[0])
}

func isMAC(s string) bool {
	if len(s) != len("52:54:00:12:34:56") {
		return false
	}
	for i := range len(s) {
		if i%3 == 2 && s[i] != ':' || i%3 != 2 && !isHex(s[i]) {
			return false
		}
	}
	return true
}

func isBondName(s string) bool {
	return len(s) <= 15 && only(s, isLower, '_', '.', '-') && s[0] >= 'a'
}

// only reports whether s has bytes and all of them are of a class or given.
func only(s string, class func(byte) bool, more ...byte) bool {
	for i := range len(s) {
		if !class(s[i]) && strings.IndexByte(string(more), s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isAlnum(c byte) bool { return isLower(c) || c >= 'A' && c <= 'Z' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
