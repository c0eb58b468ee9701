package kmod

import (
	"fmt"
	"slices"
	"strings"
)

// UnknownError is a name that is no module, built-in driver, alias or group.
type UnknownError struct {
	Name       string
	Suggestion string // the closest known name, or ""
}

// Error implements error.
func (e *UnknownError) Error() string {
	if e.Suggestion == "" {
		return fmt.Sprintf("module %q: not in this kernel", e.Name)
	}
	return fmt.Sprintf("module %q: not in this kernel; did you mean %q?", e.Name, e.Suggestion)
}

// suggest finds the known name with the smallest edit distance, at most a
// third of the name's length; of equals the first.
func suggest(name string, known []string) string {
	candidates := slices.Clone(known)
	for g := range Groups {
		candidates = append(candidates, g)
	}
	slices.Sort(candidates)
	want := normal(strings.ToLower(name))
	best, limit := "", max(1, len(want)/3)
	for _, c := range candidates {
		if d := distance(want, strings.ToLower(c), limit); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance is the number of single-letter edits between a and b, or more than
// limit when it is above that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
