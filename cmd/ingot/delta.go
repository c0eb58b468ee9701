package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/ingot-os/ingot/internal/delta"
	"github.com/ingot-os/ingot/internal/slotdisk"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/updateapi"
)

type deltaCmd struct {
	Old string `arg:"" help:"What machines run: image set, disk image, disk, or the image of a slot." type:"path"`
	New string `arg:"" help:"What they are to run." type:"path"`
	Out string `short:"o" placeholder:"FILE" help:"Name of the files without .slot.delta and .root.delta, or a directory (default: NAME-OLD-NEW here)." type:"path"`
}

// Suffixes of the files.
const (
	slotDelta = ".slot.delta"
	rootDelta = ".root.delta"
)

// patch is one file that was made.
type patch struct {
	Part string `json:"part"` // slot or root
	Path string `json:"path,omitempty"`
	// Size is that of the patch, Used what the new image uses without the zeros
	// at its end, both in bytes.
	Size  int64   `json:"size,omitempty"`
	Used  int64   `json:"used,omitempty"`
	Ratio float64 `json:"ratio,omitempty"` // Size by Used
	Old   string  `json:"old,omitempty"`   // digests of the whole partitions
	New   string  `json:"new,omitempty"`
	Whole string  `json:"whole,omitempty"` // why there is no patch: machines take the whole part
}

// Run makes a patch of the slot, and one of the root where there is one.
func (c *deltaCmd) Run(v *verb) error {
	old, err := slotdisk.OpenParts(c.Old)
	if err != nil {
		return explainDisk(c.Old, err)
	}
	defer old.Close()
	new, err := slotdisk.OpenParts(c.New)
	if err != nil {
		return explainDisk(c.New, err)
	}
	defer new.Close()
	if sameRelease(old, new) {
		return &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("make delta: %s and %s are the same release", old.Path, new.Path), Hint: "ingot delta OLD NEW: first what machines run, then what they are to run"}
	}
	if err := fits(old, new); err != nil {
		return err
	}
	// Nearly all memory lives as long as the patch is being made: a collector that
	// waits until there is as much again would double it.
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	stem := c.stem(fmt.Sprintf("%s-%s-%s", new.Name, old.Version, new.Version))
	var made []patch
	for _, p := range []patching{
		{updateapi.PartSlot, stem + slotDelta, old.Slot, new.Slot, old.SlotSHA256, new.SlotSHA256},
		{updateapi.PartRoot, stem + rootDelta, old.Root, new.Root, old.RootSHA256, new.RootSHA256},
	} {
		if p.new == nil {
			continue
		}
		done, err := p.make(v)
		if err != nil {
			return err
		}
		made = append(made, done)
	}
	return printPatches(v, made)
}

// stem is the common start of the files' names.
func (c *deltaCmd) stem(name string) string {
	if c.Out == "" {
		return name
	}
	if info, err := os.Stat(c.Out); err == nil && info.IsDir() {
		return filepath.Join(c.Out, name)
	}
	return strings.TrimSuffix(strings.TrimSuffix(c.Out, slotDelta), rootDelta)
}

// sameRelease says whether both are one file or folder, or sets with the same content.
func sameRelease(old, new *slotdisk.Parts) bool {
	a, err := os.Stat(old.Path)
	b, berr := os.Stat(new.Path)
	if err == nil && berr == nil && os.SameFile(a, b) {
		return true
	}
	return old.SlotSHA256 != "" && old.SlotSHA256 == new.SlotSHA256 && old.RootSHA256 == new.RootSHA256
}

// fits refuses what no machine would take.
func fits(old, new *slotdisk.Parts) error {
	refuse := func(hint, format string, args ...any) error {
		return &ui.Error{Code: ui.CodeRefused, Err: fmt.Errorf("make delta: "+format, args...), Hint: hint}
	}
	switch {
	case old.Name != new.Name || old.Arch != new.Arch:
		return refuse("name two releases of one appliance", "%s is %s for %s, %s is %s for %s", old.Path, old.Name, old.Arch, new.Path, new.Name, new.Arch)
	case old.Layout != new.Layout:
		return refuse("an update cannot change the layout of a disk: flash it", "%s has the disk layout %s, %s has %s", old.Path, old.Layout, new.Path, new.Layout)
	case old.Slot.Size() != new.Slot.Size():
		return refuse("name whole slots", "the slot of %s has %d bytes, that of %s has %d", old.Path, old.Slot.Size(), new.Path, new.Slot.Size())
	}
	return nil
}

