// Package smoke judges a booting machine by the smoke tests of its recipe: it
// waits until the appliance says that it is healthy, asks each test's HTTP port
// or runs its command on the machine, and gives one verdict.
//
// Run never fails: what goes wrong is in the verdict, with the last lines of
// the console when the machine did not come up.
//
//	vm, err := qemu.Start(ctx, machine)
//	verdict := smoke.Run(ctx, vm, spec.Smoke)
package smoke

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/qemu"
)

// Verdict is the result of ingot test; its JSON is stable, fields are only added.
type Verdict struct {
	OK      bool     `json:"ok"`
	Error   string   `json:"error,omitempty"` // why the machine as a whole is not ok
	Name    string   `json:"name,omitempty"`  // of the appliance, as it said itself
	Version string   `json:"version,omitempty"`
	Machine Machine  `json:"machine"`
	Boot    Boot     `json:"boot"`
	Tests   []Result `json:"tests"` // in the recipe's order; those not reached are missing
}

// Machine is what the verdict was found on.
type Machine struct {
	Arch     string `json:"arch"`
	Firmware string `json:"firmware"` // path of the firmware's code
	Accel    string `json:"accel"`    // kvm or tcg
	TPM      bool   `json:"tpm"`
	Bus      string `json:"bus"`    // how the disk is attached
	Sector   int    `json:"sector"` // logical sector size of the disk in bytes
}

// Boot is how long the way up took, in seconds since power-on.
type Boot struct {
	Healthy float64 `json:"healthy,omitempty"` // all services ready
	HTTP    float64 `json:"http,omitempty"`    // first answer on the first HTTP test's port
}

// Result is one smoke test.
type Result struct {
	Name         string `json:"name"`
	OK           bool   `json:"ok"`
	Error        string `json:"error,omitempty"`
	Milliseconds int64  `json:"milliseconds"`
	Observed     string `json:"observed,omitempty"` // what came back, cut to some hundred bytes
}

// guest is what a verdict needs of a machine; *qemu.VM is one.
type guest interface {
	WaitLine(ctx context.Context, re *regexp.Regexp) (string, error)
	WaitEvent(ctx context.Context, name string) (qemu.Event, error)
	Forward(port int) string
	Smoke(ctx context.Context, r qemu.SmokeRequest) (qemu.SmokeAnswer, error)
}

// defaultTimeout is a test's limit when the recipe gives none.
const defaultTimeout = 30 * time.Second

// Run judges vm, which has just been started. ctx bounds all of it: its end
// makes the verdict negative.
func Run(ctx context.Context, vm *qemu.VM, tests []appliance.Smoke) Verdict {
	v := judge(ctx, vm, vm.Started, tests)
	v.Machine = Machine{Arch: vm.Machine.Arch, Firmware: vm.Firmware.Code, Accel: vm.Machine.Accel,
		TPM: vm.Machine.TPM, Bus: vm.Machine.DiskBus, Sector: vm.Machine.SectorSize}
	return v
}

func judge(ctx context.Context, g guest, start time.Time, tests []appliance.Smoke) Verdict {
	v := Verdict{Tests: []Result{}}
	ctx, cancel := watch(ctx, g)
	defer cancel(nil)
	answered := firstAnswer(ctx, g, start, tests)
	if err := v.up(ctx, g, start); err != nil {
		v.Error = err.Error()
		return v
	}
	failed, passed := 0, 0.0
	for _, t := range tests {
		r := one(ctx, g, t)
		if !r.OK {
			failed++
		} else if t.HTTP != nil && passed == 0 {
			passed = seconds(time.Since(start))
		}
		v.Tests = append(v.Tests, r)
	}
	if failed > 0 {
		v.Error = fmt.Sprintf("%d of %d smoke tests did not pass", failed, len(tests))
	}
	cancel(nil) // a port that never answered is not waited for
	v.Boot.HTTP = cmp.Or(<-answered, passed)
	v.OK = failed == 0
	return v
}

// marker is the line that ingot-init writes when all services are ready.
var marker = regexp.MustCompile(`\bingot: (\S+) (\S+) healthy after `)

func (v *Verdict) up(ctx context.Context, g guest, start time.Time) error {
	line, err := g.WaitLine(ctx, marker)
	if err != nil {
		return fmt.Errorf("the machine did not say that it is healthy: %w", err)
	}
	v.Boot.Healthy = seconds(time.Since(start))
	m := marker.FindStringSubmatch(line)
	v.Name, v.Version = m[1], m[2]
	return nil
}

var errPanicked = errors.New("the guest's kernel panicked")

// watch ends the context as soon as the guest's kernel panics: nothing that
// could be waited for comes after that.
func watch(ctx context.Context, g guest) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		if _, err := g.WaitEvent(ctx, qemu.EventPanicked); err == nil {
			cancel(errPanicked)
		}
	}()
	return ctx, cancel
}

// one runs one test within its own limit.
func one(ctx context.Context, g guest, t appliance.Smoke) Result {
	begin := time.Now()
	limit := t.Timeout.Or(defaultTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no success within %v", limit))
	defer cancel()
	r := Result{Name: t.Name}
	var err error
	switch {
	case t.HTTP != nil:
		r.Observed, err = expectHTTP(ctx, g.Forward(t.HTTP.Port), *t.HTTP)
	case len(t.Command) > 0:
		r.Observed, err = expectCommand(ctx, g, t)
	default:
		err = errors.New("the test has neither http nor command")
	}
	r.Milliseconds = time.Since(begin).Milliseconds()
	if r.OK = err == nil; !r.OK {
		r.Error = err.Error()
	}
	return r
}

// expectCommand asks the machine once: a command may have effects.
func expectCommand(ctx context.Context, g guest, t appliance.Smoke) (observed string, err error) {
	a, err := g.Smoke(ctx, qemu.SmokeRequest{Name: t.Name})
	if err != nil {
		return "", err
	}
	observed = cut(a.Output)
	switch {
	case a.Error != "":
		return observed, errors.New(a.Error)
	case a.Exit != 0:
		return observed, fmt.Errorf("exit code %d", a.Exit)
	case !strings.Contains(a.Output, t.Output):
		return observed, fmt.Errorf("output does not contain %q", t.Output)
	}
	return observed, nil
}

// maxObserved bounds Result.Observed in bytes.
const maxObserved = 400

func cut(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxObserved {
		s = strings.ToValidUTF8(s[:maxObserved], "") + " ..."
	}
	return s
}

// seconds rounds to milliseconds: more digits than that are noise.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
