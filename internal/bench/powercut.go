package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

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
	var failed []error
	var lines strings.Builder
	for i, st := range states {
		chain, err := s.cut(ctx, st)
		if ctx.Err() != nil {
			break
		}
		result := "as the model"
		if err != nil {
			result = "**" + firstLine(err.Error()) + "**"
			failed = append(failed, fmt.Errorf("%s, operation %d, %s: %w", st.Row, st.Op, st.Where, err))
		}
		rows[st.Row].started++
		rows[st.Row].chains[chain]++
		say("%d of %d: %s, operation %d, %s: %s: %s", i+1, len(states), st.Row, st.Op, st.Where, chain, result)
		lines.WriteString(cells(st.Row, fmt.Sprintf("%d, %s", st.Op, st.Where), chain, result))
	}
	page := cutPage(describeHost(ctx), o, rows, lines.String())
	if err := os.WriteFile(o.cutDoc, []byte(page), 0o644); err != nil {
		return err
	}
	return errors.Join(failed...)
}

func firstLine(s string) string { return strings.SplitN(s, "\n", 2)[0] }

// cut starts one state and says what is wrong with what the machine makes of it.
func (s *site) cut(ctx context.Context, st powercut.State) (chain string, err error) {
	dir, err := os.MkdirTemp(s.dir, "state-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	want, model, err := st.Alone()
	if err != nil {
		return "", err
	}
	got, err := s.pair.Run(ctx, st, dir)
	chain = strings.Join(got.Chain, " ")
	if err != nil {
		return chain, err
	}
	phase, n := got.Record.Phase, len(got.Starts)
	if phase == slot.Blessed {
		phase = slot.Idle
	}
	switch {
	case !slices.Equal(got.Chain, want) || got.Version != model.Runs() || phase != model.State.Phase:
		return chain, fmt.Errorf("runs %s in %s; the model starts %s and runs %s in %s", got.Version, phase, strings.Join(want, " "), model.Runs(), model.State.Phase)
	case got.Resets() > 2:
		return chain, fmt.Errorf("%d resets", got.Resets())
	case n < 2 || n > len(got.Chain)+1 || got.Starts[0] != s.pair.Old.Manifest.Version || got.Starts[n-1] != got.Version: // a boot that only repairs variables ends before the service
		return chain, fmt.Errorf("the data partition knows of %q", got.Starts)
	}
	return chain, s.checkDisk(ctx, got.Disk, got.Version, false)
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
