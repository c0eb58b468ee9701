package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/powercut"
)

// cutRow is what was seen of the states of one row of the fault matrix.
type cutRow struct {
	states, started int
	chains          map[string]int
}

// powerCuts starts n states that a power cut leaves of an update in virtual
// machines, and writes what came of each to the page.
func powerCuts(ctx context.Context, s *site, o options) error {
	on := describeHost(ctx)
	h, err := s.pair.Record()
	if err != nil {
		return err
	}
	rows := map[string]*cutRow{}
	if err := h.States(func(st powercut.State) error {
		if rows[st.Row] == nil {
			rows[st.Row] = &cutRow{chains: map[string]int{}}
		}
		rows[st.Row].states++
		return nil
	}); err != nil {
		return err
	}
	states, err := h.Sample(o.powercut, o.seed)
	if err != nil {
		return err
	}
	cuts, err := predict(states)
	if err != nil {
		return err
	}
	s.startAll(ctx, cuts)
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed []error
	var lines strings.Builder
	for _, c := range cuts {
		if c.err != nil {
			failed = append(failed, fmt.Errorf("%s, operation %d, %s: %w", c.Row, c.Op, c.Where, c.err))
		}
		rows[c.Row].started++
		rows[c.Row].chains[c.started]++
		lines.WriteString(cells(c.Row, fmt.Sprintf("%d, %s", c.Op, c.Where), c.started, c.result()))
	}
	on.finish()
	page := cutPage(on, o, rows, lines.String())
	if err := os.WriteFile(o.cutDoc, []byte(page), 0o644); err != nil {
		return err
	}
	return errors.Join(failed...)
}

// cut is a state, what the model makes of it, and what came of it in a machine.
type cut struct {
	powercut.State
	chain   []string // that the model starts
	version string   // that it comes to
	phase   slot.Phase

	started string
	err     error
}

// predict asks the model, one state after the other: they share memory.
func predict(states []powercut.State) ([]*cut, error) {
	var cuts []*cut
	for _, st := range states {
		chain, end, err := st.Alone()
		if err != nil {
			return nil, fmt.Errorf("%s, operation %d, %s: %w", st.Row, st.Op, st.Where, err)
		}
		cuts = append(cuts, &cut{State: st, chain: chain, version: end.Runs(), phase: end.State.Phase})
	}
	return cuts, nil
}

// startAll starts each state, on every processor one: an emulated machine has no
// use for a second.
func (s *site) startAll(ctx context.Context, cuts []*cut) {
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for i, c := range cuts {
		g.Go(func() error {
			if ctx.Err() == nil {
				c.err = s.cut(ctx, c)
				say("%d of %d: %s, operation %d, %s: %s: %s", i+1, len(cuts), c.Row, c.Op, c.Where, c.started, c.result())
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are those of the cuts
}

func (c *cut) result() string {
	if c.err != nil {
		return "**" + firstLine(c.err.Error()) + "**"
	}
	return "as the model"
}

func firstLine(s string) string { return strings.SplitN(s, "\n", 2)[0] }

// cut starts one state and says what is wrong with what the machine makes of it.
func (s *site) cut(ctx context.Context, c *cut) error {
	dir, err := os.MkdirTemp(s.dir, "state-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	got, err := s.pair.Run(ctx, c.State, dir)
	c.started = strings.Join(got.Chain, " ")
	if err != nil {
		return err
	}
	phase, n := got.Record.Phase, len(got.Starts)
	if phase == slot.Blessed {
		phase = slot.Idle
	}
	switch {
	case !slices.Equal(got.Chain, c.chain) || got.Version != c.version || phase != c.phase:
		return fmt.Errorf("runs %s in %s; the model starts %s and runs %s in %s", got.Version, phase, strings.Join(c.chain, " "), c.version, c.phase)
	case got.Resets() > 2:
		return fmt.Errorf("%d resets", got.Resets())
	case n < 2 || n > len(got.Chain)+1 || got.Starts[0] != s.pair.Old.Manifest.Version || got.Starts[n-1] != got.Version: // a boot that only repairs variables ends before the service
		return fmt.Errorf("the data partition knows of %q", got.Starts)
	}
	return s.checkDisk(ctx, got.Disk, got.Version, false)
}

// cutPage is docs/powercut.md.
func cutPage(h host, o options, rows map[string]*cutRow, each string) string {
	var s strings.Builder
	fmt.Fprintf(&s, `# Power cuts in real machines

`+"`make bench-powercut`"+` writes this page. An update from one release to another is recorded with the bytes of both (docs/slots.md,
Power cuts). States that a cut can leave are sampled, as many of each row where there are so many, and written to a disk and a
variable store. OVMF starts them, without a server; the machine has to do what the model says: start the same slots in
the same order, come to the same version in the same phase after at most two resets, with a whole data partition, and
`+"`ingot why`"+` has to explain it. Seed %d, %s.

%s

`, o.seed, time.Now().UTC().Format("2006-01-02"), h.line())
	s.WriteString(cells("row", "states", "started", "what was started, and how often"))
	s.WriteString("|---|---|---|---|\n")
	names := slices.SortedFunc(maps.Keys(rows), func(a, b string) int { return rowNumber(a) - rowNumber(b) })
	for _, name := range names {
		r := rows[name]
		var chains []string
		for _, c := range slices.Sorted(maps.Keys(r.chains)) {
			chains = append(chains, fmt.Sprintf("%s: %d", c, r.chains[c]))
		}
		s.WriteString(cells(name, fmt.Sprint(r.states), fmt.Sprint(r.started), strings.Join(chains, "; ")))
	}
	s.WriteString("\n## Each state\n\nThe cut is in a write of the update (its number), before that sector or with only some of the sectors of the write on the disk.\n\n")
	s.WriteString(cells("row", "cut", "started", "result"))
	s.WriteString("|---|---|---|---|\n")
	s.WriteString(each)
	return s.String()
}

func rowNumber(name string) (n int) {
	_, _ = fmt.Sscanf(name, "P%d", &n)
	return n
}
