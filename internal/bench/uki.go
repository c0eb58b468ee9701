package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/release"
)

// sprintSize puts a size in GiB into a text.
func sprintSize(text string, n int64) string {
	return fmt.Sprintf(text, fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)))
}

// benchUKI gives the sizes of what boots, and what compressing it costs.
func benchUKI(ctx context.Context, l *lab, r *report) error {
	if _, err := l.base.build(ctx); err != nil {
		return err
	}
	uki, err := ukiOf(l.base.set)
	if err != nil {
		return err
	}
	r.add(measure{what: "UKI of hello, as it is", unit: bytesMB, series: one(float64(uki.Size)), limit: 24e6})
	if err := benchCompression(ctx, l, r); err != nil {
		return err
	}
	for _, v := range initbin.Variants {
		for _, arch := range initbin.Arches {
			b, err := initbin.Open(v, arch)
			if err != nil {
				return err
			}
			r.add(measure{what: string(v) + " for " + arch, unit: bytesMB, series: one(float64(len(b))), limit: 12e6})
		}
	}
	return nil
}

// benchCompression builds with 1, 2 and 8 workers, whose results must be equal.
func benchCompression(ctx context.Context, l *lab, r *report) error {
	a, err := l.appliance(ctx, "zstd", "compress: zstd\n")
	if err != nil {
		return err
	}
	digests := map[string]bool{}
	build := func(workers string) func(int) (cost, error) {
		return func(int) (cost, error) {
			if err := a.remove(); err != nil {
				return cost{}, err
			}
			trace := filepath.Join(l.dir, "trace")
			c, err := a.build(ctx, "--workers", workers, "--trace", trace)
			if err != nil {
				return c, err
			}
			steps, err := readTrace(trace)
			c.wall = steps["initramfs"]
			if f, err := ukiOf(a.set); err == nil {
				digests[f.SHA256] = true
			}
			return c, err
		}
	}
	counts := []string{"1", "2", "8"}
	all, err := inTurns(4, build(counts[0]), build(counts[1]), build(counts[2]))
	if err != nil {
		return err
	}
	if len(digests) != 1 {
		return fmt.Errorf("%s workers give %d different UKIs, want one", strings.Join(counts, ", "), len(digests))
	}
	uki, err := ukiOf(a.set)
	if err != nil {
		return err
	}
	r.add(measure{what: "UKI of hello with `compress: zstd`", unit: bytesMB, series: one(float64(uki.Size)), limit: 18e6})
	for i, n := range counts {
		r.add(measure{what: "initramfs of hello as zstd, workers: " + n, series: all[i], note: "the same bytes for 1, 2 and 8"})
	}
	return nil
}

func ukiOf(set string) (release.File, error) {
	s, err := release.Open(set)
	if err != nil {
		return release.File{}, err
	}
	for _, f := range s.Manifest.Files {
		if strings.HasSuffix(f.Name, ".efi") {
			return f, nil
		}
	}
	return release.File{}, fmt.Errorf("%s has no UKI", set)
}
