package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/internal/powercut/plug"
	"github.com/ingot-os/ingot/internal/release"
)

// killsOfOne is how many kills one machine's disk has to bear before it is looked at
// as a whole.
const killsOfOne = 10

// killed is what came of all kills.
type killed struct {
	mu                                       sync.Mutex
	kills, machines, boots, healthy, updates int
	phases                                   map[string]int
	story                                    time.Duration // an update without a cut
}

// killMachines cuts the power of machines that are being updated, o.kill times in
// all, at random times.
func killMachines(ctx context.Context, s *site, o options) error {
	k := &killed{phases: map[string]int{}}
	if err := s.measureStory(ctx, k, o.seed); err != nil {
		return fmt.Errorf("without a cut: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for n := 0; n*killsOfOne < o.kill; n++ {
		seed, left := o.seed+uint64(n), o.kill-n*killsOfOne
		g.Go(func() error {
			if err := s.killOne(ctx, k, seed, min(killsOfOne, left)); err != nil {
				return fmt.Errorf("seed %d: %w\nagain: make bench-kill KILLS=%d SEED=%d", seed, err, killsOfOne, seed)
			}
			return nil
		})
	}
	err := g.Wait()
	say("%d kills of %d machines, %d boots, %d lives came to a healthy service, %d updates became good; the journal was in %v", k.kills, k.machines, k.boots, k.healthy, k.updates, k.phases)
	return err
}

// victim makes a machine, and what removes its disk.
func (s *site) victim(seed uint64) (v *plug.Victim, remove func(), err error) {
	dir, err := os.MkdirTemp(s.dir, "machine-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	if v, err = plug.NewVictim(s.pair, dir, seed); err != nil {
		remove()
		return nil, nil, err
	}
	v.Push = s.push
	return v, remove, nil
}

// killOne kills one machine so often, then lets it come to the end of an update.
func (s *site) killOne(ctx context.Context, k *killed, seed uint64, kills int) error {
	v, remove, err := s.victim(seed)
	if err != nil {
		return err
	}
	defer remove()
	for i := range kills {
		after := time.Duration(v.Rand.Int64N(int64(k.story)))
		l, err := v.Live(ctx, after)
		k.add(l)
		if err == nil {
			err = v.Check(l)
		}
		if err == nil && l.Record.Good != 0 {
			err = s.checkDisk(ctx, v.Disk, l.Record.Of(l.Record.Good).Version, true)
		}
		say("seed %d, kill %d after %.1f s: %s, then %s, good %s", seed, i+1, after.Seconds(), strings.Join(l.Chain, " "), l.Record.Phase, l.Record.Good)
		if err != nil {
			return fmt.Errorf("kill %d after %s: %w", i+1, after, err)
		}
	}
	l, err := v.Live(ctx, 0)
	if err != nil {
		return fmt.Errorf("after all kills: %w", err)
	}
	k.end(l)
	o, err := v.Off(ctx)
	if err != nil {
		return fmt.Errorf("after all kills: %w", err)
	}
	if want := l.Record.Of(l.Record.Good).Version; o.Version != want || o.Starts[0] != s.pair.Old.Manifest.Version {
		return fmt.Errorf("after all kills %s runs, want %s; the data partition knows of %q", o.Version, want, o.Starts)
	}
	return s.checkDisk(ctx, v.Disk, o.Version, false)
}

// measureStory finds out when a kill may come: an update without one takes so long.
func (s *site) measureStory(ctx context.Context, k *killed, seed uint64) error {
	v, remove, err := s.victim(seed)
	if err != nil {
		return err
	}
	defer remove()
	begin := time.Now()
	_, err = v.Live(ctx, 0)
	k.story = time.Since(begin)
	say("an update takes %s from power-on", k.story.Round(time.Second))
	return err
}

// end counts the last life of a machine, which nobody kills.
func (k *killed) end(l plug.Life) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.machines++
	k.boots += len(l.Chain)
	k.updates += l.Updates
}

func (k *killed) add(l plug.Life) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kills++
	k.boots += len(l.Chain)
	k.updates += l.Updates
	if l.Healthy {
		k.healthy++
	}
	k.phases[l.Record.Phase.String()]++
}

// push sends a release as an operator does, also one that was rejected because
// its trials were cut.
func (s *site) push(ctx context.Context, address, key string, set *release.Set) error {
	_, err := s.run(ctx, "update", address, "--image", set.Dir, "--keys", s.keys, "--host-key", key, "--override", "--wait", "3m")
	return err
}
