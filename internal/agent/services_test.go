package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/agent/supervise"
	"github.com/ingot-os/ingot/internal/appliance"
)

// slowMachine has a service that runs and one whose start waits for the disk
// until the gate is closed.
func slowMachine(t *testing.T, slow appliance.Service) (m *Machine, gate chan struct{}) {
	t.Helper()
	m = testMachine(t)
	m.super.shutdown(time.Minute)
	exe := "/proc/self/exe"
	s, err := newSupervisor(m, []appliance.Service{slow, {Name: "quick", Command: exe, Env: env("serve")}})
	if err != nil {
		t.Fatal(err)
	}
	gate = make(chan struct{})
	s.resolve = func(svc appliance.Service) (proc.Command, error) {
		if svc.Name == "slow" {
			<-gate
		}
		return m.resolveLocal(svc)
	}
	m.mu.Lock()
	m.super = s
	m.mu.Unlock()
	go s.run()
	eventually(t, "a start that waits", func() bool { return s.snapshot().Units[0].Phase == supervise.Starting })
	return m, gate
}

// TestSlowStart: a start that waits for the disk is no hang of init, and stops no
// other service from starting.
func TestSlowStart(t *testing.T) {
	for name, slow := range map[string]appliance.Service{
		"plain":      {Name: "slow", Command: "/proc/self/exe", Env: env("serve")},
		"with state": {Name: "slow", Command: "/proc/self/exe", Env: env("serve"), StateDirectory: "slow"},
	} {
		t.Run(name, func(t *testing.T) {
			m, gate := slowMachine(t, slow)
			m.judged = make(chan struct{})
			close(m.judged)
			eventually(t, "the other service", func() bool { return m.super.snapshot().Ready(1) })
			if why := m.alive(); why != "" {
				t.Errorf("while a start waits: %s", why)
			}
			close(gate)
			eventually(t, "the slow service", func() bool { return m.super.snapshot().Ready(0) })
			m.super.shutdown(time.Minute)
			if log := logText(m); !strings.Contains(log, "service slow stopped: killed by signal 15") {
				t.Error(log)
			}
		})
	}
}

// TestStopDuringAStart: a machine that stops waits for a start under way, and
// nothing runs when it has stopped.
func TestStopDuringAStart(t *testing.T) {
	m, gate := slowMachine(t, appliance.Service{Name: "slow", Command: "/proc/self/exe", Env: env("serve")})
	go func() {
		eventually(t, "the stop", func() bool { return m.super.snapshot().Stopping })
		close(gate)
	}()
	m.super.shutdown(time.Minute)
	if s := m.super.snapshot(); !s.Halted || s.Units[0].Phase != supervise.Stopped {
		t.Errorf("%+v", s)
	}
	if log := logText(m); strings.Contains(log, "service slow started") || !strings.Contains(log, "service quick stopped") {
		t.Error(log)
	}
	// One that was past the look at it: the process that comes is asked to end.
	p, err := supervise.New([]supervise.Unit{{Name: "x", StopTimeout: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := p.Step(p.Initial(), supervise.Event{}, 0)
	s, _ = p.Step(s, supervise.Event{Kind: supervise.Shutdown}, 0)
	s, do := p.Step(s, supervise.Event{Kind: supervise.Started, Run: 1}, 0)
	if s.Halted || len(do) != 1 || do[0].Do != supervise.Term {
		t.Errorf("%v %+v", do, s)
	}
}
