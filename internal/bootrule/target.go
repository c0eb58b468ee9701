package bootrule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Target is what a rule has a machine boot:
//
//	local           its next boot option, at once
//	NAME            the newest release of an appliance
//	NAME@VERSION    this release
//	sha256:DIGITS   the release whose manifest has this SHA-256, or its first 8 digits or more
//	program:NAME    a program of the rules, as memtest
type Target struct {
	local                 bool
	name, version, digest string
	program               string
}

// maxTarget bounds a target in bytes.
const maxTarget = 160

// ParseTarget reads a target.
func ParseTarget(s string) (t Target, err error) {
	bad := func(msg string) (Target, error) {
		return Target{}, &textError{msg, "local, NAME, NAME@VERSION, sha256:DIGITS or program:NAME"}
	}
	if len(s) > maxTarget || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return bad("not a text without blanks")
	}
	if s == "local" {
		return Target{local: true}, nil
	}
	if digits, ok := strings.CutPrefix(s, "sha256:"); ok {
		if len(digits) < 8 || len(digits) > 64 || strings.Trim(digits, "0123456789abcdef") != "" {
			return bad("not 8 to 64 digits of a SHA-256")
		}
		return Target{digest: digits}, nil
	}
	if name, ok := strings.CutPrefix(s, "program:"); ok {
		if !validName(name) {
			return bad("not the name of a program")
		}
		return Target{program: name}, nil
	}
	name, version, at := strings.Cut(s, "@")
	if !validName(name) || at && version == "" || strings.ContainsAny(version, "/\\@") {
		return bad("not a release")
	}
	return Target{name: name, version: version}, nil
}

// validName is that of an appliance: it becomes part of file names.
func validName(s string) bool {
	return s != "" && s[0] != '.' && s[0] != '-' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Target) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTarget(string(b))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// IsZero reports whether there is none.
func (t Target) IsZero() bool { return t == Target{} }

func (t Target) String() string {
	switch {
	case t.local:
		return "local"
	case t.program != "":
		return "program:" + t.program
	case t.digest != "":
		return "sha256:" + t.digest
	case t.version != "":
		return t.name + "@" + t.version
	}
	return t.name
}

func (t Target) isRelease() bool { return t.name != "" || t.digest != "" }

// find gives the release that is meant, for a processor, or says why there is
// none.
func (t Target) find(list []Release, arch string) (*Release, string) {
	var best []Release
	others := map[string]bool{}
	for _, r := range list {
		if !t.names(r) {
			continue
		}
		if r.Arch != arch {
			others[r.Arch] = true
			continue
		}
		if c := t.compare(r, best); c >= 0 {
			if c > 0 {
				best = nil
			}
			best = append(best, r)
		}
	}
	switch {
	case len(best) == 1:
		return &best[0], ""
	case len(best) > 1:
		return nil, fmt.Sprintf("%d releases are %s for %s: name one as sha256:DIGITS", len(best), best[0].Name+"@"+best[0].Version, arch)
	case len(others) > 0:
		return nil, fmt.Sprintf("the server has %s for %s, not for %s", t, strings.Join(keys(others), ", "), arch)
	}
	return nil, fmt.Sprintf("the server has no release %s", t)
}

func (t Target) names(r Release) bool {
	if t.digest != "" {
		return strings.HasPrefix(r.Digest, t.digest)
	}
	if t.version == "" && r.Stem() == t.name { // as files and directories are called
		return true
	}
	return r.Name == t.name && (t.version == "" || r.Version == t.version)
}

// compare tells whether a release is before (< 0), beside or after the best.
// Of a name the newest counts; of a version or digest all are meant.
func (t Target) compare(r Release, best []Release) int {
	if len(best) == 0 {
		return 1
	}
	if t.version != "" || t.digest != "" {
		return 0
	}
	return cmp.Or(cmp.Compare(r.Epoch, best[0].Epoch), compareVersions(r.Version, best[0].Version))
}

func keys(m map[string]bool) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// compareVersions orders by the numbers in versions: 1.10 is after 1.9, and 1.0
// is after 1.0-rc1, as in Semantic Versioning 2.0.0 section 11.
func compareVersions(a, b string) int {
	coreA, preA, hasA := strings.Cut(a, "-")
	coreB, preB, hasB := strings.Cut(b, "-")
	if c := compareParts(coreA, coreB); c != 0 || !hasA && !hasB {
		return c
	}
	switch {
	case !hasA:
		return 1
	case !hasB:
		return -1
	}
	return compareParts(preA, preB)
}

func compareParts(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		if c := comparePart(x[i], y[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

// comparePart compares numbers as numbers, of any length, and before texts.
func comparePart(a, b string) int {
	numA, numB := isNumber(a), isNumber(b)
	switch {
	case numA && numB:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	case numA:
		return -1
	case numB:
		return 1
	}
	return strings.Compare(a, b)
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
