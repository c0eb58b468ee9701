package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// proof is how often a set was made again, and how often with other bytes.
type proof struct {
	what       string
	mismatches int
	series
}

// benchReproduce makes examples/hello again and again out of its inputs. Each
// repeat has an empty cache of derived results, as ingot reproduce always has,
// another number of workers, and every tenth an empty cache of the Go compiler.
// The first mismatch is explained; the others are counted.
func benchReproduce(ctx context.Context, l *lab, r *report) error {
	p := proof{what: "`ingot reproduce` of hello: all steps from the downloads on"}
	s, err := repeat(l.repeats, func(i int) (cost, error) {
		env := []string{"INGOT_CACHE=" + l.cache.Dir, "GOMAXPROCS=" + strconv.Itoa(1+i%8)}
		if i%10 == 0 {
			empty := filepath.Join(l.dir, "gocache")
			if err := os.RemoveAll(empty); err != nil {
				return cost{}, err
			}
			env = append(env, "GOCACHE="+empty)
		}
		c, err := job{
			args: []string{l.ingot, "reproduce", l.base.set, "--offline", "--workers", strconv.Itoa(1 + i%8)},
			dir:  l.base.dir, env: env, codes: []int{4},
		}.do(ctx)
		if err == nil && !strings.HasPrefix(c.output, "same: ") {
			if p.mismatches++; p.mismatches == 1 {
				say("repeat %d differs:\n%s", i+1, c.output)
			}
		}
		return c, err
	})
	if err != nil {
		return err
	}
	p.series = s
	r.proofs = append(r.proofs, p)
	say("%d repeats, %d mismatches", l.repeats, p.mismatches)
	if p.mismatches > 0 {
		return fmt.Errorf("%d of %d repeats gave other bytes", p.mismatches, l.repeats)
	}
	return nil
}

func (r *report) proofTable() string {
	var s strings.Builder
	s.WriteString(cells("what", "repeats", "mismatches", "median", "lowest to highest", "peak memory"))
	s.WriteString("|---|---|---|---|---|---|\n")
	for _, p := range r.proofs {
		s.WriteString(cells(p.what, strconv.Itoa(len(p.values)), strconv.Itoa(p.mismatches), seconds.format(p.median()), p.spread(seconds), mebibytes(p.memory)))
	}
	return s.String()
}
