package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/squashfs"
	"github.com/ingot-os/ingot/partition/tree"
	"github.com/ingot-os/ingot/partition/verity"
)

// writersEpoch is the time of every entry written: the start of 2026.
const writersEpoch = 1767225600

// duel is one format written by ingot's package and by the usual tool. Both
// write a new file; neither is told to sync it.
type duel struct {
	job   string
	ours  func(out *os.File) error
	tool  string                          // program that must be there
	shell string                          // what it does; $1 is the output, $2 the input
	input string                          // of the tool
	sizes func(ours, theirs int64) string // what to say of the results; may be nil
}

// benchWriters writes each format with our package and with the usual tool.
func benchWriters(ctx context.Context, l *lab, r *report) error {
	if _, err := l.base.build(ctx); err != nil {
		return err
	}
	for _, prepare := range []func(context.Context, *lab) (duel, error){fatDuel, squashDuel, verityDuel, cpioDuel} {
		d, err := prepare(ctx, l)
		if err != nil {
			return err
		}
		if err := d.fight(ctx, l, r); err != nil {
			return fmt.Errorf("%s: %w", d.job, err)
		}
	}
	return nil
}

func (d duel) fight(ctx context.Context, l *lab, r *report) error {
	a, b := filepath.Join(l.dir, "ours"), filepath.Join(l.dir, "theirs")
	ours := func(int) (cost, error) {
		os.Remove(a)
		return timed(func() error {
			f, err := os.Create(a)
			if err != nil {
				return err
			}
			return errors.Join(d.ours(f), f.Close())
		})
	}
	theirs := func(int) (cost, error) {
		os.Remove(b)
		return job{args: []string{"sh", "-ec", d.shell, "sh", b, d.input}}.do(ctx)
	}
	c := contest{job: d.job, other: d.tool}
	if _, err := exec.LookPath(d.tool); err != nil {
		s, err := repeat(3, ours)
		c.ours, c.note = s, d.tool+" is not installed"
		r.compare(c)
		return err
	}
	all, err := inTurns(5, ours, theirs)
	if err != nil {
		return err
	}
	c.ours, c.theirs = all[0], all[1]
	if d.sizes != nil {
		if c.note, err = d.compareSizes(a, b); err != nil {
			return err
		}
	}
	r.compare(c)
	return nil
}

func (d duel) compareSizes(a, b string) (string, error) {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if err := errors.Join(errX, errY); err != nil {
		return "", err
	}
	return d.sizes(x.Size(), y.Size()), nil
}

// fatDuel is a slot: the UKI of hello in a volume of 256 MiB.
func fatDuel(_ context.Context, l *lab) (duel, error) {
	const size = 256 << 20
	uki, err := filepath.Glob(filepath.Join(l.base.set, "*.efi"))
	if err != nil || len(uki) != 1 {
		return duel{}, fmt.Errorf("find UKI: %v %v", uki, err)
	}
	info, err := os.Stat(uki[0])
	if err != nil {
		return duel{}, err
	}
	t := new(tree.Tree)
	if err := t.Add(tree.Node{Path: "EFI/BOOT/BOOTX64.EFI", Mode: 0o644, Content: file{uki[0], info.Size()}}); err != nil {
		return duel{}, err
	}
	return duel{
		job: "FAT32 of 256 MiB with the UKI", tool: "mcopy", input: uki[0],
		ours: func(f *os.File) error {
			if err := f.Truncate(size); err != nil {
				return err
			}
			img, err := fat.Plan(t, fat.Options{Size: size, Epoch: writersEpoch})
			if err != nil {
				return err
			}
			return img.Write(f)
		},
		shell: `truncate -s 256M "$1"; mformat -i "$1" -F ::; mmd -i "$1" ::/EFI ::/EFI/BOOT; mcopy -i "$1" "$2" ::/EFI/BOOT/BOOTX64.EFI`,
	}, nil
}

// squashDuel compresses with zstd at level 3 on all processors on both sides.
func squashDuel(ctx context.Context, l *lab) (duel, error) {
	dir, err := goSources(ctx, l)
	if err != nil {
		return duel{}, err
	}
	t, err := treeOf(dir)
	return duel{
		job: "squashfs of the Go sources, zstd level 3", tool: "mksquashfs", input: dir,
		ours: func(f *os.File) error {
			_, err := squashfs.Write(f, t, squashfs.Options{Level: 3, Epoch: writersEpoch})
			return err
		},
		shell: `mksquashfs "$2" "$1" -comp zstd -Xcompression-level 3 -all-root -no-xattrs -no-progress -quiet`,
		sizes: func(ours, theirs int64) string {
			return fmt.Sprintf("%s, mksquashfs %s", bytesMB.format(float64(ours)), bytesMB.format(float64(theirs)))
		},
	}, err
}

// verityDuel hashes 512 MiB.
func verityDuel(_ context.Context, l *lab) (duel, error) {
	const size = 512 << 20
	data := filepath.Join(l.dir, "data")
	if err := noise(data, size); err != nil {
		return duel{}, err
	}
	in, err := os.Open(data)
	return duel{
		job: "dm-verity tree over 512 MiB", tool: "veritysetup", input: data,
		ours: func(f *os.File) error {
			_, err := verity.Build(in, size/verity.BlockSize, f, verity.Params{Salt: make([]byte, 32)})
			return err
		},
		shell: `veritysetup format "$2" "$1" >/dev/null`,
	}, err
}

// cpioDuel packs an uncompressed archive.
func cpioDuel(ctx context.Context, l *lab) (duel, error) {
	dir, err := goSources(ctx, l)
	if err != nil {
		return duel{}, err
	}
	t, err := treeOf(dir)
	return duel{
		job: "cpio of the Go sources", tool: "cpio", input: dir,
		ours: func(f *os.File) error {
			a, err := initramfs.Plan([]initramfs.Segment{{Name: "tree", Tree: t}}, initramfs.Options{Epoch: writersEpoch})
			if err != nil {
				return err
			}
			_, err = a.WriteTo(io.Writer(f))
			return err
		},
		shell: `cd "$2"; find . | cpio -o -H newc --quiet --reproducible > "$1"`,
	}, err
}
