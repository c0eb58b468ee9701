package vuln

import (
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/ingot-os/ingot/internal/source/debian"
)

// maxVersion bounds a version in a record, in bytes.
const maxVersion = 512

// order is how the versions of an ecosystem compare.
type order struct {
	compare func(a, b string) int
	check   func(v string) error
	same    func(v string) string // the form in which two equal versions are equal strings
}

func orderOf(ecosystem string) order {
	if ecosystem == GoEcosystem {
		return order{
			compare: func(a, b string) int { return semver.Compare("v"+plain(a), "v"+plain(b)) },
			check:   checkSemver,
			same:    plain,
		}
	}
	return order{compare: debian.Compare, check: checkDebian, same: func(v string) string { return v }}
}

// plain is a version without the "v" of Go modules, as OSV writes it.
func plain(v string) string { return strings.TrimPrefix(v, "v") }

func checkSemver(v string) error {
	if len(v) > maxVersion || !semver.IsValid("v"+plain(v)) {
		return fmt.Errorf("version %.60q is no semantic version", v)
	}
	return nil
}

// debianVersion is Policy section 5.6.12, without its rule that a colon in the
// upstream version needs an epoch.
var debianVersion = regexp.MustCompile(`^([0-9]+:)?[0-9A-Za-z.+~:-]+$`)

func checkDebian(v string) error {
	if len(v) > maxVersion || !debianVersion.MatchString(v) {
		return fmt.Errorf("version %.60q is no Debian version", v)
	}
	return nil
}

// goRelease is a version of Go itself, whose pre-releases are no semantic
// versions: 1.22rc1 is 1.22.0-rc.1 in the Go vulnerability database.
var goRelease = regexp.MustCompile(`^([0-9]+\.[0-9]+)(beta|rc)([0-9]+)$`)

// goVersion is the OSV form of a module's version, or of Go's.
func goVersion(v string) string {
	if m := goRelease.FindStringSubmatch(v); m != nil {
		return m[1] + ".0-" + m[2] + "." + m[3]
	}
	return plain(v)
}
