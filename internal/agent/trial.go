package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/baseline"
	"github.com/ingot-os/ingot/internal/agent/slots"
)

// trial is what this boot knows of a version that is to prove itself.
type trial struct {
	running slot.Slot // set before any service; None from RAM or the ESP

	mu       sync.Mutex
	begun    bool            // this boot is a trial, or was one
	on       bool            // from RunChecks to StopWatchdog
	deferred bool            // the data's format must not change yet
	before   *baseline.State // nil: nothing is known, and nothing is compared
	unread   error           // of a baseline that is there
	last     *baseline.State // at the look before
	lookedAt time.Duration
	stopAt   time.Duration // uptime at which a stop of the machine was first seen
}

// trialHooks are what a trial needs of this machine: watchdog, evidence, health
// and the baseline that it is compared with.
func (m *Machine) trialHooks() slots.Hooks {
	m.mu.Lock()
	m.trial.running = letter(m.status.Boot.Slot)
	m.mu.Unlock()
	return slots.Hooks{
		Evidence: m.evidenceFound, EraseEvidence: m.eraseEvidence, KeepEvidence: m.storeEvidence, HasLog: m.found.log.Load,
		StartWatchdog: m.startTrial, StopWatchdog: m.endTrial,
		Baseline: m.takeBaseline, RunChecks: m.runChecks, Health: m.trialHealth, Migrate: m.migrate, Notes: m.uncovered,
	}
}

func letter(s string) slot.Slot {
	if s == "a" || s == "b" {
		return slot.Slot(s[0])
	}
	return slot.None
}

// beginJudging covers the part of a boot in which nobody knows yet whether it is a
// trial. It is for images that take updates.
func (m *Machine) beginJudging() {
	if m.spec.Update == nil {
		return
	}
	m.watchKernel()
	m.spawn("watchdog", m.armWatchdog)
}

// endJudging lets the kernel of a good slot have its slow disk again.
func (m *Machine) endJudging() {
	m.trial.mu.Lock()
	begun := m.trial.begun
	m.trial.mu.Unlock()
	if !begun {
		m.unwatchKernel()
	}
}

func (m *Machine) watchKernel() {
	if err := m.hangs.begin(); err != nil {
		m.log.Printf("watch the kernel: %v", err)
	}
}

func (m *Machine) unwatchKernel() {
	if err := m.hangs.end(); err != nil {
		m.log.Printf("stop watching the kernel: %v", err)
	}
}

// startTrial is the first thing that a version on trial does.
func (m *Machine) startTrial() error {
	m.trial.mu.Lock()
	m.trial.begun = true
	m.trial.mu.Unlock()
	m.watchKernel()
	m.armWatchdog()
	return nil // without a watchdog the trial goes on; status and why say so
}

// endTrial follows the bless. The watchdog stays armed and is fed while init lives.
func (m *Machine) endTrial() error {
	m.unwatchKernel()
	m.trial.mu.Lock()
	defer m.trial.mu.Unlock()
	m.trial.on = false
	return nil
}

// takeBaseline is how this machine is, for the next version to be compared with.
func (m *Machine) takeBaseline() (json.RawMessage, error) {
	return json.Marshal(baseline.Look(baseline.System{}, m.Status(), time.Now()))
}

// runChecks begins the trial: from now on trialHealth is asked.
func (m *Machine) runChecks(kept json.RawMessage, deferred bool) {
	var before *baseline.State
	var err error
	if kept != nil {
		before = new(baseline.State)
		if err = json.Unmarshal(kept, before); err != nil {
			m.problem("read the baseline of the trial: %v", err)
		}
	}
	t := &m.trial
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on, t.deferred, t.before, t.unread, t.lookedAt = true, deferred, before, err, uptime()
}

// trialHealth looks at the machine once.
func (m *Machine) trialHealth() (ok bool, cause slot.Cause, detail string) {
	now := baseline.Look(baseline.System{}, m.Status(), time.Now())
	t := &m.trial
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unread != nil { // nobody can say what this version has lost
		cause, detail = slot.Unhealthy, "the baseline of the trial cannot be read"
	} else {
		cause, detail = baseline.Compare(t.before, now, baseline.Rules{Built: time.Unix(m.spec.Epoch, 0), Last: t.last, Unattested: m.spec.Attest == nil})
	}
	t.last, t.lookedAt = &now, uptime()
	return cause == slot.NoCause, cause, detail
}

// isLate says that nobody looks at a trial any more.
func (t *trial) isLate(now time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.on && now-t.lookedAt > lookLimit
}

// stopsInTime bounds the end of the machine: it is fed that long, and no longer.
func (t *trial) stopsInTime(super *supervisor, now time.Duration) string {
	limit := stopTime(super)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopAt == 0 {
		t.stopAt = now
	}
	if now-t.stopAt > limit {
		return "the machine does not stop"
	}
	return ""
}

// schemaFile tells services which format of the data they may write.
const schemaFile = "data-schema"

// writeSchema puts that format into its file, before services start and again when
// it may change. A version on trial whose format the one before it cannot read
// has to go on with the older one until it is blessed (P24). The file is written
// in place: the namespaces of services hold it by a bind mount.
func (m *Machine) writeSchema() {
	format := m.spec.Data.Schema
	if format == 0 {
		return
	}
	m.trial.mu.Lock()
	deferred := m.trial.deferred
	m.trial.mu.Unlock()
	if k := m.slots(); deferred && k != nil {
		s := k.State()
		format = int(s.Of(s.Good).Schema)
	}
	if err := putSchema(m.place(schemaFile), format); err != nil {
		m.problem("tell services the format of the data: %v", err)
	}
}

// putSchema never leaves the file empty, as truncating it first would.
func putSchema(file string, format int) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	text := strconv.Itoa(format) + "\n"
	_, err = f.WriteAt([]byte(text), 0)
	return errors.Join(err, f.Truncate(int64(len(text))), f.Close())
}

// migrate allows the new format.
func (m *Machine) migrate() error {
	m.trial.mu.Lock()
	m.trial.deferred = false
	m.trial.mu.Unlock()
	m.writeSchema()
	return nil
}
