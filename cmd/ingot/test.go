package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/smoke"
	"github.com/ingot-os/ingot/internal/ui"
)

type testCmd struct {
	vmFlags
	Timeout appliance.Duration `default:"3m" help:"Time for boot and tests together (default ${default})." placeholder:"D"`
	Console bool               `help:"Show the machine's console on standard error."`
}

// verdict is the result of ingot test.
type verdict struct {
	smoke.Verdict
	Status   json.RawMessage `json:"status,omitempty"` // what the machine says of itself: /v1/status
	PowerOff string          `json:"powerOff"`         // "orderly", or why not
}

// Run boots the image set, runs its smoke tests, powers it off and prints the
// verdict: as a table on a terminal, else as JSON.
func (c *testCmd) Run(v *verb) error {
	m, spec, err := c.machine()
	if err != nil {
		return err
	}
	if c.Console {
		m.Serial = v.env.Stderr
	}
	ctx, cancel := context.WithTimeout(v.ctx, c.Timeout.Or(0))
	defer cancel()
	vm, err := qemu.Start(ctx, m)
	if err != nil {
		return err
	}
	defer vm.Close()
	watch := c.watchRefusal(ctx, vm)
	result := c.judge(ctx, vm, spec)
	refused := refusal(watch)
	if refused != nil {
		result.Error, result.PowerOff = refused.Error(), "the machine did not start"
	}
	if err := c.conclude(v, result); refused == nil {
		return err
	}
	return refused // with its hint
}

// conclude prints the verdict and makes it the exit code. After an interruption
// there is none: nothing was found out about the machine.
func (c *testCmd) conclude(v *verb, result verdict) (err error) {
	if v.ctx.Err() != nil {
		return v.ctx.Err()
	}
	if v.ui.JSON || !v.ui.Terminal && !c.Console {
		err = v.ui.PrintJSON(result)
	} else {
		err = printVerdict(v, result)
	}
	if err == nil && !result.OK {
		return ui.Exit(ui.CodeRefused)
	}
	return err
}

func (c *testCmd) judge(ctx context.Context, vm *qemu.VM, spec *appliance.Spec) verdict {
	result := verdict{Verdict: smoke.Run(ctx, vm, spec.Smoke), PowerOff: "orderly"}
	if result.OK {
		result.Status = machineStatus(ctx, vm.Forward(rig.ManagementPort(spec)))
	}
	if err := vm.PowerDown(ctx); err != nil {
		result.PowerOff = err.Error()
		result.OK = false
	}
	return result
}

// machineStatus asks the machine's own listener; nil when it does not answer.
func machineStatus(ctx context.Context, addr string) json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/status", nil)
	if err != nil || addr == "" {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || !json.Valid(data) {
		return nil
	}
	return data
}

func printVerdict(v *verb, r verdict) error {
	word := map[bool]string{true: "ok", false: "FAILED"}
	rows := [][]string{{"boot", word[r.Error == ""], ui.Duration(seconds(r.Boot.Healthy)), r.Error}}
	for _, t := range r.Tests {
		rows = append(rows, []string{t.Name, word[t.OK], ui.Duration(time.Duration(t.Milliseconds) * time.Millisecond), t.Error + t.Observed})
	}
	rows = append(rows, []string{"power off", word[r.PowerOff == "orderly"], "", r.PowerOff})
	if err := v.ui.Table([]string{"test", "verdict", "time", "observed"}, rows); err != nil {
		return err
	}
	return v.ui.Print("%s", summary(r))
}

func summary(r verdict) string {
	return fmt.Sprintf("%s %s on %s, %s, %s: %s", r.Name, r.Version, r.Machine.Arch, r.Machine.Accel,
		map[bool]string{true: "TPM 2.0", false: "no TPM"}[r.Machine.TPM], map[bool]string{true: "passed", false: "FAILED"}[r.OK])
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
