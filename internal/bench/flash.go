package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/release"
)

// benchFlash writes the image of hello to a file, and where that is allowed to
// a block device, beside dd. Both end with the data on the medium; ingot reads
// everything back, so dd is followed by cmp.
func benchFlash(ctx context.Context, l *lab, r *report) error {
	if _, err := l.base.build(ctx); err != nil {
		return err
	}
	set, err := release.Open(l.base.set)
	if err != nil {
		return err
	}
	target := filepath.Join(l.dir, "disk")
	if err := flashTo(ctx, l, r, set, target, "a file"); err != nil {
		return err
	}
	loop, err := attachLoop(ctx, target)
	if err != nil {
		r.compare(contest{job: "flash to a block device", other: "dd", note: fmt.Sprintf("not measured: %v", err), ours: one(0)})
		return nil
	}
	defer exec.Command("losetup", "-d", loop).Run()
	return flashTo(ctx, l, r, set, loop, "a loop device")
}

func flashTo(ctx context.Context, l *lab, r *report, set *release.Set, target, what string) error {
	image := set.Image()
	size := fmt.Sprint(set.Manifest.Disk.Size)
	prepare := func() error { return dirty(target, set.Manifest.Disk.Size) }
	all, err := inTurns(3,
		func(int) (cost, error) {
			if err := prepare(); err != nil {
				return cost{}, err
			}
			return l.run(ctx, l.dir, "flash", "--yes", image, target)
		},
		func(int) (cost, error) {
			if err := prepare(); err != nil {
				return cost{}, err
			}
			return job{args: []string{"sh", "-ec", `dd if="$1" of="$2" bs=4M conv=fsync,notrunc status=none; cmp -n "$3" "$1" "$2"`, "sh", image, target, size}}.do(ctx)
		})
	if err != nil {
		return err
	}
	r.compare(contest{job: "flash hello to " + what + " and read it back", ours: all[0], other: "dd conv=fsync, cmp", theirs: all[1]})
	return nil
}

// dirty makes the target hold something else, so that neither side gains from
// what the other has written. A file is made anew; a device keeps its size.
func dirty(target string, size int64) error {
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() && info.Size() < size {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	junk := make([]byte, 1<<20)
	for i := range junk {
		junk[i] = 0xA5
	}
	for off := int64(0); off < size; off += int64(len(junk)) {
		if _, err := f.WriteAt(junk[:min(size-off, int64(len(junk)))], off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// attachLoop makes a file a block device, by arguments of losetup.
func attachLoop(ctx context.Context, args ...string) (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("a loop device needs root")
	}
	out, err := exec.CommandContext(ctx, "losetup", append([]string{"--find", "--show"}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("losetup: %s", strings.TrimSpace(string(out)+" "+err.Error()))
	}
	return strings.TrimSpace(string(out)), nil
}
