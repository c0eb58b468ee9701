package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// cost is what one run of a program took.
type cost struct {
	wall   time.Duration
	memory int64 // bytes resident at most, of the largest process it waited for
	output string
}

// job is a program to run.
type job struct {
	args  []string
	dir   string
	env   []string // added to the environment
	codes []int    // exit codes besides 0 that are no error
}

// do runs the job and measures it.
func (j job) do(ctx context.Context) (cost, error) {
	cmd, peak, err := under(ctx, j.args)
	if err != nil {
		return cost{}, err
	}
	defer peak.Close()
	cmd.Dir, cmd.Env = j.dir, append(os.Environ(), j.env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin := time.Now()
	err = cmd.Run()
	c := cost{wall: time.Since(begin), output: out.String()}
	if ctx.Err() != nil {
		return c, ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && slices.Contains(j.codes, exit.ExitCode()) {
		err = nil
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w: %s", strings.Join(j.args, " "), err, lastLines(errs.String()+out.String(), 12))
	}
	c.memory, err = readPeak(peak)
	return c, err
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n\t")
}

// repeat runs f n times and keeps its times; memory is that of the largest run.
func repeat(n int, f func(i int) (cost, error)) (s series, err error) {
	for i := range n {
		c, err := f(i)
		if err != nil {
			return s, err
		}
		s.add(c)
	}
	return s, nil
}

// inTurns runs several jobs n times in turns, so that all of them meet the
// same noise of the machine.
func inTurns(n int, fs ...func(i int) (cost, error)) ([]series, error) {
	all := make([]series, len(fs))
	for i := range n {
		for k, f := range fs {
			c, err := f(i)
			if err != nil {
				return nil, err
			}
			all[k].add(c)
		}
	}
	return all, nil
}

// timed is the cost of a function of this program.
func timed(f func() error) (cost, error) {
	begin := time.Now()
	err := f()
	return cost{wall: time.Since(begin)}, err
}
