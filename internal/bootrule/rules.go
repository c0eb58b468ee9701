package bootrule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/strictyaml"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Format is the revision of rules files; a reader stops at any other.
const Format = 1

// MaxSize is the most bytes that a rules file may have: 20,000 machines.
const MaxSize = 2 << 20

// Rules are a rules file that was read.
type Rules struct {
	Format   int                `yaml:"format"`
	Groups   map[string]Group   `yaml:"groups"`
	Deny     []Deny             `yaml:"deny"`
	Rules    []Rule             `yaml:"rules"`
	Default  Target             `yaml:"default"`
	Rescue   Target             `yaml:"rescue"`
	Programs map[string]Program `yaml:"programs"`

	members index // of machines that are named one by one
	doc     *strictyaml.Document
}

// Group names machines.
type Group struct {
	MAC    []MACPattern `yaml:"mac"`
	UUID   []UUID       `yaml:"uuid"`
	Host   []Glob       `yaml:"host"`
	Serial []Glob       `yaml:"serial"`
	Asset  []Glob       `yaml:"asset"`
	EK     []EK         `yaml:"ek"`
}

// Match says which machines something is about: each key that is given must
// match, by any of its values.
type Match struct {
	Group  []string     `yaml:"group"`
	MAC    []MACPattern `yaml:"mac"`
	UUID   []UUID       `yaml:"uuid"`
	Host   []Glob       `yaml:"host"`
	Serial []Glob       `yaml:"serial"`
	Asset  []Glob       `yaml:"asset"`
	EK     []EK         `yaml:"ek"`
	Subnet []Subnet     `yaml:"subnet"`
	Arch   []Arch       `yaml:"arch"`
}

// Rule says what some machines boot.
type Rule struct {
	Match `yaml:",inline"`
	Name  string `yaml:"name"`
	Boot  Target `yaml:"boot"`
	Chain string `yaml:"chain"` // "ipxe" or empty
}

// Deny says which machines boot nothing.
type Deny struct {
	Match  `yaml:",inline"`
	Reason string `yaml:"reason"`
}

// Program is what is booted that is no release.
type Program struct {
	File   string `yaml:"file"` // path; a relative one begins at the rules file
	SHA256 string `yaml:"sha256"`
	Arch   string `yaml:"arch"` // GOARCH; empty: amd64
}

// Only are rules by which every machine boots one thing.
func Only(t Target) *Rules { return &Rules{Format: Format, Default: t} }

// Parse reads a rules file; name is for messages. The error is of type
// strictyaml.Errors and holds every finding.
func Parse(name string, data []byte) (*Rules, error) {
	doc, err := strictyaml.Parse(name, data, strictyaml.Limits{Size: MaxSize})
	if err != nil {
		return nil, err
	}
	r := &Rules{doc: doc}
	errs := doc.Decode(r, Keys())
	errs = append(errs, (&checker{doc: doc, r: r}).check()...)
	errs.Sort()
	if err := errs.Err(); err != nil {
		return nil, err
	}
	r.index()
	return r, nil
}

// Errorf makes a finding about a key of the rules file, at its line.
func (r *Rules) Errorf(path, hint, format string, args ...any) strictyaml.Error {
	return r.doc.Errorf(path, hint, format, args...)
}

// Unmatched are the targets that name none of some releases, for any processor. They are no
// mistakes of the file: a release may come later.
func (r *Rules) Unmatched(list []Release) (out strictyaml.Errors) {
	look := func(path string, t Target) {
		if t.isRelease() && !slices.ContainsFunc(list, t.names) {
			out = append(out, r.Errorf(path, "", "%s: the server has no release %s", path, t))
		}
	}
	for i := range r.Rules {
		look(fmt.Sprintf("rules[%d].boot", i), r.Rules[i].Boot)
	}
	look("default", r.Default)
	look("rescue", r.Rescue)
	return out
}

// Title is how a rule is called in explanations.
func (r *Rules) Title(i int) string {
	if n := r.Rules[i].Name; n != "" {
		return fmt.Sprintf("rule %d %q", i+1, n)
	}
	return fmt.Sprintf("rule %d", i+1)
}

