package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/delta"
	"github.com/ingot-os/ingot/internal/release"
)

// Statement 14 of the design, by the bytes that an image uses: the zeros after them
// cost nothing. Memory of the builder is bounded by the slot's image, that of the
// machine by the window, which reaches over both images.
const (
	lineShare  = 0.005
	minorShare = 0.07
	applySpare = 64 << 20
	applyEnv   = "INGOT_BENCH_APPLY" // this program applies a patch, and nothing else
)

// benchDelta makes patches of two releases of one appliance, beside the zstd
// program, and applies them as a machine does.
func benchDelta(ctx context.Context, l *lab, r *report) error {
	line, err := l.appliance(ctx, "delta-line", "")
	if err != nil {
		return err
	}
	if err := line.edit("service/main.go", "hello from", "ahoy from"); err != nil {
		return err
	}
	if _, err := line.verb(ctx, "lock", "--update", "go/hello"); err != nil {
		return err
	}
	if _, err := line.build(ctx); err != nil {
		return err
	}
	if err := l.delta(ctx, r, "one changed line of hello", l.base.set, line.set, lineShare); err != nil {
		return err
	}
	var sets []string
	for _, v := range []string{"v0.15.0", "v0.16.0"} {
		a, err := l.uroot(ctx, v)
		if err != nil {
			r.add(measure{update: true, what: "patch of a minor release", series: one(0), unit: bytesMB, note: fmt.Sprintf("not measured: %v", err)})
			return nil
		}
		sets = append(sets, a.set)
	}
	return l.delta(ctx, r, "hello with four commands of u-root, v0.15 to v0.16", sets[0], sets[1], minorShare)
}

// uroot is hello with commands of a version of u-root.
func (l *lab) uroot(ctx context.Context, version string) (*appliance, error) {
	a, err := l.appliance(ctx, "delta-"+version, "")
	if err != nil {
		return nil, err
	}
	programs := "go:\n"
	for _, name := range []string{"gosh", "dhclient", "wget", "ip"} {
		programs += fmt.Sprintf("  - {package: github.com/u-root/u-root/cmds/core/%s@%s}\n", name, version)
	}
	if err := a.edit("appliance.yaml", "go:\n", programs); err != nil {
		return nil, err
	}
	if _, err := a.verb(ctx, "lock"); err != nil {
		return nil, err
	}
	_, err = a.build(ctx)
	return a, err
}

// edit changes a file of the recipe's directory.
func (a *appliance) edit(name, old, new string) error {
	b, err := os.ReadFile(filepath.Join(a.dir, name))
	if err != nil {
		return err
	}
	if !strings.Contains(string(b), old) {
		return fmt.Errorf("edit %s: no %q", name, old)
	}
	return a.write(name, strings.Replace(string(b), old, new, 1))
}

// delta measures one pair of releases.
func (l *lab) delta(ctx context.Context, r *report, what, oldSet, newSet string, share float64) error {
	stem := filepath.Join(l.dir, "patch")
	oldSlot, newSlot := filepath.Join(l.dir, "old-slot"), filepath.Join(l.dir, "new-slot")
	if err := errors.Join(slotOf(oldSet, oldSlot), slotOf(newSet, newSlot)); err != nil {
		return err
	}
	all, err := inTurns(3,
		func(int) (cost, error) { return l.run(ctx, l.dir, "delta", oldSet, newSet, "-o", stem) },
		func(int) (cost, error) {
			return job{args: []string{"zstd", "-q", "-f", "-19", "--long=27", "--patch-from=" + oldSlot, newSlot, "-o", stem + ".zst"}}.do(ctx)
		})
	if err != nil {
		return err
	}
	patch := stem + ".slot.delta"
	info, size, err := patchOf(patch)
	if err != nil {
		return err
	}
	theirs, err := os.Stat(stem + ".zst")
	if err != nil {
		return err
	}
	r.add(measure{update: true, what: "patch of " + what, unit: bytesMB, series: one(float64(size)), limit: share * float64(info.NewUsed),
		note: fmt.Sprintf("%.3f %% of the %.1f MB that the slot uses, target %.3g %%; zstd -19 --patch-from, of the whole slots: %.2f MB", 100*float64(size)/float64(info.NewUsed), float64(info.NewUsed)/1e6, 100*share, float64(theirs.Size())/1e6)})
	r.add(measure{update: true, what: "`ingot delta`, " + what, series: all[0], memoryLimit: 2 * info.NewSize,
		note: fmt.Sprintf("the limit is twice the slot's image of %d MiB; zstd -19 --long=27 of the whole slots: %s", info.NewSize>>20, mebibytes(all[1].memory))})
	r.compare(contest{job: "make a patch: " + what, ours: all[0], other: "zstd -19 --patch-from", theirs: all[1], note: "ours reads the digests of both slots, makes the patch and applies it"})
	return applyPatch(ctx, r, what, oldSlot, patch, info)
}

// applyPatch measures what a machine does: read the old slot, unpack the new one.
func applyPatch(ctx context.Context, r *report, what, oldSlot, patch string, info delta.Info) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	s, err := repeat(5, func(int) (cost, error) {
		return job{args: []string{program}, env: []string{applyEnv + "=" + oldSlot + "\n" + patch}}.do(ctx)
	})
	if err != nil {
		return err
	}
	r.add(measure{update: true, what: "apply the patch of " + what, series: s, memoryLimit: applySpare + info.OldUsed + info.NewUsed, note: "the limit is 64 MiB and the window, which reaches over both images"})
	return nil
}

// applyHere is the program that applyPatch measures.
func applyHere(spec string) error {
	oldSlot, patch, _ := strings.Cut(spec, "\n")
	old, err := os.Open(oldSlot)
	if err != nil {
		return err
	}
	defer old.Close()
	p, err := os.Open(patch)
	if err != nil {
		return err
	}
	defer p.Close()
	st, err := old.Stat()
	if err != nil {
		return err
	}
	d, err := delta.Open(old, p, delta.Limits{Size: st.Size()})
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = io.Copy(io.Discard, d)
	return err
}

func patchOf(path string) (delta.Info, int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return delta.Info{}, 0, err
	}
	i, err := delta.ParseHeader(b[:min(len(b), delta.HeaderSize)])
	return i, int64(len(b)), err
}

// slotOf copies slot a of a set's image to a file.
func slotOf(set, path string) error {
	s, err := release.Open(set)
	if err != nil {
		return err
	}
	img, err := os.Open(s.Image())
	if err != nil {
		return err
	}
	defer img.Close()
	for _, p := range s.Manifest.Disk.Partitions {
		if p.Role == "slot-a" {
			return fill(path, io.NewSectionReader(img, p.Start, p.Size))
		}
	}
	return errors.New("the image has no slot")
}
