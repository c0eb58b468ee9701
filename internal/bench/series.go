package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// series is what several runs of one thing took: seconds, or bytes.
type series struct {
	values []float64
	memory int64 // bytes at most in any run; 0 = not measured
}

func (s *series) add(c cost) {
	s.values = append(s.values, c.wall.Seconds())
	s.memory = max(s.memory, c.memory)
}

// one is a series of a single value, such as a size.
func one(v float64) series { return series{values: []float64{v}} }

// median is the middle value, or the mean of the two in the middle.
func (s series) median() float64 {
	if len(s.values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(s.values))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// spread is "lowest to highest", empty for a single run.
func (s series) spread(u unit) string {
	if len(s.values) < 2 {
		return ""
	}
	return u.format(slices.Min(s.values)) + " to " + u.format(slices.Max(s.values))
}

// unit says how a value is written.
type unit int

const (
	seconds unit = iota
	bytesMB      // powers of 1000, as limits of sizes are given
	count        // of things
	rate         // bytes in a second
)

func (u unit) format(v float64) string {
	switch {
	case u == bytesMB:
		return fmt.Sprintf("%.2f MB", v/1e6)
	case u == count:
		return fmt.Sprintf("%.0f", v)
	case u == rate:
		return fmt.Sprintf("%.0f MB/s", v/1e6)
	case v < 0.001:
		return fmt.Sprintf("%.0f µs", v*1e6)
	case v < 0.01:
		return fmt.Sprintf("%.1f ms", v*1000)
	case v < 0.1:
		return fmt.Sprintf("%.0f ms", v*1000)
	case v < 10:
		return fmt.Sprintf("%.2f s", v)
	}
	return fmt.Sprintf("%.1f s", v)
}

// mebibytes writes memory, whose limits are given in MiB.
func mebibytes(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d MiB", (n+1<<19)>>20)
}

// times writes how many times larger b is than a: "4.2 x".
func times(a, b float64) string {
	if r := b / a; r < 10 {
		return fmt.Sprintf("%.1f x", r)
	} else if !math.IsInf(r, 0) && !math.IsNaN(r) {
		return fmt.Sprintf("%.0f x", r)
	}
	return ""
}

// cells is a line of a Markdown table.
func cells(c ...string) string {
	for i := range c {
		c[i] = strings.NewReplacer("|", `\|`, "\n", " ").Replace(c[i])
	}
	return "| " + strings.Join(c, " | ") + " |\n"
}
