package plug

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/powercut"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/state"
)

// Pair are two releases of an appliance whose service says "version 1.0.0" at
// port 8080, and at /starts the versions that it was started as, from the data
// partition.
type Pair struct {
	Old, New *release.Set
	Site     Site // a disk with the old release that has booted
}

// bootLimit bounds one story of a machine. A boot takes 15 s on two idle cores
// without KVM, and several times that on busy ones.
const bootLimit = 6 * time.Minute

// NewPair boots the old release once, on a disk in dir that it leaves switched off.
func NewPair(ctx context.Context, old, new *release.Set, dir string) (*Pair, error) {
	p := &Pair{Old: old, New: new}
	spec, err := rig.Spec(old)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	disk := filepath.Join(dir, "disk")
	vm, err := qemu.Start(ctx, qemu.Machine{Arch: spec.Arch, Image: old.Image(), Disk: disk, Vars: rig.Vars(old, spec)})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	if _, err := vm.WaitLine(ctx, healthy); err != nil {
		return nil, err
	}
	if err := vm.PowerDown(ctx); err != nil {
		return nil, err
	}
	p.Site, err = NewSite(disk, spec.Name, spec.Arch)
	return p, err
}

// Record updates the old release to the new one in the model, with the bytes of
// both.
func (p *Pair) Record() (*powercut.History, error) {
	var r [2]*powercut.Release
	for i, set := range []*release.Set{p.Old, p.New} {
		var err error
		if r[i], err = p.release(set); err != nil {
			return nil, err
		}
	}
	return powercut.Record(r[0], r[1])
}

// release reads the slot and the root of an image set.
func (p *Pair) release(set *release.Set) (*powercut.Release, error) {
	f, err := os.Open(set.Image())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	part := func(role string) ([]byte, error) {
		at, ok := p.Site.Layout.Part(role)
		if !ok {
			return nil, nil
		}
		b := make([]byte, at.Size)
		_, err := io.ReadFull(at.Section(f), b)
		return b, err
	}
	image, err := part(partition.SlotA)
	if err != nil {
		return nil, err
	}
	r, err := powercut.ReadRelease(set.Manifest.Version, uint32(set.Manifest.SecurityEpoch), image)
	if err != nil {
		return nil, err
	}
	root, err := part(partition.RootA)
	if root != nil {
		r.SetRoot(root)
	}
	return r, err
}

// Outcome is what a machine made of a state.
type Outcome struct {
	Row, Where string
	Op         int
	Chain      []string // what was started: "a=1.0.0"
	Version    string   // that the service says in the end
	Record     slot.Record
	Starts     []string // of the service, by the data partition
	Disk       string   // switched off
}

// Resets is how often the machine was started again by itself.
func (o Outcome) Resets() int { return len(o.Chain) - 1 }

// Run starts a machine in a state, without a server, and lets it go on until it
// rests. Its disk stays in dir.
func (p *Pair) Run(ctx context.Context, s powercut.State, dir string) (Outcome, error) {
	o := Outcome{Row: s.Row, Where: s.Where, Op: s.Op, Disk: filepath.Join(dir, "disk")}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	vm, err := p.Site.Start(ctx, s, qemu.Machine{Disk: o.Disk, WorkDir: dir, Forwards: []qemu.Forward{{Guest: 8080}}})
	if err != nil {
		return o, err
	}
	defer vm.Close()
	err = o.rest(ctx, vm)
	if err == nil {
		o.Version, o.Starts, err = ask(ctx, vm)
	}
	o.Chain = Chain(vm.Console())
	if err != nil {
		return o, fmt.Errorf("after %v: %w\n%s", o.Chain, err, lastLines(vm.Console(), 60))
	}
	return o, vm.PowerDown(ctx)
}

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

var healthy = regexp.MustCompile(`ingot: \S+ \S+ healthy after`)

// quiet is how long nothing must happen until a machine counts as at rest.
const quiet = 5 * time.Second

