// Package vuln matches the components of an image set against a directory of
// vulnerability records in the OSV schema 1.x, without network: single records
// as JSON files, or the all.zip per ecosystem that osv.dev publishes.
//
// It knows two ecosystems: Debian releases, whose records name source packages
// and are compared by Debian's version order, and Go, whose records name
// modules and are compared by semantic versions. Ranges over git commits are
// not evaluated. Where a record cannot be decided (the version of a component is
// not known, a record has no range that is understood), the answer is a finding
// that says so; a record that cannot be read, or an ecosystem without any
// record, makes the scan incomplete. Nothing checked is no success.
//
//	m, err := vuln.Match(ctx, os.DirFS(dir), packages)
//	report, err := m.Report(policy, now)
//	os.Exit(report.Outcome.ExitCode())
package vuln

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/sbom"
)

// GoEcosystem is the OSV name of the Go ecosystem. Debian's are "Debian:13".
const GoEcosystem = "Go"

// Package is what a record is matched with: one source package or module of
// one version, and the components that consist of it.
type Package struct {
	Ecosystem string   `json:"ecosystem"`
	Name      string   `json:"name"`              // Debian source package or Go module path
	Version   string   `json:"version,omitempty"` // empty when unknown
	Refs      []string `json:"components"`        // of the components, sorted
}

// debianRelease maps suites to the numbers that OSV uses.
var debianRelease = map[string]string{"bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14"}

// Packages turns an inventory into what can be matched. unscanned has the refs
// of components that have files and that no ecosystem covers: images, files,
// packages of an unknown suite.
func Packages(v *sbom.Inventory) (list []Package, unscanned []string) {
	all := map[[3]string]*Package{}
	for i := range v.Components {
		c := &v.Components[i]
		p, ok := packageOf(c)
		if !ok {
			if len(c.Files) > 0 && c.Kind != sbom.KindGenerated {
				unscanned = append(unscanned, c.Ref)
			}
			continue
		}
		key := [3]string{p.Ecosystem, p.Name, p.Version}
		if all[key] == nil {
			all[key] = &p
		}
		all[key].Refs = append(all[key].Refs, c.Ref)
	}
	for _, p := range all {
		slices.Sort(p.Refs)
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Ecosystem, b.Ecosystem), strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})
	slices.Sort(unscanned)
	return list, unscanned
}

func packageOf(c *sbom.Component) (Package, bool) {
	switch c.Kind {
	case sbom.KindDebian:
		n, ok := debianRelease[c.Distro]
		return Package{Ecosystem: "Debian:" + n, Name: c.Source, Version: c.SourceVersion}, ok
	case sbom.KindGo:
		return Package{Ecosystem: GoEcosystem, Name: c.Name, Version: goVersion(c.Version)}, true
	case sbom.KindIngot:
		return Package{Ecosystem: GoEcosystem, Name: "github.com/ingot-os/ingot", Version: goVersion(c.Version)}, true
	}
	return Package{}, false
}

// Level is a severity. The order of the values is that of the names.
type Level int

// The levels of CVSS (v3.1 section 5, v4.0 section 6) by their scores.
const (
	Unrated  Level = iota - 1 // nobody has said; no threshold
	None                      // 0.0, or what Debian calls unimportant
	Low                       // 0.1-3.9
	Medium                    // 4.0-6.9
	High                      // 7.0-8.9
	Critical                  // 9.0-10.0
)

var levelNames = []string{"none", "low", "medium", "high", "critical"}

func (l Level) String() string {
	if l == Unrated {
		return "unrated"
	}
	if l < None || l > Critical {
		return fmt.Sprintf("Level(%d)", int(l))
	}
	return levelNames[l]
}

// ParseLevel reads the name of a level in any case; GitHub's "moderate" is medium.
func ParseLevel(s string) (Level, error) {
	s = strings.ToLower(s)
	if s == "moderate" {
		s = "medium"
	}
	if i := slices.Index(levelNames, s); i >= 0 {
		return Level(i), nil
	}
	return None, fmt.Errorf("severity %.40q: want %s", s, strings.Join(levelNames, ", "))
}

// MarshalText gives the name, for JSON.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what ParseLevel reads, and "unrated".
func (l *Level) UnmarshalText(b []byte) (err error) {
	if string(b) == Unrated.String() {
		*l = Unrated
		return nil
	}
	*l, err = ParseLevel(string(b))
	return err
}
