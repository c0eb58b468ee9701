package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/baseline"
	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/agent/supervise"
	"github.com/ingot-os/ingot/internal/appliance"
)

// TestTrialHealth: problems that are only told fail no trial; a service that
// is not ready does, unless it was not ready before.
func TestTrialHealth(t *testing.T) {
	m := testMachine(t, appliance.Service{Name: "web", Command: "/no/such/program"})
	m.problem("machine.yaml has a comment that nobody likes")
	eventually(t, "a look at the service", func() bool { return len(m.Status().Services) == 1 && m.Status().Services[0].Detail != "" })
	m.runChecks(nil, false)
	ok, cause, detail := m.trialHealth()
	if ok || cause != slot.Unhealthy || !strings.Contains(detail, "web") || strings.Contains(detail, "\n") {
		t.Errorf("without a baseline: %t, %s, %q", ok, cause, detail)
	}
	before, err := m.takeBaseline()
	if err != nil || len(before) > slots.MaxBaseline {
		t.Fatalf("%d bytes, %v", len(before), err)
	}
	m.runChecks(before, false)
	if ok, cause, detail := m.trialHealth(); !ok {
		t.Errorf("as ill as before: %s %q", cause, detail)
	}
	var b baseline.State
	if err := json.Unmarshal(before, &b); err != nil {
		t.Fatal(err)
	}
	b.Services, b.IPv6 = []baseline.Service{{Name: "other", Ready: true}}, false
	other, _ := json.Marshal(b)
	m.runChecks(other, false)
	if ok, cause, _ := m.trialHealth(); ok || cause != slot.Unhealthy {
		t.Errorf("the service is new: %t, %s", ok, cause)
	}
	m.runChecks(before, false)
	if ok, cause, detail := m.trialHealth(); !ok {
		t.Errorf("with a baseline again: %s %q", cause, detail)
	}
	m.runChecks([]byte(`{"links":7}`), false)
	if ok, cause, detail := m.trialHealth(); ok || cause != slot.Unhealthy || !strings.Contains(detail, "cannot be read") {
		t.Errorf("an unreadable baseline is compared: %t, %s %q", ok, cause, detail)
	}
}

// TestTrialLacksNothing: a machine with no service at all is healthy once it has
// got so far, and not before.
func TestTrialLacksNothing(t *testing.T) {
	early := &Machine{log: newLog()}
	if ok, _, detail := early.trialHealth(); ok || detail != listener.NotStarted {
		t.Errorf("before services: %t, %q", ok, detail)
	}
	m := testMachine(t)
	if ok, cause, detail := m.trialHealth(); !ok {
		t.Errorf("no services: %s %q", cause, detail)
	}
	m.spec.Epoch = time.Now().Add(24 * time.Hour).Unix()
	if ok, cause, _ := m.trialHealth(); ok || cause != slot.ClockWrong {
		t.Errorf("an image from tomorrow: %t, %s", ok, cause)
	}
}

// TestAlive: each loop that stands still stops the feeding, a disk that does not
// answer does not.
func TestAlive(t *testing.T) {
	m := testMachine(t, appliance.Service{Name: "web", Env: env("sleep")})
	m.judged, m.dog.since = make(chan struct{}), uptime()
	if why := m.alive(); why != "" {
		t.Fatalf("a machine that boots: %s", why)
	}
	m.dog.since -= m.judgeLimit() + time.Second
	if why := m.alive(); why != "the boot stands still" {
		t.Errorf("a boot that is not judged in time: %q", why)
	}
	close(m.judged)
	if why := m.alive(); why != "" {
		t.Fatalf("a machine that runs: %s", why)
	}
	m.runChecks(nil, false)
	if why := m.alive(); why != "" {
		t.Errorf("a trial that began: %s", why)
	}
	m.trial.mu.Lock()
	m.trial.lookedAt -= time.Hour
	m.trial.mu.Unlock()
	if why := m.alive(); !strings.Contains(why, "health") {
		t.Errorf("nobody looks at the trial: %q", why)
	}
	if err := m.endTrial(); err != nil {
		t.Fatal(err)
	}
	if why := m.alive(); why != "" {
		t.Errorf("after the bless: %s", why)
	}
	m.super.mu.Lock() // a dead lock: the supervisor's loop ends up here
	m.super.send(supervise.Event{Kind: supervise.Tick})
	answered := make(chan struct{})
	go func() { m.alive(); m.alive(); close(answered) }() // the first may still be answered
	select {
	case <-answered:
		t.Error("a supervisor that stands still has answered")
	case <-time.After(100 * time.Millisecond):
	}
	m.super.mu.Unlock()
	<-answered
}

// TestStopIsFed: the end of a machine may take as long as its services, no longer.
func TestStopIsFed(t *testing.T) {
	m := testMachine(t)
	m.stopping = true
	if why := m.alive(); why != "" {
		t.Errorf("at first: %s", why)
	}
	m.trial.stopAt -= time.Hour
	if why := m.alive(); !strings.Contains(why, "does not stop") {
		t.Errorf("an hour later: %q", why)
	}
}

// TestSchema: the format of the data that services may write (P24).
func TestSchema(t *testing.T) {
	m := testMachine(t)
	m.runtime = t.TempDir()
	file := m.place(schemaFile)
	m.writeSchema()
	if exists(file) {
		t.Error("an image without data.schema names one")
	}
	m.spec.Data.Schema = 12
	said := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(file); err != nil || string(b) != want {
			t.Errorf("got %q, %v; want %q", b, err, want)
		}
	}
	m.writeSchema()
	said("12\n")
	m.keeper = slots.New(slots.Options{}) // nothing is good: format 0
	m.runChecks(nil, true)
	m.writeSchema()
	said("0\n")
	if err := m.migrate(); err != nil {
		t.Fatal(err)
	}
	said("12\n")
}

// TestUncovered: a machine that does not notice hangs says so where one asks why.
func TestUncovered(t *testing.T) {
	m := testMachine(t)
	for _, c := range []struct {
		w    *listener.Watchdog
		want string
	}{
		{nil, ""}, {&listener.Watchdog{State: "armed"}, ""},
		{&listener.Watchdog{State: "absent"}, "no hardware watchdog"},
		{&listener.Watchdog{State: "armed", Software: true}, "no hardware watchdog"},
		{&listener.Watchdog{State: "failed", Error: "EBUSY"}, "not covered: EBUSY"},
	} {
		m.update(func(s *listener.Status) { s.Watchdog = c.w })
		if got := strings.Join(m.uncovered(), ""); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%+v: %q", c.w, got)
		}
	}
}

// TestCorruptRoot: a partition without a superblock is a root that differs, not a
// machine that has no root.
func TestCorruptRoot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "root")
	if err := os.WriteFile(file, make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	v := disk.Verity{Device: file, RootHash: strings.Repeat("00", 32)}
	_, err := v.Open()
	if err == nil || !isCorrupt(v, err) {
		t.Errorf("zeros: %v", err)
	}
	v.Device = file + ".none"
	if _, err := v.Open(); err == nil || isCorrupt(v, err) {
		t.Errorf("no partition: %v", err)
	}
}
