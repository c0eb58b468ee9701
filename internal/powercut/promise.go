package powercut

import (
	"fmt"
	"strings"
)

// promise is what docs/slots.md says of a cut: the release that starts first, and
// the largest number of resets until the machine rests.
type promise struct {
	first  int // index in Machine.releases
	resets int
}

const (
	before = iota // the old release
	after         // the new one
)

// promises are those of the rows. A variable changes as a whole, so a row that is
// one has a promise for each side.
type promises map[string]promise

// updated are the promises of an update that ends well: at most the reset into the
// trial.
var updated = promises{
	"P0": {before, 1}, "P1": {before, 1}, "P2": {before, 1}, "P3": {before, 1}, "P4": {before, 1}, "P5": {before, 1}, "P6": {before, 1},
	"P7 before": {before, 1}, "P7 after": {after, 0},
	"P8":        {after, 0},
	"P9 before": {after, 0}, "P9 after": {before, 1},
	"P10": {before, 1}, "P11": {before, 1}, "P13": {before, 1}, "P14": {before, 1},
	"P15 before": {before, 1}, "P15 after": {after, 0},
	"P16": {after, 0}, "P17": {after, 0},
}

// Check says what is wrong with what a machine has started after this cut, until it
// rested.
func (s State) Check(chain []string) error { return updated.check(s, chain) }

func (p promises) check(s State, chain []string) error {
	want, ok := p[s.Row]
	if !ok {
		want, ok = p[s.Row+" "+s.Where]
	}
	if !ok {
		return fmt.Errorf("nothing is promised of row %s, %s", s.Row, s.Where)
	}
	first := s.m.releases[want.first].Version
	switch {
	case s.First() != first:
		return fmt.Errorf("the firmware starts %q, want %q", s.First(), first)
	case len(chain) == 0 || !strings.HasSuffix(chain[0], "="+first):
		return fmt.Errorf("%v starts, want %s", chain, first)
	case len(chain)-1 > want.resets:
		return fmt.Errorf("%v are %d resets, want at most %d", chain, len(chain)-1, want.resets)
	}
	return nil
}
