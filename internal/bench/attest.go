package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/simhost"
)

// What is measured: a recorded boot under Secure Boot as the firmware of a
// server logs it, and what its image measures by prediction.
const (
	recordedBoot  = "attest/testdata/boot-257-secureboot.json"
	referenceFile = "attest/testdata/reference-257.json"
)

// The targets: processor time in seconds, and allocations.
const (
	verdictLimit     = 150e-6
	allocationsLimit = 300
)

// attestation is the library that also verifies quotes and replays logs.
const attestation = "go-attestation v0.6.1"

// verdicts is how many verdicts are timed together; the clock of a process has
// a resolution of some microseconds.
const verdicts = 400

// benchAttest judges evidence with a log of 34 KB, in turns with the library.
func benchAttest(ctx context.Context, l *lab, r *report) error {
	c, log, err := serverCase()
	if err != nil {
		return err
	}
	text, err := json.Marshal(c.Evidence)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("verdict on a quote (P-256), %.0f KB of log in %d events, policy, two releases: processor time of one core", float64(len(log.Log))/1000, log.Events())
	judge := func() error {
		if v := attest.Verify(c); !v.Trusted {
			return fmt.Errorf("refused: %v", v.Findings)
		}
		return nil
	}
	runs := []func(int) (cost, error){processorTime(judge), processorTime(func() error { _, err := attest.ParseEvidence(text); return err })}
	lib, missing := newLibrary(ctx, l, c)
	if missing == nil {
		runs = append(runs, lib.verify(ctx))
	}
	all, err := inTurns(11, runs...)
	if err != nil {
		return err
	}
	r.add(measure{attest: true, what: what, series: all[0], limit: verdictLimit})
	r.add(measure{attest: true, what: "of that: allocations", unit: count, series: one(allocations(judge)), limit: allocationsLimit})
	r.add(measure{attest: true, what: fmt.Sprintf("before that: reading the evidence, %.0f KB of JSON", float64(len(text))/1000), series: all[1]})
	p := peer{builder: attestation, what: "verify the same quote and replay the same log: processor time, without a policy"}
	if missing != nil {
		p.note = missing.Error()
	} else {
		p.series, p.ours, p.note = all[2], &all[0], fmt.Sprintf("%d allocations", lib.allocations)
	}
	r.addPeer(p)
	return nil
}

// serverCase is a host with keys in software and all that its verdict needs.
func serverCase() (c attest.Case, boot *simhost.Boot, err error) {
	boot, err = simhost.ReadBoot(recordedBoot)
	if err == nil {
		boot, err = boot.Server()
	}
	if err != nil {
		return c, nil, err
	}
	h, err := simhost.New("host", boot)
	if err != nil {
		return c, nil, err
	}
	var now attest.Reference
	b, err := os.ReadFile(referenceFile)
	if err == nil {
		err = json.Unmarshal(b, &now)
	}
	if err != nil {
		return c, nil, err
	}
	before, err := older(now)
	if err != nil {
		return c, nil, err
	}
	c = attest.Case{References: []attest.Reference{before, now}, Record: h.Record(), Now: time.Unix(1, 0),
		Challenge: attest.Challenge{Nonce: []byte("a nonce of the bench"), ServerID: []byte("server"), ChannelKey: []byte("channel")},
		Policy:    attest.Policy{SecureBoot: true, Keys: []attest.Keys{boot.Keys()}}}
	c.Evidence, err = h.Evidence(c.Challenge, pcr.SHA256, attest.DefaultPCRs)
	return c, boot, err
}

// older is a release before, whose kernel is another.
func older(r attest.Reference) (old attest.Reference, err error) {
	b, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(b, &old)
	}
	old.Version += "-before"
	for p := range old.Paths {
		for i, x := range old.Paths[p].Events {
			if x.Name == ".linux" || x.Name == "UKI" {
				for bank, d := range x.Digests {
					old.Paths[p].Events[i].Digests[bank] = bank.Sum(d)
				}
			}
		}
	}
	return old, err
}

// processorTime is the cost of one of many calls, without what other processes
// take of the machine.
func processorTime(f func() error) func(int) (cost, error) {
	return func(int) (cost, error) {
		begin := processor()
		for range verdicts {
			if err := f(); err != nil {
				return cost{}, err
			}
		}
		return cost{wall: (processor() - begin) / verdicts}, nil
	}
}

// processor is the time that this process has used on all cores, its garbage
// collector's too.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func allocations(f func() error) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range verdicts {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / verdicts
}

// library is the program of internal/bench/peers.
type library struct {
	program, file string
	allocations   int64
}

// exported is evidence as that program reads it.
type exported struct {
	ID        string           `json:"id"`
	Evidence  *attest.Evidence `json:"evidence"`
	ExtraData []byte           `json:"extraData"`
}

// newLibrary compiles the program, which downloads the library the first time.
func newLibrary(ctx context.Context, l *lab, c attest.Case) (*library, error) {
	lib := &library{program: filepath.Join(l.dir, "peers"), file: filepath.Join(l.dir, "evidence.json")}
	build := job{dir: "internal/bench/peers", env: []string{"CGO_ENABLED=0"}, args: []string{"go", "build", "-o", lib.program, "."}}
	if _, err := build.do(ctx); err != nil {
		return nil, err
	}
	b, err := json.Marshal([]exported{{"genuine", c.Evidence, c.Challenge.ExtraData()}})
	if err != nil {
		return nil, err
	}
	return lib, os.WriteFile(lib.file, b, 0o644)
}

func (lib *library) verify(ctx context.Context) func(int) (cost, error) {
	return func(int) (cost, error) {
		c, err := job{args: []string{lib.program, "time", lib.file, strconv.Itoa(verdicts)}}.do(ctx)
		if err != nil {
			return c, err
		}
		var took struct{ Nanoseconds, Allocations int64 }
		err = json.Unmarshal([]byte(c.output), &took)
		lib.allocations = took.Allocations
		return cost{wall: time.Duration(took.Nanoseconds)}, err
	}
}

// benchForgeries shows the library the forgeries of package attest's tests.
func benchForgeries(ctx context.Context, l *lab, r *report) error {
	const what = "forged evidence that is accepted"
	c, _, err := serverCase()
	if err != nil {
		return err
	}
	lib, err := newLibrary(ctx, l, c)
	if err != nil {
		r.addPeer(peer{builder: attestation, what: what, note: err.Error()})
		return ctx.Err()
	}
	cases := filepath.Join(l.dir, "cases.json")
	if _, err := (job{args: []string{"go", "test", "-count=1", "-run", "^(TestExportCases|TestRefusals)$", "./attest"}, env: []string{"INGOT_EXPORT_CASES=" + cases}}).do(ctx); err != nil {
		return err
	}
	b, err := os.ReadFile(cases)
	if err != nil {
		return err
	}
	var all []exported
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	judged, err := job{args: []string{lib.program, "judge", cases}}.do(ctx)
	if err != nil {
		return err
	}
	accepted := strings.Split(strings.TrimSpace(judged.output), "\n")
	if accepted[0] != "genuine" {
		return fmt.Errorf("%s refuses the genuine boot", attestation)
	}
	ours := one(0) // TestRefusals has just passed
	r.addPeer(peer{builder: attestation, what: fmt.Sprintf("%s, of %d cases: the library knows no release, no host and no policy", what, len(all)-1),
		unit: count, series: one(float64(len(accepted) - 1)), ours: &ours})
	return nil
}
