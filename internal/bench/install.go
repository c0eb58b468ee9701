package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/updater"
	"github.com/ingot-os/ingot/internal/release"
)

// Statement 15 of the design: at least 80 % of the disk's own speed, and memory
// within 64 MiB and the window of a stream.
const (
	installShare  = 0.8
	installMemory = 64<<20 + 8<<20
	installEnv    = "INGOT_BENCH_INSTALL" // this program writes a slot, and nothing else
)

// benchInstall writes a slot as a machine does, from a file that is in memory to
// a loop device, beside dd writing and reading the same past the page cache.
func benchInstall(ctx context.Context, l *lab, r *report) error {
	full := filepath.Join(l.dir, "full-slot")
	target := filepath.Join(l.dir, "slot")
	if err := l.slots(full, target); err != nil {
		return err
	}
	loop, err := attachLoop(ctx, "--direct-io=on", target) // else what is written ends in memory
	if err != nil {
		say("install: not measured: %v", err)
		return nil
	}
	defer exec.Command("losetup", "-d", loop).Run()
	for _, x := range []struct{ what, image string }{{"full of data", full}, {"of hello", full + "-hello"}} {
		if err := installTo(ctx, r, x.what, x.image, loop); err != nil {
			return err
		}
	}
	return nil
}

// slots makes two images of a slot, and what is behind the loop device.
func (l *lab) slots(full, target string) error {
	set, err := release.Open(l.base.set)
	if err != nil {
		return err
	}
	for _, p := range set.Manifest.Disk.Partitions {
		if p.Role != "slot-a" {
			continue
		}
		img, err := os.Open(set.Image())
		if err != nil {
			return err
		}
		defer img.Close()
		return errors.Join(
			fill(full, io.LimitReader(rand.Reader, p.Size)),
			fill(full+"-hello", io.NewSectionReader(img, p.Start, p.Size)),
			dirty(target, p.Size),
		)
	}
	return errors.New("the image has no slot")
}

func fill(path string, r io.Reader) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}

func installTo(ctx context.Context, r *report, what, image, loop string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	sum, err := sumOf(image) // which also brings it into the page cache
	if err != nil {
		return err
	}
	all, err := inTurns(5,
		func(int) (cost, error) {
			return job{args: []string{program}, env: []string{installEnv + "=" + strings.Join([]string{image, loop, sum}, "\n")}}.do(ctx)
		},
		func(int) (cost, error) {
			return job{args: []string{"sh", "-ec", `dd if="$1" of="$2" bs=1M oflag=direct conv=fsync status=none; dd if="$2" of=/dev/null bs=1M iflag=direct status=none`, "sh", image, loop}}.do(ctx)
		})
	if err != nil {
		return err
	}
	r.add(measure{update: true, what: "install a slot " + what + ", 256 MiB, on a loop device: write, flush, read back, compare SHA-256", series: all[0],
		limit: all[1].median() / installShare, memoryLimit: installMemory,
		note: fmt.Sprintf("`dd oflag=direct` and `dd iflag=direct` of the same take %s, the target is that divided by %.1f", seconds.format(all[1].median()), installShare)})
	return nil
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// installHere is the program that benchInstall measures.
func installHere(spec string) error {
	f := strings.Split(spec, "\n")
	if len(f) != 3 {
		return fmt.Errorf("%s: want image, device and digest", installEnv)
	}
	image, err := os.Open(f[0])
	if err != nil {
		return err
	}
	defer image.Close()
	st, err := image.Stat()
	if err != nil {
		return err
	}
	sum, err := hex.DecodeString(f[2])
	if err != nil || len(sum) != len(slot.Digest{}) {
		return fmt.Errorf("digest %q", f[2])
	}
	return updater.Install(f[1], slot.Writing{Size: st.Size(), Digest: slot.Digest(sum)}, image)
}
