package verify

import (
	"cmp"
	"slices"
)

// maxRefusals bounds what one check says.
const maxRefusals = 32

// begin adds a check to the report; it passes unless it refuses or is skipped.
func (v *verifier) begin(name CheckName) *Check {
	c := &Check{Name: name, State: Passed}
	v.report.Checks = append(v.report.Checks, c)
	return c
}

func (c *Check) refuse(code Code, p Place, want, got string) { c.add(code, p, want, got, "") }

// malformed refuses for the reason that a reader gave.
func (c *Check) malformed(code Code, p Place, err error) { c.add(code, p, "", "", err.Error()) }

func (c *Check) add(code Code, p Place, want, got, cause string) {
	c.State, c.Why = Failed, ""
	if len(c.refusals) < maxRefusals {
		c.refusals = append(c.refusals, Refusal{Check: c.Name, Code: code, Place: p, Want: want, Got: got, Cause: cause})
	}
}

// differ refuses when got is not want.
func (c *Check) differ(code Code, p Place, want, got string) {
	if got != want {
		c.refuse(code, p, want, got)
	}
}

// skip says that the check was not made, unless it refused something already.
func (c *Check) skip(why Why) {
	if c.State == Passed {
		c.State, c.Why = Skipped, why
	}
}

// note names something that the check leaves out.
func (c *Check) note(what string, why Why, got string) {
	c.notes = append(c.notes, Note{Check: c.Name, What: what, Why: why, Got: got})
}

// finish draws the conclusion.
func (r *Report) finish() {
	r.NotChecked, r.Refusals = []Note{}, []Refusal{}
	passed := 0
	for _, c := range r.Checks {
		if c.State == Passed && c.Name != CheckManifest && c.Count > 0 {
			passed++
		}
		if c.State == Skipped && !slices.Contains(absent, c.Why) {
			r.NotChecked = append(r.NotChecked, Note{Check: c.Name, Why: c.Why})
		}
		r.NotChecked = append(r.NotChecked, c.notes...)
		r.Refusals = append(r.Refusals, c.refusals...)
	}
	slices.SortStableFunc(r.Refusals, func(a, b Refusal) int { return cmp.Compare(a.vague(), b.vague()) })
	switch {
	case len(r.Refusals) > 0:
		r.Verdict = Refused
	case passed == 0: // a manifest that agrees with itself says nothing about any image
		r.Verdict = Refused
		r.Refusals = append(r.Refusals, Refusal{Code: NothingChecked, Place: Place{File: r.Path}})
	case len(r.Signers) == 0:
		r.Verdict = Unsigned
	default:
		r.Verdict = Verified
	}
}

// vague is larger for a refusal that another one of the same cause says more
// exactly: the digest of a whole file or partition.
func (r *Refusal) vague() int {
	switch {
	case r.Code == FileDigest && r.Place.Offset == nil:
		return 2
	case r.Code == PartitionDigest && r.Place.Offset == nil:
		return 1
	}
	return 0
}
