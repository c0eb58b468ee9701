package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-os/ingot/internal/build"
)

// buildMemory is the most that a build may hold, in bytes.
const buildMemory = 512 << 20

// benchBuild times rebuilds: with nothing changed, with one file changed, and
// with nothing cached but downloads.
func benchBuild(ctx context.Context, l *lab, r *report) error {
	if err := benchNoop(ctx, l, r); err != nil {
		return err
	}
	if err := benchChanged(ctx, l, r); err != nil {
		return err
	}
	return benchCold(ctx, l, r)
}

func benchNoop(ctx context.Context, l *lab, r *report) error {
	s, err := repeat(11, func(int) (cost, error) { return l.base.build(ctx) })
	r.add(measure{what: "rebuild, nothing changed", series: s, limit: 0.3, memoryLimit: buildMemory})
	return err
}

// benchChanged edits a file that the image holds, then locks and builds.
func benchChanged(ctx context.Context, l *lab, r *report) error {
	a, err := l.appliance(ctx, "changed", "files:\n  - {path: /etc/motd, source: motd}\n")
	if err != nil {
		return err
	}
	s, err := repeat(10, func(i int) (cost, error) { return a.change(ctx, i) })
	if err != nil {
		return err
	}
	s.values = s.values[1:] // the first build of this recipe also fills the cache
	r.add(measure{what: "one file changed: `ingot lock` and `ingot build`", series: s, limit: 1, memoryLimit: buildMemory})
	return nil
}

func (a *appliance) change(ctx context.Context, i int) (cost, error) {
	if err := a.write("motd", fmt.Sprintf("change %d\n", i)); err != nil {
		return cost{}, err
	}
	locked, err := a.verb(ctx, "lock")
	if err != nil {
		return cost{}, err
	}
	built, err := a.build(ctx)
	return cost{wall: locked.wall + built.wall, memory: max(locked.memory, built.memory)}, err
}

// benchCold forgets everything that was derived from the downloads. The time
// of the Go toolchain is what the step "programs" of the trace took.
func benchCold(ctx context.Context, l *lab, r *report) error {
	trace := filepath.Join(l.dir, "trace")
	s, err := repeat(3, func(int) (cost, error) {
		if err := l.forget(); err != nil {
			return cost{}, err
		}
		if err := l.base.remove(); err != nil {
			return cost{}, err
		}
		c, err := l.base.build(ctx, "--trace", trace)
		if err != nil {
			return c, err
		}
		steps, err := readTrace(trace)
		c.wall -= steps["programs"]
		return c, err
	})
	r.add(measure{what: "everything but downloads and the Go compiler", series: s, limit: 5, memoryLimit: buildMemory,
		note: "memory with the Go compiler's"})
	return err
}

// forget removes what the cache holds beside downloads, and the names under
// which results are found.
func (l *lab) forget() error {
	for _, dir := range []string{"derived", "sets"} {
		if err := os.RemoveAll(filepath.Join(l.cache.Dir, dir)); err != nil {
			return err
		}
	}
	return nil
}

// readTrace gives the time of each step of a build.
func readTrace(path string) (map[string]time.Duration, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	steps := map[string]time.Duration{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var st build.Step
		if err := json.Unmarshal(s.Bytes(), &st); err != nil {
			return nil, fmt.Errorf("read trace: %w", err)
		}
		steps[st.Name] = st.End.Sub(st.Start)
	}
	return steps, nil
}
