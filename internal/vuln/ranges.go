package vuln

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// verdict is what one record says about one package.
type verdict struct {
	affected bool
	why      string // when it is not decided, and affected for that reason
	fixed    string // lowest fixed version above the package's; empty when there is none
}

// judge evaluates an entry by the algorithm of the OSV schema ("Evaluation"):
// a version is affected when the list of versions has it or a range holds it.
func (a *affected) judge(version string, o order) (verdict, error) {
	if version == "" {
		return verdict{affected: true, why: "the version of the component is not known"}, a.checkRanges(o)
	}
	if err := o.check(version); err != nil {
		return verdict{affected: true, why: "component " + err.Error()}, a.checkRanges(o)
	}
	var v verdict
	for _, x := range a.Versions {
		if o.same(x) == o.same(version) {
			v.affected = true
		}
	}
	usable := len(a.Versions) > 0
	for i := range a.Ranges {
		r := &a.Ranges[i]
		if r.Type == "GIT" {
			continue
		}
		if err := r.check(o); err != nil {
			return v, err
		}
		usable = true
		if r.holds(version, o) {
			v.affected = true
			v.fixed = r.fixedAfter(version, o)
		}
	}
	if !usable {
		return verdict{affected: true, why: "the record has no range of versions"}, nil
	}
	return v, nil
}

func (a *affected) checkRanges(o order) error {
	for i := range a.Ranges {
		if a.Ranges[i].Type == "GIT" {
			continue
		}
		if err := a.Ranges[i].check(o); err != nil {
			return err
		}
	}
	return nil
}

func (r *versionRange) check(o order) error {
	if r.Type != "ECOSYSTEM" && r.Type != "SEMVER" {
		return fmt.Errorf("range type %.40q", r.Type)
	}
	introduced := false
	for _, e := range r.Events {
		v, n := e.value()
		if n != 1 {
			return fmt.Errorf("an event with %d of introduced, fixed, last_affected and limit", n)
		}
		introduced = introduced || e.Introduced != ""
		if v == "0" && e.Introduced != "" || v == "*" && e.Limit != "" {
			continue
		}
		if err := o.check(v); err != nil {
			return err
		}
	}
	if !introduced {
		return errors.New("a range without introduced")
	}
	return nil
}

// value returns the event's version and how many of its fields are set.
func (e *event) value() (v string, n int) {
	for _, s := range []string{e.Introduced, e.Fixed, e.LastAffected, e.Limit} {
		if s != "" {
			v = s
			n++
		}
	}
	return v, n
}

// holds walks the events in the order of their versions. At one version an
// introduction comes last, so that a record which says both errs to the safe side.
func (r *versionRange) holds(version string, o order) bool {
	if !r.belowLimit(version, o) {
		return false
	}
	events := slices.DeleteFunc(slices.Clone(r.Events), func(e event) bool { return e.Limit != "" })
	slices.SortStableFunc(events, func(a, b event) int {
		return cmp.Or(compareEvents(a, b, o), rank(a)-rank(b))
	})
	in := false
	for _, e := range events {
		switch {
		case e.Introduced == "0":
			in = true
		case e.Introduced != "" && o.compare(version, e.Introduced) >= 0:
			in = true
		case e.Fixed != "" && o.compare(version, e.Fixed) >= 0:
			in = false
		case e.LastAffected != "" && o.compare(version, e.LastAffected) > 0:
			in = false
		}
	}
	return in
}

// compareEvents puts introduced "0" before every version.
func compareEvents(a, b event, o order) int {
	az, bz := a.Introduced == "0", b.Introduced == "0"
	switch {
	case az && bz:
		return 0
	case az:
		return -1
	case bz:
		return 1
	}
	av, _ := a.value()
	bv, _ := b.value()
	return o.compare(av, bv)
}

func rank(e event) int {
	if e.Introduced != "" {
		return 1
	}
	return 0
}

// belowLimit is true without limits, and below any of them.
func (r *versionRange) belowLimit(version string, o order) bool {
	limited := false
	for _, e := range r.Events {
		if e.Limit == "" {
			continue
		}
		limited = true
		if e.Limit == "*" || o.compare(version, e.Limit) < 0 {
			return true
		}
	}
	return !limited
}

func (r *versionRange) fixedAfter(version string, o order) string {
	best := ""
	for _, e := range r.Events {
		if e.Fixed != "" && o.compare(e.Fixed, version) > 0 && (best == "" || o.compare(e.Fixed, best) < 0) {
			best = e.Fixed
		}
	}
	return best
}