// Times is the key update of the recipes of a Pair: a busy computer must not make
// a trial fail, and what was approved before a cut is tried again soon.
const Times = "update: {health: 2s, limit: 4m, soak: 5s, watchdog: 1m, interval: 5s}"

// resting are the phases in which a machine without a server does nothing. A
// blessed version soaks for a minute at least before it is Idle.
var resting = []slot.Phase{slot.Idle, slot.Blessed, slot.Staging, slot.Rejected, slot.RolledBack, slot.CrashLoop}

// rest waits until the machine is healthy, and its journal does not change.
func (o *Outcome) rest(ctx context.Context, vm *qemu.VM) error {
	since := time.Now()
	for {
		r, err := Journal(o.Disk)
		if err != nil {
			return err
		}
		console := vm.Console()
		done := len(healthy.FindAllString(console, -1)) > 0 && endsHealthy(console) && slices.Contains(resting, r.Phase)
		if !done || r != o.Record {
			since = time.Now()
		}
		if o.Record = r; time.Since(since) > quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("phase %s: %w", r.Phase, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// endsHealthy says whether the last boot on a console became healthy.
func endsHealthy(console string) bool {
	starts := started.FindAllStringIndex(console, -1)
	return len(starts) > 0 && healthy.MatchString(console[starts[len(starts)-1][0]:])
}

// started matches what firmware and init say when they start.
var started = regexp.MustCompile(`BdsDxe: starting Boot[0-9A-F]{4} "([^"]*)"|ingot: \S+ (\S+) on Linux`)

// Chain is what was started by a console: "a=1.0.0", "esp=1.0.0" for the selector,
// "b" when its init said nothing.
func Chain(console string) (chain []string) {
	for _, m := range started.FindAllStringSubmatch(console, -1) {
		title, _, _ := strings.Cut(m[1], " slot-")
		switch {
		case m[2] != "" && len(chain) > 0:
			chain[len(chain)-1] += "=" + m[2]
		case title != m[1]:
			chain = append(chain, m[1][len(title)+len(" slot-"):])
		case m[1] != "":
			chain = append(chain, "esp")
		}
	}
	return chain
}

// ask asks the service what it is and what it has kept.
func ask(ctx context.Context, vm *qemu.VM) (version string, starts []string, err error) {
	var said [2]string
	for i, path := range []string{"/", "/starts"} {
		if said[i], err = get(ctx, "http://"+vm.Forward(8080)+path); err != nil {
			return "", nil, err
		}
	}
	return strings.TrimPrefix(strings.TrimSpace(said[0]), "version "), strings.Fields(said[1]), nil
}

func get(ctx context.Context, url string) (string, error) {
	var last error
	for range 20 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
		if err == nil {
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				return string(b), nil
			}
		}
		last = err
		time.Sleep(300 * time.Millisecond)
	}
	return "", last
}

// Journal reads the slot journal of a disk; a zero Record when it is empty.
func Journal(disk string) (slot.Record, error) {
	b, err := Region(disk, state.Journal)
	if errors.Is(err, state.ErrEmpty) {
		return slot.Record{}, nil
	}
	if err != nil {
		return slot.Record{}, err
	}
	return slot.Parse(b)
}

// Region reads a region of a disk's state partition.
func Region(disk string, r state.Region) (payload []byte, err error) {
	err = withPart(disk, partition.State, func(part *io.SectionReader) error {
		payload, _, err = state.Load(part, r)
		return err
	})
	return payload, err
}

func withPart(disk, role string, f func(*io.SectionReader) error) error {
	file, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	l, err := partition.Read(file, info.Size())
	if err != nil {
		return err
	}
	p, ok := l.Part(role)
	if !ok {
		return fmt.Errorf("%s has no partition %s", disk, role)
	}
	return f(p.Section(file))
}

// ExtractData copies the data partition of a disk to a file, for e2fsck.
func ExtractData(disk, path string) error {
	return withPart(disk, partition.Data, func(part *io.SectionReader) error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, part)
		return errors.Join(err, f.Close())
	})
}