// NeedsRecord reports whether rules ask for what only a host's record knows: its
// endorsement key.
func (r *Rules) NeedsRecord() bool {
	asks := func(m Match) bool { return len(m.EK) > 0 }
	for _, g := range r.Groups {
		if len(g.EK) > 0 {
			return true
		}
	}
	return slices.ContainsFunc(r.Rules, func(x Rule) bool { return asks(x.Match) }) || slices.ContainsFunc(r.Deny, func(x Deny) bool { return asks(x.Match) })
}

// Names reports whether a MAC address is written out somewhere in the rules. One
// that only a pattern matches is not named: anybody can make up more of those.
func (r *Rules) Names(mac netboot.MAC) bool { return r.members.macs[mac] }

// patterns are the MAC addresses of all that names machines.
func (r *Rules) patterns() (out [][]MACPattern) {
	for _, g := range r.Groups {
		out = append(out, g.MAC)
	}
	for i := range r.Deny {
		out = append(out, r.Deny[i].MAC)
	}
	for i := range r.Rules {
		out = append(out, r.Rules[i].MAC)
	}
	return out
}

// index finds groups by what names one machine exactly.
type index struct {
	exact   map[string][]member  // "mac 525400123456" to its groups
	pattern []member             // the others
	macs    map[netboot.MAC]bool // all that are written out, wherever
}

type member struct {
	group string
	one   Group // with one value
}

func (r *Rules) index() {
	r.members = index{exact: map[string][]member{}, macs: map[netboot.MAC]bool{}}
	for _, list := range r.patterns() {
		for _, p := range list {
			if p.exact() {
				r.members.macs[p.addr] = true
			}
		}
	}
	for _, name := range keys(groupNames(r.Groups)) {
		for _, v := range values(r.Groups[name]) {
			m := member{name, v.group}
			if v.exact {
				r.members.exact[v.key()] = append(r.members.exact[v.key()], m)
			} else {
				r.members.pattern = append(r.members.pattern, m)
			}
		}
	}
}

func groupNames(m map[string]Group) map[string]bool {
	out := map[string]bool{}
	for k := range m {
		out[k] = true
	}
	return out
}

// value is one value of a group, and where it is written.
type value struct {
	kind  string
	at    int
	text  string
	exact bool
	group Group // with this value alone
}

func (v value) key() string { return v.kind + " " + v.text }

func values(g Group) (out []value) {
	for i, p := range g.MAC {
		out = append(out, value{"mac", i, p.String(), p.exact(), Group{MAC: []MACPattern{p}}})
	}
	for i, u := range g.UUID {
		out = append(out, value{"uuid", i, string(u), true, Group{UUID: []UUID{u}}})
	}
	for _, texts := range []struct {
		kind string
		list []Glob
		one  func(x []Glob) Group
	}{
		{"host", g.Host, func(x []Glob) Group { return Group{Host: x} }},
		{"serial", g.Serial, func(x []Glob) Group { return Group{Serial: x} }},
		{"asset", g.Asset, func(x []Glob) Group { return Group{Asset: x} }},
	} {
		for i, x := range texts.list {
			out = append(out, value{texts.kind, i, string(x), !strings.HasSuffix(string(x), "*"), texts.one([]Glob{x})})
		}
	}
	for i, e := range g.EK {
		out = append(out, value{"ek", i, string(e), false, Group{EK: []EK{e}}})
	}
	return out
}

// overlaps reports whether one machine's value could be both.
func (v value) overlaps(w value) bool {
	if v.kind != w.kind {
		return false
	}
	switch v.kind {
	case "mac":
		return v.group.MAC[0].overlaps(w.group.MAC[0])
	case "ek":
		return strings.HasPrefix(v.text, w.text) || strings.HasPrefix(w.text, v.text)
	case "uuid":
		return v.text == w.text
	}
	return Glob(v.text).overlaps(Glob(w.text))
}
