package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/simhost"
)

// The load: so many hosts, each sending evidence once in an interval. Statement
// 11 of the design: p99 below 50 ms on two cores, which this program shares.
const (
	stormHosts    = 5000 // but for -hosts
	stormInterval = 10 * time.Second
	stormFor      = 60 * time.Second
	stormLimit    = 0.050
)

// storm is what came of a load.
type storm struct {
	took   []float64 // seconds, of each answer
	failed int
	first  error // of the failures
}

// benchStorm starts the server as a program, enrols hosts whose TPMs are keys in
// software, and has all of them attest for a minute.
func benchStorm(ctx context.Context, l *lab, r *report) error {
	boot, err := netboot(l.base.set)
	if err != nil {
		return err
	}
	maker, err := simhost.NewMaker(time.Now())
	if err != nil {
		return err
	}
	server, err := startServer(ctx, l, maker, boot)
	if err != nil {
		return err
	}
	defer server.stop()
	hosts := make([]*attested, l.hosts)
	for i := range hosts {
		if hosts[i], err = newAttested(i, boot, maker, server.address); err != nil {
			return err
		}
		defer hosts[i].close()
	}
	begin := time.Now()
	err = each(hosts, 32, func(a *attested) error {
		if err := a.connect(ctx); err != nil {
			return err
		}
		return a.enrol()
	})
	if err != nil {
		return fmt.Errorf("enrol: %w: %s", err, server.said())
	}
	return server.measure(ctx, hosts, time.Since(begin), r)
}

func (s *served) measure(ctx context.Context, hosts []*attested, enrolled time.Duration, r *report) error {
	var first, load storm // the first evidence of a host is kept in full, and its certificate is made
	first.run(ctx, hosts, stormInterval, stormInterval)
	before, err := s.usage()
	if err != nil {
		return err
	}
	load.run(ctx, hosts, stormInterval, stormFor)
	after, err := s.usage()
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	answers := len(load.took)
	if answers == 0 {
		return fmt.Errorf("no evidence was answered: %w: %s", load.first, s.said())
	}
	for range load.failed { // no answer within the interval
		load.took = append(load.took, stormInterval.Seconds())
	}
	note := fmt.Sprintf("half of them within %s, all within %s; %d answers, %d failed after a first round; enrolled in %s", seconds.format(quantile(load.took, 0.5)),
		seconds.format(quantile(load.took, 1)), answers, first.failed+load.failed, seconds.format(enrolled.Seconds()))
	if load.first != nil {
		note += " (" + load.first.Error() + ")"
	}
	what := fmt.Sprintf("`ingot attest serve`, %d hosts, evidence every %s for %s, hosts and server on this machine: time of an answer, p99", len(hosts), stormInterval, stormFor)
	r.add(measure{attest: true, what: what, series: series{values: []float64{quantile(load.took, 0.99)}, memory: after.memory}, limit: stormLimit, note: note})
	r.add(measure{attest: true, what: "of that: processor time of the server for one answer", series: one((after.processor - before.processor).Seconds() / float64(answers))})
	r.add(measure{attest: true, what: "of that: bytes that one verdict adds to the server's state", unit: count, series: one(float64(after.state-before.state) / float64(answers))})
	return nil
}

// netboot is what the firmware of a server logs when it boots an image set over
// the network, under Secure Boot.
func netboot(set string) (*simhost.Boot, error) {
	b, err := os.ReadFile(filepath.Join(set, reference.FileName))
	if err != nil {
		return nil, err
	}
	var ref attest.Reference
	if err := json.Unmarshal(b, &ref); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(ref.Paths, func(p attest.Path) bool { return p.Boot == "pxe" && p.SecureBoot })
	if i < 0 {
		return nil, fmt.Errorf("%s: no way to boot over the network", reference.FileName)
	}
	boot, err := simhost.ReadBoot(recordedBoot)
	if err == nil {
		boot, err = boot.Server()
	}
	if err != nil {
		return nil, err
	}
	return boot.Of(ref.Paths[i])
}

// each runs f for all hosts, so many at once, and gives the first error.
func each(hosts []*attested, atOnce int, f func(*attested) error) error {
	work, failed := make(chan *attested), make(chan error, atOnce)
	var wait sync.WaitGroup
	for range atOnce {
		wait.Go(func() {
			for a := range work {
				if err := f(a); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for _, a := range hosts {
		work <- a
	}
	close(work)
	wait.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// run lets every host send evidence once in an interval, the hosts spread over
// it, whether the server keeps up or not.
func (s *storm) run(ctx context.Context, hosts []*attested, interval, whole time.Duration) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	begin := time.Now()
	for i, a := range hosts {
		wait.Go(func() {
			for at := interval * time.Duration(i) / time.Duration(len(hosts)); at < whole; at += interval {
				if sleep(ctx, time.Until(begin.Add(at))) != nil {
					return
				}
				took, err := a.attest()
				mu.Lock()
				if err != nil {
					if s.failed++; s.first == nil {
						s.first = err
					}
				} else {
					s.took = append(s.took, took.Seconds())
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// quantile is the smallest value that a share q of all does not exceed.
func quantile(values []float64, q float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return v[min(len(v)-1, int(q*float64(len(v))))]
}
