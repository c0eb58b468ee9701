package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
)

// servicePort is where the service of examples/hello listens.
const servicePort = 8080

// bootLimit ends a boot that does not come to its service.
const bootLimit = 3 * time.Minute

// stages are the marks on the console that part a boot. The kernel is quiet:
// its own clock, in the first line of init, says when it started.
var stages = []struct {
	what string
	mark *regexp.Regexp
}{
	{"firmware, to the choice of a boot entry", regexp.MustCompile(`BdsDxe: loading Boot`)},
	{"firmware, reading and measuring the UKI", regexp.MustCompile(`BdsDxe: starting Boot`)},
	{"EFI stub and unpacking of the kernel, with their measurements", nil},
	{"kernel, to the first line of init", regexp.MustCompile(`\[ *([0-9.]+)\] ingot: \S+ \S+ on Linux`)},
	{"init and the service, to its first answer", nil},
}

// booted is one boot: how long each stage took, and the whole.
type booted struct {
	total  time.Duration
	stages []time.Duration
}

// benchBoot powers machines on until the service answers: with a TPM, which
// hashes all that boots, and without.
func benchBoot(ctx context.Context, l *lab, r *report) error {
	if _, err := l.base.build(ctx); err != nil {
		return err
	}
	whole, parts, err := bootSeries(ctx, l.base.set, 5, true)
	if err != nil {
		return err
	}
	accel := "QEMU, OVMF, TPM, " + acceleration(ctx)
	r.add(measure{what: "power-on to the service answering HTTP", series: whole, limit: 13, note: accel})
	for i, s := range parts {
		r.add(measure{what: "of that: " + stages[i].what, series: s})
	}
	bare, _, err := bootSeries(ctx, l.base.set, 2, false)
	r.add(measure{what: "power-on to the service answering HTTP, no TPM", series: bare})
	return err
}

func acceleration(ctx context.Context) string {
	if qemu.ProbeKVM(ctx, qemu.AMD64) == nil {
		return "KVM"
	}
	return "TCG (no KVM)"
}

func bootSeries(ctx context.Context, dir string, n int, tpm bool) (whole series, parts []series, err error) {
	set, err := release.Open(dir)
	if err != nil {
		return whole, nil, err
	}
	spec, err := rig.Spec(set)
	if err != nil {
		return whole, nil, err
	}
	parts = make([]series, len(stages))
	for range n {
		b, err := bootOnce(ctx, qemu.Machine{Arch: set.Manifest.Arch, Image: set.Image(), TPM: tpm, Vars: rig.Vars(set, spec)})
		if err != nil {
			return whole, nil, err
		}
		whole.add(cost{wall: b.total})
		for i, d := range b.stages {
			parts[i].add(cost{wall: d})
		}
	}
	return whole, parts, nil
}

// bootOnce powers a machine on, waits for its service, and pulls the plug. The
// stages are empty for an appliance that does not speak as ingot's does.
func bootOnce(ctx context.Context, m qemu.Machine) (booted, error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	clock := &stopwatch{}
	m.Serial, m.Forwards = clock, []qemu.Forward{{Guest: servicePort}}
	vm, err := qemu.Start(ctx, m)
	if err != nil {
		return booted{}, err
	}
	defer vm.Close()
	if err := answer(ctx, "http://"+vm.Forward(servicePort)+"/"); err != nil {
		return booted{}, fmt.Errorf("%w; console: %s", err, lastLines(vm.Console(), 15))
	}
	b := booted{total: time.Since(vm.Started)}
	b.stages = clock.stages(vm.Started, vm.Started.Add(b.total))
	return b, nil
}

// answer asks until something answers. A connection that QEMU's user network
// took before the guest listened never answers, so each is given up soon.
func answer(ctx context.Context, url string) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		resp, err := client.Get(url)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer from %s: %w", url, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stopwatch is a console that notes when each mark came by.
type stopwatch struct {
	mu   sync.Mutex
	text []byte
	at   [8]time.Time // by stage
	boot time.Duration
}

// Write implements io.Writer.
func (s *stopwatch) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, b...)
	for i, st := range stages {
		if st.mark == nil || !s.at[i].IsZero() {
			continue
		}
		if m := st.mark.FindSubmatch(s.text); m != nil {
			s.at[i] = time.Now()
			if len(m) > 1 {
				f, _ := strconv.ParseFloat(string(m[1]), 64) // digits and dots: zero at worst
				s.boot = time.Duration(f * float64(time.Second))
			}
		}
	}
	if n := bytes.LastIndexByte(s.text, '\n'); n > 0 {
		s.text = s.text[n:]
	}
	return len(b), nil
}

// stages are the times between the marks; nil when one is missing.
func (s *stopwatch) stages(start, end time.Time) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, st := range stages {
		if st.mark != nil && s.at[i].IsZero() {
			return nil
		}
	}
	s.at[2] = s.at[3].Add(-s.boot) // the kernel's clock starts when it does
	s.at[4] = end
	var out []time.Duration
	for i := range stages {
		out = append(out, s.at[i].Sub(start))
		start = s.at[i]
	}
	return out
}
