package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// report collects what was measured.
type report struct {
	host     host
	measures []measure
	contests []contest
	peers    []peer
	proofs   []proof
	races    []race
}

// measure is a property of ingot with its target.
type measure struct {
	what string
	unit unit
	series
	limit       float64 // the most the median may be; 0 = no target
	memoryLimit int64   // bytes; 0 = no target
	attest      bool    // a row of the table about attestation
	update      bool    // a row of the table about updates
	netboot     bool    // a row of the table about boots over the network
	note        string
}

// contest is one job done by ingot and by another program in turns.
type contest struct {
	job          string
	other        string
	ours, theirs series
	netboot      bool   // a row of the table about servers of HTTP
	note         string // also why there is no other
}

// peer is one property of another image builder.
type peer struct {
	builder, what string
	unit          unit
	series
	ours *series // the same of ingot, in the same run; nil = has none
	note string  // also why there is no value
}

func (r *report) add(m measure) {
	r.measures = append(r.measures, m)
	say("%s: %s", m.what, m.unit.format(m.median()))
}

func (r *report) compare(c contest) {
	r.contests = append(r.contests, c)
	if c.theirs.values == nil {
		say("%s: %s; %s: %s", c.job, seconds.format(c.ours.median()), c.other, c.note)
		return
	}
	say("%s: %s; %s: %s", c.job, seconds.format(c.ours.median()), c.other, seconds.format(c.theirs.median()))
}

func (r *report) addPeer(p peer) {
	r.peers = append(r.peers, p)
	if p.values == nil {
		say("%s, %s: %s", p.builder, p.what, p.note)
		return
	}
	say("%s, %s: %s", p.builder, p.what, p.unit.format(p.median()))
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "ingot: bench: "+format+"\n", args...) }

// missed says what keeps a measure from its target; empty when it is met.
func (m measure) missed() string {
	var why []string
	if m.limit > 0 && !(m.median() <= m.limit) {
		why = append(why, fmt.Sprintf("%s, want at most %s", m.unit.format(m.median()), m.unit.format(m.limit)))
	}
	if m.memoryLimit > 0 && m.memory > m.memoryLimit {
		why = append(why, fmt.Sprintf("%s of memory, want at most %s", mebibytes(m.memory), mebibytes(m.memoryLimit)))
	}
	return strings.Join(why, "; ")
}

func (m measure) target() string {
	var t []string
	if m.limit > 0 {
		t = append(t, m.unit.format(m.limit))
	}
	if m.memoryLimit > 0 {
		t = append(t, mebibytes(m.memoryLimit))
	}
	return strings.Join(t, ", ")
}

func (m measure) met() string {
	switch {
	case m.target() == "":
		return ""
	case m.missed() == "":
		return "yes"
	}
	return "**no**"
}

// verdict lists missed targets; strict makes them an error.
func (r *report) verdict(strict bool) error {
	missed := 0
	for _, m := range r.measures {
		if why := m.missed(); why != "" {
			say("missed: %s: %s", m.what, why)
			missed++
		}
	}
	if strict && missed > 0 {
		return fmt.Errorf("%d targets missed", missed)
	}
	return nil
}

// save rewrites the tables in the page at path that this run has values for.
func (r *report) save(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || path == os.Stdout.Name() {
		b, err = []byte(frame), nil
	}
	if err != nil {
		return err
	}
	page := string(b)
	for _, t := range r.tables() {
		if page, err = splice(page, t.name, t.text); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

// frame is a page without numbers.
const frame = `# Benchmarks

<!-- table ours -->
<!-- end -->

<!-- table tools -->
<!-- end -->

<!-- table peers -->
<!-- end -->

<!-- table reproduce -->
<!-- end -->

<!-- table attest -->
<!-- end -->

<!-- table forgeries -->
<!-- end -->

<!-- table updates -->
<!-- end -->

<!-- table netboot -->
<!-- end -->

<!-- table http -->
<!-- end -->

<!-- table tftp -->
<!-- end -->
`

// splice replaces what is between the marks of a table.
func splice(page, name, text string) (string, error) {
	begin, end := "<!-- table "+name+" -->\n", "<!-- end -->"
	head, rest, ok := strings.Cut(page, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("no place for the table %q: want a line %q and a line %q below it", name, strings.TrimSpace(begin), end)
	}
	return head + begin + text + end + tail, nil
}
