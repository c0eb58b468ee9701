package main

import (
	"context"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/release"
)

// diffMemory is the most that diff may hold, in bytes.
const diffMemory = 256 << 20

// benchVerbs times the verbs that are typed most.
func benchVerbs(ctx context.Context, l *lab, r *report) error {
	s, err := repeat(11, func(int) (cost, error) { return l.base.verb(ctx, "check") })
	if err != nil {
		return err
	}
	r.add(measure{what: "`ingot check`", series: s, limit: 0.1})
	if s, err = repeat(9, func(int) (cost, error) { return l.base.verb(ctx, "lock") }); err != nil {
		return err
	}
	r.add(measure{what: "`ingot lock`, nothing new", series: s})
	return benchDiff(ctx, l, r)
}

// benchDiff compares two image sets whose one file differs: as they are, and
// with a data partition that makes the disk larger than 4 GiB.
func benchDiff(ctx context.Context, l *lab, r *report) error {
	for _, d := range []struct{ name, what, extra string }{
		{"diff", "`ingot diff` of two image sets", ""},
		{"large", "`ingot diff` of two images of %s, sparse", "data: {size: 3600MiB}\n"},
	} {
		var sets [2]string
		for i, side := range []string{"-a", "-b"} {
			a, err := l.appliance(ctx, d.name+side, d.extra+"files:\n  - {path: /etc/motd, content: "+side+"}\n")
			if err != nil {
				return err
			}
			if _, err := a.build(ctx); err != nil {
				return err
			}
			sets[i] = a.set
		}
		what, err := diffed(&sets, d.what, d.extra != "")
		if err != nil {
			return err
		}
		s, err := repeat(5, func(int) (cost, error) { return l.run(ctx, l.dir, "diff", sets[0], sets[1]) })
		if err != nil {
			return err
		}
		r.add(measure{what: what, series: s, limit: 2, memoryLimit: diffMemory})
	}
	return nil
}

// diffed replaces image sets by their images and puts the size into the text.
func diffed(sets *[2]string, what string, image bool) (string, error) {
	if !image {
		return what, nil
	}
	s, err := release.Open(sets[0])
	if err != nil {
		return "", err
	}
	name := filepath.Base(s.Image())
	for i := range sets {
		sets[i] = filepath.Join(sets[i], name)
	}
	return sprintSize(what, s.Manifest.Disk.Size), nil
}
