package qemu

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// PowerGrace is how long PowerDown waits for the guest before it ends it.
const PowerGrace = 20 * time.Second

// pressAgain is the pause between two presses of the power button: firmware
// and a kernel that is still starting do not notice one.
const pressAgain = 5 * time.Second

// ErrForced says that the guest did not power off and was ended.
var ErrForced = errors.New("guest did not power off and was ended")

// Exit is how a machine ended.
type Exit struct {
	// Reason is QEMU's: "guest-shutdown", "guest-reset" (with NoReboot),
	// "host-qmp-quit", "guest-panic"; "closed" after Close; "died" otherwise.
	Reason string
	Guest  bool // the guest asked for it
}

// WaitLine waits for a complete console line that matches and returns it.
// Lines since power-on count. When ctx ends or the machine does, the error
// shows the last lines of the console.
func (v *VM) WaitLine(ctx context.Context, re *regexp.Regexp) (string, error) {
	line, _, err := v.WaitLineFrom(ctx, 0, re)
	return line, err
}

// WaitLineFrom is WaitLine for lines at or after a position; it returns the
// position after the line. Use it to wait for the second of two boots.
func (v *VM) WaitLineFrom(ctx context.Context, from Position, re *regexp.Regexp) (string, Position, error) {
	for {
		line, next, ok, over, changed := v.console.find(from, re)
		if ok {
			return line, next, nil
		}
		if over {
			return "", next, fmt.Errorf("wait for console line %q: %w; %s", re, v.ended(), v.console.last(15))
		}
		from = next
		select {
		case <-changed:
		case <-ctx.Done():
			return "", next, fmt.Errorf("wait for console line %q: %w; %s", re, context.Cause(ctx), v.console.last(15))
		}
	}
}

// Position returns the end of the console as it is now.
func (v *VM) Position() Position { return v.console.position() }

// Console returns the last lines of the console (at most 4096), cleaned of
// control sequences.
func (v *VM) Console() string { return v.console.text() }

// Events returns what QEMU has reported, the last 256 events, oldest first.
func (v *VM) Events() []Event {
	events, _, _ := v.qmp.snapshot()
	return events
}

// WaitEvent waits until an event of that name has been reported.
func (v *VM) WaitEvent(ctx context.Context, name string) (Event, error) {
	for {
		events, changed, err := v.qmp.snapshot()
		for _, e := range events {
			if e.Name == name {
				return e, nil
			}
		}
		if err != nil {
			return Event{}, fmt.Errorf("wait for event %s: %w", name, v.ended())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("wait for event %s: %w", name, context.Cause(ctx))
		}
	}
}

// Panicked says whether the guest's kernel has reported a panic (pvpanic).
func (v *VM) Panicked() bool {
	for _, e := range v.Events() {
		if e.Name == EventPanicked {
			return true
		}
	}
	return false
}

// Status returns QEMU's state of the machine: "running", "paused", "shutdown" ...
func (v *VM) Status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := v.qmp.call(ctx, "query-status", nil, &s)
	return s.Status, err
}

// Reset presses the reset button.
func (v *VM) Reset(ctx context.Context) error { return v.qmp.call(ctx, "system_reset", nil, nil) }

// PowerDown presses the power button and waits until the guest has powered
// off, at most PowerGrace or until ctx ends; then it ends the machine and
// returns an error that wraps ErrForced. A machine that has ended is no error.
func (v *VM) PowerDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, PowerGrace)
	defer cancel()
	press := time.NewTimer(0)
	defer press.Stop()
	for {
		select {
		case <-v.qemu.done:
			return nil
		case <-press.C:
			err := v.qmp.call(ctx, "system_powerdown", nil, nil)
			if err != nil && !errors.Is(err, errQMPClosed) && ctx.Err() == nil {
				return err
			}
			press.Reset(pressAgain)
		case <-ctx.Done():
			v.quit()
			return fmt.Errorf("power down: %w; %s", ErrForced, v.console.last(5))
		}
	}
}

// quit asks QEMU to end, so that it closes its files in order, and kills it if it does not.
func (v *VM) quit() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if v.qmp.call(ctx, "quit", nil, nil) != nil {
		v.qemu.kill()
	}
	select {
	case <-v.qemu.done:
	case <-ctx.Done():
		v.qemu.kill()
	}
}

// Wait waits until the machine has ended and says how. The error is ctx's, or
// what QEMU said when it died by itself.
func (v *VM) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-v.qemu.done:
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("wait for machine: %w", context.Cause(ctx))
	}
	<-v.drained
	if why, ok := v.lost.Load().(string); ok {
		return Exit{Reason: "died"}, fmt.Errorf("machine ended: %s", why)
	}
	for _, e := range v.Events() {
		if e.Name == EventShutdown {
			guest, _ := e.Data["guest"].(bool)
			reason, _ := e.Data["reason"].(string)
			return Exit{reason, guest}, nil
		}
	}
	if v.qemu.cmd.ProcessState.Success() {
		return Exit{Reason: "closed"}, nil
	}
	return Exit{Reason: "died"}, fmt.Errorf("machine ended: %w: %s", v.qemu.err, v.qemu.tail)
}

// ended is the error of waiting for something from a machine that is gone.
func (v *VM) ended() error {
	<-v.qemu.done
	e, err := v.Wait(context.Background())
	if err != nil {
		return err
	}
	return fmt.Errorf("machine ended (%s)", e.Reason)
}
