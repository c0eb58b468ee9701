package bootrule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// checker applies what needs more than one value.
type checker struct {
	doc  *strictyaml.Document
	r    *Rules
	errs strictyaml.Errors
}

func (c *checker) errorf(path, hint, format string, args ...any) {
	c.errs = append(c.errs, c.doc.Errorf(path, hint, format, args...))
}

func (c *checker) check() strictyaml.Errors {
	c.groups()
	for i, d := range c.r.Deny {
		c.match(fmt.Sprintf("deny[%d]", i), d.Match)
	}
	for i, x := range c.r.Rules {
		path := fmt.Sprintf("rules[%d]", i)
		c.match(path, x.Match)
		c.target(path+".boot", x.Boot)
		if x.Chain != "" && !x.Boot.isRelease() && !x.Boot.IsZero() {
			c.errorf(path+".chain", "remove chain:, or boot a release", "%s.chain: %s is no release", path, x.Boot)
		}
		c.unreachable(i)
	}
	c.target("default", c.r.Default)
	c.target("rescue", c.r.Rescue)
	if t := c.r.Rescue; !t.IsZero() && !t.isRelease() {
		c.errorf("rescue", "rescue: NAME", "rescue: %s is no release", t)
	}
	return c.errs
}

func (c *checker) target(path string, t Target) {
	if _, ok := c.r.Programs[t.program]; t.program != "" && !ok {
		hint := "add it to programs:"
		if have := keysOf(c.r.Programs); len(have) > 0 {
			hint = "there are " + strings.Join(have, ", ")
		}
		c.errorf(path, hint, "%s: no program is called %q", path, t.program)
	}
}

func (c *checker) match(path string, m Match) {
	for i, g := range m.Group {
		if _, ok := c.r.Groups[g]; !ok {
			hint := "add it to groups:"
			if have := keysOf(c.r.Groups); len(have) > 0 {
				hint = "there are " + strings.Join(have[:min(len(have), 8)], ", ")
			}
			c.errorf(fmt.Sprintf("%s.group[%d]", path, i), hint, "%s.group: no group is called %.70q", path, g)
		}
	}
}

// groups finds machines that two groups name: nobody could say which counts.
func (c *checker) groups() {
	type place struct {
		group string
		value
	}
	exact, patterns := map[string]place{}, []place{}
	complain := func(a, b place) {
		line, _ := c.doc.At(fmt.Sprintf("groups.%s.%s[%d]", a.group, a.kind, a.at))
		what := fmt.Sprintf("%s %s is in group %s, too", b.kind, b.text, a.group)
		if a.text != b.text {
			what = fmt.Sprintf("%s %s overlaps %s in group %s", b.kind, b.text, a.text, a.group)
		}
		c.errorf(fmt.Sprintf("groups.%s.%s[%d]", b.group, b.kind, b.at), fmt.Sprintf("that is on line %d: a machine is in one group, rules may name several", line), "groups.%s: %s", b.group, what)
	}
	var all []place
	for _, name := range keysOf(c.r.Groups) {
		for _, v := range values(c.r.Groups[name]) {
			all = append(all, place{name, v})
		}
	}
	for _, p := range all {
		if first, dup := exact[p.key()]; dup && p.exact && first.group != p.group {
			complain(first, p)
		} else if p.exact && !dup {
			exact[p.key()] = p
		}
		if !p.exact {
			patterns = append(patterns, p)
		}
	}
	for i, p := range patterns { // those are few: each stands for many
		for _, q := range all {
			if q.group != p.group && q.exact && p.overlaps(q.value) {
				complain(p, q)
			}
		}
		for _, q := range patterns[i+1:] {
			if q.group != p.group && p.overlaps(q.value) {
				complain(p, q)
			}
		}
		if len(c.errs) > 100 {
			return
		}
	}
}

// unreachable finds a rule behind one that matches every machine, or behind the
// same words.
func (c *checker) unreachable(i int) {
	m := fmt.Sprint(c.r.Rules[i].Match)
	for j := range i {
		before := c.r.Rules[j].Match
		if before.all() || fmt.Sprint(before) == m {
			c.errorf(fmt.Sprintf("rules[%d]", i), "put the more exact rule first", "rules[%d] is never reached: rules[%d] matches before it", i, j)
			return
		}
	}
}

// all reports whether every machine matches.
func (m *Match) all() bool {
	return len(m.Group)+len(m.MAC)+len(m.UUID)+len(m.Host)+len(m.Serial)+len(m.Asset)+len(m.EK)+len(m.Subnet)+len(m.Arch) == 0
}

func keysOf[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
