package plug

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
)

// Victim is a machine that takes updates from one release of a Pair to the other,
// back, and so on, and is killed meanwhile. Its disk and its variables stay.
type Victim struct {
	Pair *Pair
	Disk string
	// Push sends a release to the machine at an address, which shows this key, and
	// waits until it is good.
	Push func(ctx context.Context, address, key string, set *release.Set) error
	Rand *rand.Rand
	Log  func(format string, args ...any)

	machine qemu.Machine
}

// NewVictim makes a machine in dir on which the old release has booted once.
func NewVictim(p *Pair, dir string, seed uint64) (*Victim, error) {
	spec, err := rig.Spec(p.Old)
	if err != nil {
		return nil, err
	}
	v := &Victim{Pair: p, Disk: filepath.Join(dir, "disk"), Rand: rand.New(rand.NewPCG(seed, 2))}
	v.machine = qemu.Machine{Arch: spec.Arch, Image: p.Site.Image, Disk: v.Disk, WorkDir: dir, Vars: rig.Vars(p.Old, spec),
		Forwards: []qemu.Forward{{Guest: 8080}, {Guest: 9443}}}
	return v, nil
}

// Life is one time between power-on and power-off.
type Life struct {
	After   time.Duration // that the power was cut, since power-on
	Chain   []string      // what was started
	Healthy bool          // a boot came so far
	Updates int           // that became good
	Record  slot.Record   // the journal afterwards
}

// Live powers the machine on, lets updates be pushed, and ends QEMU with SIGKILL
// after a time. With time 0 it waits until one more update is good, and for the
// machine to rest.
func (v *Victim) Live(ctx context.Context, after time.Duration) (Life, error) {
	l := Life{After: after}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	vm, err := qemu.Start(ctx, v.machine)
	if err != nil {
		return l, err
	}
	defer vm.Close()
	pushing, stop := context.WithCancel(ctx)
	updated, ended := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(ended)
		v.push(pushing, vm, updated, after == 0)
	}()
	if after > 0 {
		select {
		case <-time.After(after):
		case <-ctx.Done():
		}
	} else {
		err = await(ctx, updated)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, lastLines(vm.Console(), 80))
	}
	console := vm.Console()
	vm.Close() // SIGKILL
	stop()
	<-ended
	l.Chain, l.Healthy, l.Updates = Chain(console), healthy.MatchString(console), len(updated)
	if after == 0 && err == nil {
		l.Updates = 1
	}
	var journalErr error
	l.Record, journalErr = Journal(v.Disk)
	return l, errors.Join(err, journalErr)
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		time.Sleep(quiet) // what comes after the verdict
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no update became good: %w", context.Cause(ctx))
	}
}

// push sends the release that is not good, again and again, or until one became
// good.
func (v *Victim) push(ctx context.Context, vm *qemu.VM, updated chan<- struct{}, once bool) {
	for ctx.Err() == nil {
		key, err := hostKey(ctx, "http://"+vm.Forward(9443)+"/v1/status")
		if err == nil {
			err = v.pushOnce(ctx, vm, key)
		}
		if err == nil {
			updated <- struct{}{}
			if once {
				return
			}
		} else if ctx.Err() == nil && v.Log != nil {
			v.Log("%v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (v *Victim) pushOnce(ctx context.Context, vm *qemu.VM, key string) error {
	r, err := Journal(v.Disk)
	if err != nil {
		return err
	}
	set := v.Pair.New
	if r.Of(r.Good).Version == set.Manifest.Version {
		set = v.Pair.Old
	}
	return v.Push(ctx, vm.Forward(9443), key, set)
}

// hostKey asks a machine for the key that it shows.
func hostKey(ctx context.Context, url string) (string, error) {
	said, err := get(ctx, url)
	if err != nil {
		return "", err
	}
	var s listener.Status
	if err := json.Unmarshal([]byte(said), &s); err != nil {
		return "", err
	}
	if s.Management.Key == "" {
		return "", errors.New("the machine shows no key yet")
	}
	return s.Management.Key, nil
}

// Check looks at the disk after a life: the good slot has to hold every byte of
// one of the two releases.
func (v *Victim) Check(l Life) error {
	good := l.Record.Good
	if good == slot.None { // nothing was ever written to the journal
		good = slot.A
	}
	var sum slot.Digest
	err := withPart(v.Disk, good.Role(), func(part *io.SectionReader) error {
		h := sha256.New()
		_, err := io.Copy(h, part)
		sum = slot.Digest(h.Sum(nil))
		return err
	})
	if err != nil {
		return err
	}
	var digests []slot.Digest
	for _, set := range []*release.Set{v.Pair.Old, v.Pair.New} {
		d, err := slotDigest(set)
		if err != nil {
			return err
		}
		digests = append(digests, d)
	}
	if !slices.Contains(digests, sum) {
		return fmt.Errorf("slot %s is good and holds neither release", good)
	}
	return nil
}

func slotDigest(set *release.Set) (d slot.Digest, err error) {
	err = withPart(set.Image(), slot.A.Role(), func(part *io.SectionReader) error {
		h := sha256.New()
		_, err := io.Copy(h, part)
		d = slot.Digest(h.Sum(nil))
		return err
	})
	return d, err
}

// Off powers the machine on, waits until it is healthy and rests, and presses the
// power button: its data is then to be looked at without a replay of the journal.
func (v *Victim) Off(ctx context.Context) (o Outcome, err error) {
	o.Disk = v.Disk
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	vm, err := qemu.Start(ctx, v.machine)
	if err != nil {
		return o, err
	}
	defer vm.Close()
	if err = o.rest(ctx, vm); err == nil {
		o.Version, o.Starts, err = ask(ctx, vm)
	}
	o.Chain = Chain(vm.Console())
	if err != nil {
		return o, fmt.Errorf("after %v: %w\n%s", o.Chain, err, lastLines(vm.Console(), 80))
	}
	return o, vm.PowerDown(ctx)
}

// Stored is what a boot of a blessed slot must not write: the variable store, the
// state partition.
func (v *Victim) Stored() (vars, state []byte, err error) {
	if vars, err = os.ReadFile(filepath.Join(v.Disk+".machine", "vars.fd")); err != nil {
		return nil, nil, err
	}
	err = withPart(v.Disk, "state", func(part *io.SectionReader) error {
		state, err = io.ReadAll(part)
		return err
	})
	return vars, state, err
}

// Flicker powers the machine on for a moment.
func (v *Victim) Flicker(ctx context.Context, after time.Duration) error {
	vm, err := qemu.Start(ctx, v.machine)
	if err != nil {
		return err
	}
	time.Sleep(after)
	return vm.Close()
}
