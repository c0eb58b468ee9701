package bls

import (
	"fmt"
	"strings"
)

// ImageName is the file name of a type #2 entry: STEM.efi, or with a boot
// counter STEM+LEFT-DONE.efi (UAPI.1, "Boot counting").
type ImageName struct {
	Stem    string
	Counted bool
	Left    int // tries left, 0 to 9
	Done    int // tries done, 0 to 9
}

const imageSuffix = ".efi"

// Format returns the file name. A counter always has both numbers, one digit
// each, so that the name keeps its length from try to try.
func (n ImageName) Format() (string, error) {
	if err := checkID(n.Stem); err != nil {
		return "", fmt.Errorf("name image: %w", err)
	}
	if !n.Counted {
		if p, err := ParseImageName(n.Stem + imageSuffix); err != nil || p.Counted {
			return "", fmt.Errorf("name image %s: its end would be read as a boot counter", n.Stem)
		}
		return n.Stem + imageSuffix, nil
	}
	if n.Left < 0 || n.Left > 9 || n.Done < 0 || n.Done > 9 {
		return "", fmt.Errorf("name image %s: counters %d and %d are not within 0..9", n.Stem, n.Left, n.Done)
	}
	return fmt.Sprintf("%s+%d-%d%s", n.Stem, n.Left, n.Done, imageSuffix), nil
}

// maxID bounds a name without suffix and counter. A long-name FAT record holds
// 13 characters, and a short stem is one of the rules of counting.
const maxID = 64

// checkID allows the characters that UAPI.1 allows in an entry's file name,
// and "~", which Debian's versions have.
func checkID(s string) error {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.~+-", r))
	}
	switch {
	case s == "" || len(s) > maxID:
		return fmt.Errorf("%q is not 1 to %d characters", s, maxID)
	case strings.HasPrefix(s, ".") || strings.HasSuffix(s, "."):
		return fmt.Errorf("%q begins or ends with a dot", s)
	case strings.IndexFunc(s, bad) >= 0:
		return fmt.Errorf("%q has a character other than letters, digits and _ . ~ + -", s)
	}
	return nil
}

// ParseImageName reads a file name. As systemd-boot does, it takes LEFT alone
// for a counter too; a "+" that is not followed by numbers belongs to the stem.
func ParseImageName(s string) (ImageName, error) {
	stem, ok := cutSuffixFold(s, imageSuffix)
	if !ok || stem == "" {
		return ImageName{}, fmt.Errorf("parse image name %q: not NAME%s", s, imageSuffix)
	}
	at := strings.LastIndexByte(stem, '+')
	if at < 1 {
		return ImageName{Stem: stem}, nil
	}
	left, done, both := strings.Cut(stem[at+1:], "-")
	n := ImageName{Stem: stem[:at], Counted: true}
	if !digits(left, &n.Left) || both && !digits(done, &n.Done) {
		return ImageName{Stem: stem}, nil
	}
	return n, nil
}

func cutSuffixFold(s, suffix string) (string, bool) {
	at := len(s) - len(suffix)
	if at < 0 || !strings.EqualFold(s[at:], suffix) {
		return s, false
	}
	return s[:at], true
}

// digits reads 1 to 9 decimal digits, so that n cannot overflow.
func digits(s string, n *int) bool {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return false
	}
	*n = 0
	for _, c := range s {
		*n = *n*10 + int(c-'0')
	}
	return true
}

// Bounds of a FAT directory (Microsoft "FAT File System Specification", 2005,
// sections 6 and 7).
const (
	recordSize   = 32
	sectorSize   = 512
	longNameUnit = 13 // characters in one long-name record
)

// CheckDirectory reports whether a directory of these names, with their long
// names and its own "." and "..", has all its records in one 512-byte sector,
// so that a rename is one write.
func CheckDirectory(names []string) error {
	records := 2
	for _, n := range names {
		records += 1 + (len(n)+longNameUnit-1)/longNameUnit
	}
	if limit := sectorSize / recordSize; records > limit {
		return fmt.Errorf("names of %s take %d directory records, counted names allow %d: use fewer images or shorter names", ImagesDir, records, limit)
	}
	return nil
}
