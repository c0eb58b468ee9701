package vuln

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/jsondoc"
	"github.com/ingot-os/ingot/internal/visible"
)

// ReportFormat is the revision of a report.
const ReportFormat = 1

// Outcome is what a scan says in one word.
type Outcome string

// The outcomes.
const (
	Clean      Outcome = "clean"
	Refused    Outcome = "refused"    // findings that fail the release
	Incomplete Outcome = "incomplete" // none of these, and something could not be checked
)

// ExitCode is 0 for clean, 3 for refused, 1 for incomplete: the codes of all
// commands of ingot.
func (o Outcome) ExitCode() int {
	switch o {
	case Clean:
		return 0
	case Refused:
		return 3
	}
	return 1
}

// Finding is one vulnerability of one package.
type Finding struct {
	ID      string   `json:"id"`
	Aliases []string `json:"aliases,omitempty"` // other ids of the same, sorted
	Package string   `json:"package"`           // Debian source package or Go module
	Rating

	Ecosystem  string   `json:"ecosystem"`
	Version    string   `json:"version,omitempty"`
	Fixed      string   `json:"fixed,omitempty"` // version to go to; empty when there is none yet
	Components []string `json:"components"`
	Summary    string   `json:"summary,omitempty"`
	Undecided  string   `json:"undecided,omitempty"` // why nothing proves that the package is affected

	State  State   `json:"state"`
	Waiver *Waiver `json:"waiver,omitempty"` // that holds, or has expired
}

// Report is the result of a scan under a policy.
type Report struct {
	Format   int       `json:"format"`
	Outcome  Outcome   `json:"outcome"`
	Time     string    `json:"time"` // of the scan: waivers are judged by it
	Database Database  `json:"database"`
	Policy   Policy    `json:"policy"`
	Packages int       `json:"packages"` // that were looked up
	Findings []Finding `json:"findings"`

	Unscanned     []string `json:"unscanned,omitempty"`     // components that no database covers
	UnusedWaivers []string `json:"unusedWaivers,omitempty"` // their ids
	Problems      []string `json:"problems,omitempty"`      // the first 20
	ProblemCount  int      `json:"problemCount,omitempty"`
}

// Report judges the matches. now decides about waivers; unscanned is what
// Packages could not place and is passed on.
func (m *Matches) Report(p Policy, now time.Time, unscanned []string) (*Report, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	r := &Report{
		Format: ReportFormat, Time: now.UTC().Format(time.RFC3339), Database: m.Database, Policy: p, Packages: len(m.Packages),
		Findings: m.findings(), Unscanned: unscanned, Problems: m.problems, ProblemCount: m.broken,
	}
	used := make([]int, len(p.Waivers))
	for i := range r.Findings {
		p.judge(&r.Findings[i], now, used)
	}
	for i, n := range used {
		if n == 0 {
			r.UnusedWaivers = append(r.UnusedWaivers, p.Waivers[i].ID)
		}
	}
	r.Outcome = r.outcome()
	return r, nil
}

func (r *Report) outcome() Outcome {
	failing := func(f Finding) bool { return f.State == Open || f.State == Expired }
	switch {
	case slices.ContainsFunc(r.Findings, failing):
		return Refused
	case r.ProblemCount > 0 || r.Packages == 0:
		return Incomplete
	}
	return Clean
}

// findings merges hits of one package that are about the same vulnerability,
// worst first.
func (m *Matches) findings() []Finding {
	list := []Finding{}
	byPackage := map[*Package][]hit{}
	for _, h := range m.hits {
		byPackage[h.pkg] = append(byPackage[h.pkg], h)
	}
	for _, hits := range byPackage {
		for _, group := range groups(hits) {
			list = append(list, merge(group))
		}
	}
	slices.SortFunc(list, func(a, b Finding) int {
		return cmp.Or(
			-cmp.Compare(a.severity(), b.severity()), -cmp.Compare(a.Score, b.Score),
			strings.Compare(a.Ecosystem, b.Ecosystem), strings.Compare(a.Package, b.Package), strings.Compare(a.Version, b.Version),
			strings.Compare(a.ID, b.ID))
	})
	return list
}

// severity sorts what nobody has rated above everything: it may be anything.
func (f *Finding) severity() Level {
	if f.Level == Unrated {
		return Critical + 1
	}
	return f.Level
}

// groups joins hits that share a name, over any number of steps.
func groups(hits []hit) [][]hit {
	parent := map[string]string{}
	root := func(n string) string {
		for parent[n] != "" {
			if up := parent[parent[n]]; up != "" { // halve the path, so that long chains stay cheap
				parent[n] = up
			}
			n = parent[n]
		}
		return n
	}
	for _, h := range hits {
		for _, n := range h.names {
			if a, b := root(h.id), root(n); a < b {
				parent[b] = a
			} else if b < a {
				parent[a] = b
			}
		}
	}
	byRoot := map[string][]hit{}
	for _, h := range hits {
		byRoot[root(h.id)] = append(byRoot[root(h.id)], h)
	}
	var list [][]hit
	for _, g := range byRoot {
		list = append(list, g)
	}
	return list
}

// merge makes one finding of hits in the order of their ids: the worst rating,
// the highest fixed version, because all of them have to be fixed.
func merge(hits []hit) Finding {
	first := hits[0]
	f := Finding{
		ID: first.id, Package: first.pkg.Name, Ecosystem: first.pkg.Ecosystem, Version: first.pkg.Version, Components: first.pkg.Refs,
		Rating: first.rating, Undecided: first.verdict.why,
	}
	o := orderOf(first.pkg.Ecosystem)
	for _, h := range hits {
		f.Aliases = append(append(f.Aliases, h.id), h.names...)
		if h.rating.worse(f.Rating) {
			f.Rating = h.rating
		}
		if h.verdict.fixed != "" && (f.Fixed == "" || o.compare(h.verdict.fixed, f.Fixed) > 0) {
			f.Fixed = h.verdict.fixed
		}
		if f.Summary == "" {
			f.Summary = h.summary
		}
		if h.verdict.why == "" {
			f.Undecided = ""
		}
	}
	slices.Sort(f.Aliases)
	f.Aliases = slices.DeleteFunc(slices.Compact(f.Aliases), func(n string) bool { return n == f.ID })
	return f
}

// worse prefers any rating to none: Unrated is the lowest value.
func (r Rating) worse(than Rating) bool {
	return cmp.Or(cmp.Compare(r.Level, than.Level), cmp.Compare(r.Score, than.Score)) > 0
}

// Marshal gives the report's JSON form, indented, with a final line break.
func (r *Report) Marshal() ([]byte, error) {
	b, err := jsondoc.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	return b, nil
}

// Rows is the report as a table: a row of headings, then one row per finding.
// Text from the database is made visible.
func (r *Report) Rows() [][]string {
	rows := [][]string{{"SEVERITY", "ID", "PACKAGE", "VERSION", "FIXED", "STATE"}}
	for i := range r.Findings {
		f := &r.Findings[i]
		level := f.Level.String()
		if f.Score > 0 {
			level = fmt.Sprintf("%s %.1f", level, f.Score)
		}
		rows = append(rows, []string{
			level, visible.Line(f.ID), f.Package, cmp.Or(f.Version, "?"), cmp.Or(visible.Line(f.Fixed), "-"), f.state(),
		})
	}
	return rows
}

func (f *Finding) state() string {
	switch {
	case f.State == Waived:
		return "waived until " + f.Waiver.Expires
	case f.State == Expired:
		return "waiver expired " + f.Waiver.Expires
	case f.Undecided != "":
		return string(f.State) + ", undecided"
	}
	return string(f.State)
}
