package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/powercut/plug"
	"github.com/ingot-os/ingot/internal/release"
)

// killsOfOne is how many kills one machine's disk has to bear before it is looked at
// as a whole.
const killsOfOne = 10

// killed is what came of all kills.
type killed struct {
	kills, machines, boots, healthy, updates int
	phases                                   map[string]int
	story                                    time.Duration // an update without a cut
}

// killMachines cuts the power of machines that are being updated, o.kill times in
// all, at random times.
func killMachines(ctx context.Context, s *site, o options) error {
	k := &killed{phases: map[string]int{}}
	var err error
	for seed := o.seed; k.kills < o.kill && err == nil; seed++ {
		if err = s.killOne(ctx, k, seed, min(killsOfOne, o.kill-k.kills)); err != nil {
			err = fmt.Errorf("seed %d: %w\nagain: make bench-kill KILLS=%d SEED=%d", seed, err, killsOfOne, seed)
		}
	}
	say("%d kills of %d machines, %d boots, %d lives came to a healthy service, %d updates became good; the journal was in %v", k.kills, k.machines, k.boots, k.healthy, k.updates, k.phases)
	return err
}

// killOne kills one machine so often, then lets it come to the end of an update.
func (s *site) killOne(ctx context.Context, k *killed, seed uint64, kills int) error {
	dir, err := os.MkdirTemp(s.dir, "machine-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	v, err := plug.NewVictim(s.pair, dir, seed)
	if err != nil {
		return err
	}
	v.Push = s.push
	k.machines++
	if k.story == 0 {
		begin := time.Now()
		if _, err := v.Live(ctx, 0); err != nil {
			return fmt.Errorf("without a cut: %w", err)
		}
		k.story = time.Since(begin)
		say("an update takes %s from power-on", k.story.Round(time.Second))
	}
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
	k.boots, k.updates = k.boots+len(l.Chain), k.updates+l.Updates
	o, err := v.Off(ctx)
	if err != nil {
		return fmt.Errorf("after all kills: %w", err)
	}
	if want := l.Record.Of(l.Record.Good).Version; o.Version != want || o.Starts[0] != s.pair.Old.Manifest.Version {
		return fmt.Errorf("after all kills %s runs, want %s; the data partition knows of %q", o.Version, want, o.Starts)
	}
	return s.checkDisk(ctx, v.Disk, o.Version, false)
}

func (k *killed) add(l plug.Life) {
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
