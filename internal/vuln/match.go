package vuln

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Bounds of what a scan keeps.
const (
	maxKept     = 256 << 20 // bytes of hits, roughly; a kernel with 5,000 has 2 MB
	maxProblems = 20        // that are named; all are counted
)

// Database describes what was matched with.
type Database struct {
	Records    int            `json:"records"`
	Withdrawn  int            `json:"withdrawn"`
	Newest     string         `json:"newest,omitempty"` // latest time of modification, RFC 3339
	Ecosystems map[string]int `json:"ecosystems"`       // records per ecosystem that the set needs
}

// Matches is the result of Match: hits that no policy has judged yet.
type Matches struct {
	Packages []Package
	Database Database

	hits     []hit
	problems []string
	broken   int // number of problems
}

// hit is one record that affects one package.
type hit struct {
	pkg     *Package
	id      string
	names   []string // further ids of the same vulnerability
	parts   []string // of an advisory that collects several vulnerabilities: their ids
	summary string
	verdict verdict
	rating  Rating
}

// matcher collects hits by record, because a database may hold a record twice:
// as a file and in an archive, or in two archives.
type matcher struct {
	m      *Matches
	byName map[string][]*Package
	found  map[string]found
	kept   int // bytes
	newest time.Time
}

type found struct {
	modified time.Time
	names    []string   // and the record's own id
	judged   []*Package // that the record speaks of, affected or not
	hits     []hit
}

// Match reads the database in dir and finds the records that affect a package.
// An unreadable record is noted and makes the report incomplete; only a
// database that cannot be read at all is an error.
func Match(ctx context.Context, dir fs.FS, packages []Package) (*Matches, error) {
	w := &matcher{
		m:      &Matches{Packages: slices.Clone(packages), Database: Database{Ecosystems: map[string]int{}}},
		byName: map[string][]*Package{}, found: map[string]found{},
	}
	for i := range w.m.Packages {
		p := &w.m.Packages[i]
		w.byName[p.Name] = append(w.byName[p.Name], p)
		w.m.Database.Ecosystems[p.Ecosystem] = 0
	}
	r := &reader{yield: w.record}
	if err := r.walk(ctx, dir); err != nil {
		return nil, fmt.Errorf("read vulnerability database: %w", err)
	}
	if w.kept > maxKept {
		return nil, fmt.Errorf("match vulnerabilities: hits of more than %d bytes", maxKept)
	}
	w.finish(r.records)
	return w.m, nil
}

func (w *matcher) finish(records int) {
	m := w.m
	m.Database.Records = records
	if !w.newest.IsZero() {
		m.Database.Newest = w.newest.UTC().Format(time.RFC3339)
	}
	known := w.known()
	for _, f := range w.found {
		m.hits = append(m.hits, slices.DeleteFunc(f.hits, func(h hit) bool { return h.collects(known[h.pkg]) })...)
	}
	slices.SortFunc(m.hits, func(a, b hit) int { return strings.Compare(a.id, b.id) })
	for ecosystem, n := range m.Database.Ecosystems {
		if n == 0 {
			m.broken++
			m.problems = append(m.problems, "the database has no record for ecosystem "+ecosystem)
		}
	}
	slices.Sort(m.problems)
}

// known lists, for each package, the vulnerabilities that a record of their own
// judges.
func (w *matcher) known() map[*Package]map[string]bool {
	all := map[*Package]map[string]bool{}
	for _, f := range w.found {
		for _, p := range f.judged {
			if all[p] == nil {
				all[p] = map[string]bool{}
			}
			for _, n := range f.names {
				all[p][n] = true
			}
		}
	}
	return all
}

// collects is true for an advisory (DSA-...) that says nothing new: each of the
// vulnerabilities it is about has been judged by itself.
func (h *hit) collects(known map[string]bool) bool {
	return len(h.parts) > 0 && !slices.ContainsFunc(h.parts, func(n string) bool { return !known[n] })
}

func (w *matcher) problem(name string, err error) {
	if w.m.broken++; len(w.m.problems) < maxProblems {
		w.m.problems = append(w.m.problems, fmt.Sprintf("record %.200q: %v", name, err))
	}
}

func (w *matcher) record(name string, data []byte) {
	r, err := parseRecord(data)
	if err != nil {
		w.problem(name, err)
		return
	}
	if t := r.modified(); t.After(w.newest) {
		w.newest = t
	}
	w.countEcosystems(r)
	if r.Withdrawn != "" {
		w.m.Database.Withdrawn++
	}
	f, interesting := w.judge(name, r)
	if old, ok := w.found[r.ID]; ok && old.modified.After(f.modified) || !ok && !interesting {
		return
	}
	if w.kept += f.cost(); w.kept <= maxKept {
		w.found[r.ID] = f
	}
}

// cost is the memory in bytes that keeping a record takes, at least.
func (f *found) cost() int {
	n := 300 + 8*len(f.judged) + 300*len(f.hits)
	for _, name := range f.names {
		n += 100 + len(name) // in the record, and in a set
	}
	if len(f.hits) > 0 {
		n += maxSummary
		for _, name := range f.hits[0].parts {
			n += 16 + len(name)
		}
	}
	return n
}

// countEcosystems counts a record once for each ecosystem that the set needs.
func (w *matcher) countEcosystems(r *record) {
	for e := range w.m.Database.Ecosystems {
		if slices.ContainsFunc(r.Affected, func(a affected) bool { return a.covers(e) }) {
			w.m.Database.Ecosystems[e]++
		}
	}
}

// judge looks at every package that the record speaks of. interesting is true
// when there is one, affected or not: a later revision may take back an earlier one.
func (w *matcher) judge(name string, r *record) (f found, interesting bool) {
	f = found{modified: r.modified(), names: append(r.names(), r.ID)}
	h := hit{id: r.ID, names: r.names(), parts: r.parts(), summary: r.summary()}
	for i := range r.Affected {
		a := &r.Affected[i]
		for _, p := range w.byName[a.Package.Name] {
			if !a.covers(p.Ecosystem) {
				continue
			}
			interesting = true
			if r.Withdrawn != "" {
				continue
			}
			v, err := a.judge(p.Version, orderOf(p.Ecosystem))
			if err != nil {
				w.problem(name, fmt.Errorf("%s: affected[%d]: %w", r.ID, i, err))
				continue
			}
			if !slices.Contains(f.judged, p) {
				f.judged = append(f.judged, p)
			}
			if v.affected {
				h.pkg, h.verdict, h.rating = p, v, rate(r, a)
				f.hits = join(f.hits, h)
			}
		}
	}
	return f, interesting
}

// join adds a hit. A record may have several entries for one package; together
// they are one hit, decided if one of them is.
func join(hits []hit, h hit) []hit {
	i := slices.IndexFunc(hits, func(o hit) bool { return o.pkg == h.pkg })
	if i < 0 {
		return append(hits, h)
	}
	old := &hits[i]
	if h.rating.worse(old.rating) {
		old.rating = h.rating
	}
	if o := orderOf(h.pkg.Ecosystem); old.verdict.fixed == "" || h.verdict.fixed != "" && o.compare(h.verdict.fixed, old.verdict.fixed) > 0 {
		old.verdict.fixed = h.verdict.fixed
	}
	if h.verdict.why == "" {
		old.verdict.why = ""
	}
	return hits
}