// patching is one patch to make.
type patching struct {
	part, path       string
	old, new         *io.SectionReader
	oldWant, newWant string // digests by the manifests
}

// make writes the patch beside its final name, applies it, and renames it.
func (j patching) make(v *verb) (patch, error) {
	debug.FreeOSMemory() // of the boot files that were looked into
	p := patch{Part: j.part, Path: j.path}
	if j.old == nil {
		return patch{Part: j.part, Whole: "the old image has none"}, nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(j.path), ".ingot-delta-")
	if err != nil {
		return p, noFolder(j.path, err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	total := j.old.Size() + 2*j.new.Size() // the new image is read for its digest and for the patch
	at := &meter{ctx: v.ctx, tell: func(n int64) { v.ui.Progress("delta of "+j.part, n, total, false) }}
	info, err := delta.Make(tmp, delta.Image{ReaderAt: at.of(j.old), Size: j.old.Size()}, delta.Image{ReaderAt: at.of(j.new), Size: j.new.Size()})
	v.ui.Progress("delta of "+j.part, total, total, true)
	switch {
	case errors.Is(err, delta.ErrTooLarge):
		return patch{Part: j.part, Whole: err.Error()}, nil
	case err != nil:
		return p, err
	}
	if err := j.check(v.ctx, tmp, info); err != nil {
		return p, err
	}
	end, err := tmp.Seek(0, io.SeekEnd)
	if err != nil {
		return p, err
	}
	p.Size, p.Used, p.Old, p.New = end, info.NewUsed, fmt.Sprintf("%x", info.Old), fmt.Sprintf("%x", info.New)
	if p.Used > 0 {
		p.Ratio = float64(p.Size) / float64(p.Used)
	}
	if err := errors.Join(tmp.Chmod(0o644), tmp.Sync()); err != nil {
		return p, err
	}
	return p, os.Rename(tmp.Name(), j.path)
}

// noFolder names the folder instead of the temporary file that could not be made in it.
func noFolder(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = &fs.PathError{Op: p.Op, Path: filepath.Dir(path), Err: p.Err}
	}
	out := &ui.Error{Err: fmt.Errorf("make delta: %w", err)}
	if errors.Is(err, fs.ErrNotExist) {
		out.Hint = "make the folder first, or name another with -o"
	}
	return out
}

// check holds the images against their manifests, and applies the patch: what is
// shipped is known to give the new image bit for bit.
func (j patching) check(ctx context.Context, tmp io.ReadSeeker, info delta.Info) error {
	for _, image := range []struct{ name, want, got string }{{"old", j.oldWant, fmt.Sprintf("%x", info.Old)}, {"new", j.newWant, fmt.Sprintf("%x", info.New)}} {
		if image.want != "" && image.want != image.got {
			return &ui.Error{Code: ui.CodeRefused, Err: fmt.Errorf("make delta: the %s of the %s image set is not what its manifest says: digest %s, want %s", j.part, image.name, image.got, image.want), Hint: "ingot verify says what differs"}
		}
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return err
	}
	debug.FreeOSMemory() // of the encoder
	r, err := delta.Open((&meter{ctx: ctx}).of(j.old), tmp, delta.Limits{Size: max(j.old.Size(), j.new.Size())})
	if err != nil {
		return fmt.Errorf("check patch: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("check patch: %w", err)
	}
	return nil
}

// meter counts what is read, and ends it when the operator interrupts.
type meter struct {
	ctx  context.Context
	tell func(n int64)
	n    int64
}

func (m *meter) of(r io.ReaderAt) io.ReaderAt { return metered{m, r} }

type metered struct {
	m *meter
	r io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (r metered) ReadAt(b []byte, off int64) (int, error) {
	if err := r.m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.ReadAt(b, off)
	if r.m.n += int64(n); r.m.tell != nil {
		r.m.tell(r.m.n)
	}
	return n, err
}

func printPatches(v *verb, made []patch) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(struct {
			Patches []patch `json:"patches"`
		}{made})
	}
	for _, p := range made {
		if p.Whole != "" {
			v.ui.Warn("%s: no patch: %s; machines take the whole %s", p.Part, p.Whole, p.Part)
			continue
		}
		if err := v.ui.Print("%s: %s for %s (%.2f %%)", p.Path, ui.Size(p.Size), ui.Size(p.Used), 100*p.Ratio); err != nil {
			return err
		}
	}
	return nil
}
