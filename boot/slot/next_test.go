package slot

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// onAll runs a test with each of the three actuators.
func onAll(t *testing.T, f func(t *testing.T, m *machine)) {
	for means := range meansEnd {
		t.Run(means.String(), func(t *testing.T) { f(t, newMachine(t, means)) })
	}
}

func TestUpdate(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.update(v2)
		m.want(B, "2.0", Blessed)
		m.power()
		m.want(B, "2.0", Blessed)
		m.give(Event{Kind: Checked, OK: true, Uptime: 2 * time.Hour})
		m.want(B, "2.0", Idle)
		m.update(v3)
		m.want(A, "3.0", Blessed)
		if m.state.Generation != 2 {
			t.Errorf("generation %d after two updates", m.state.Generation)
		}
	})
}

// Every cause class ends on the good slot, with its name, and without help.
func TestFailures(t *testing.T) {
	tests := []struct {
		cause Cause
		tries int // trials until the version is rejected
		boots int // at most, from the reset into the trial to the good slot
	}{
		{Panic, 3, 2}, {Hang, 3, 2}, {InitExit, 3, 2}, {Unhealthy, 3, 2},
		{CorruptPE, 1, 2}, {WrongSignature, 1, 2}, {CorruptRoot, 1, 2},
		{NetworkDead, 3, 2}, {DataFull, 3, 2}, {ClockWrong, 3, 2},
		{LostBeforeInit, 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.cause.String(), func(t *testing.T) {
			onAll(t, func(t *testing.T, m *machine) {
				m.behave["2.0"] = tt.cause
				m.update(v2)
				cause := tt.cause
				if m.means != Firmware && cause == WrongSignature {
					cause = CorruptPE // kexec and HTTP only know that it did not load
				}
				if m.running != A || m.state.Cause != cause || m.state.Culprit != B {
					t.Fatalf("running %s after %v, cause %s of %s", m.running, m.chain, m.state.Cause, m.state.Culprit)
				}
				if n := count(m.chain, "selector"); len(m.chain)-n > tt.boots {
					t.Errorf("%d boots: %v", len(m.chain), m.chain)
				}
				m.rest()
				m.want(A, "1.0", Rejected)
				if n := count(m.log, "reset"); m.means == Firmware && count(m.log, "set-next slot b") != tt.tries {
					t.Errorf("%d trials, %d resets: %v", count(m.log, "set-next slot b"), n, m.log)
				}
				m.stage(v2)
				m.want(A, "1.0", Rejected)
				if !strings.Contains(m.state.Notice, "an operator can override") {
					t.Errorf("notice %q", m.state.Notice)
				}
				m.give(Event{Kind: Override, Release: Content{Version: "2.0"}})
				delete(m.behave, "2.0")
				m.update(v2)
				m.want(B, "2.0", Blessed)
			})
		})
	}
}

func count(list []string, s string) (n int) {
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

func TestBlessAttested(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.rules.Attested = true
		m.behave["2.0"] = NotAttested
		m.update(v2)
		if m.running != A || m.state.Cause != NotAttested || m.state.Detail != "image.unknown" {
			t.Errorf("running %s, cause %s %q", m.running, m.state.Cause, m.state.Detail)
		}
		m.rest()
		m.want(A, "1.0", Rejected)
		m.offline = true
		m.update(v3)
		if m.running != A || m.state.Cause != NotAttested {
			t.Errorf("without a verdict: running %s, cause %s", m.running, m.state.Cause)
		}
		m.offline = false
		m.give(Event{Kind: Approve})
		m.power()
		m.want(B, "3.0", Blessed)
	})
}

// A healthy boot of a blessed slot writes nothing, however it ends (rauc#490).
func TestHealthyBootWritesNothing(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.update(v2)
		before := m.state.Record
		m.journalWrites, m.varWrites = 0, 0
		for range 50 {
			m.power()
			m.want(B, "2.0", Blessed)
			m.give(Event{Kind: Checked, OK: true, Uptime: time.Minute})
		}
		if m.journalWrites != 0 || m.varWrites != 0 {
			t.Errorf("50 boots wrote the journal %d times, variables %d times", m.journalWrites, m.varWrites)
		}
		if d := cmp.Diff(before, m.state.Record); d != "" {
			t.Error(d)
		}
	})
}

// Order of an update's writes: what a trial is compared with, the journal, then a
// variable.
func TestJournalFirst(t *testing.T) {
	m := newMachine(t, Firmware)
	m.update(v2)
	want := []string{
		"write-journal", "fill slot b", "write-journal", // STAGING, STAGED
		"keep-baseline slot b", "write-journal", "set-next slot b", "take-lock", "reset", // ARMED
		"start-watchdog", "write-journal", "run-checks", // TRYING
		"write-journal", "set-default slot b", "stop-watchdog", "release-lock", "report", // BLESSED
	}
	if d := cmp.Diff(want, m.log); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if m.varWrites != 2 {
		t.Errorf("%d variable writes for an update, want 2", m.varWrites)
	}
}

func TestFloor(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		soak := func() { m.give(Event{Kind: Checked, OK: true, Uptime: 2 * time.Hour}) }
		m.update(v3)
		if m.state.Floor != 0 {
			t.Errorf("floor %d right after the bless", m.state.Floor)
		}
		soak()
		if m.state.Floor != 1 || m.counter != 1 {
			t.Errorf("floor %d, counter %d, want 1: the fallback has epoch 1", m.state.Floor, m.counter)
		}
		v4 := Content{Version: "4.0", Image: Digest{4}, Epoch: 5}
		m.update(v4)
		soak()
		if m.state.Floor != 3 || m.counter != 3 {
			t.Errorf("floor %d, counter %d, want 3", m.state.Floor, m.counter)
		}
		m.stage(v2)
		if m.state.Phase != Idle || !strings.Contains(m.state.Notice, "below the floor 3") {
			t.Errorf("epoch 2 staged: %s %q", m.state.Phase, m.state.Notice)
		}
		m.counter = 4 // raised elsewhere: this disk came from another machine
		m.power()
		m.give(Event{Kind: Rollback})
		if m.state.Good != A || !strings.Contains(m.state.Notice, "floor is 4") {
			t.Errorf("rolled back below the floor: %q", m.state.Notice)
		}
	})
}

func TestRollbackIsSticky(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.update(v2)
		m.give(Event{Kind: Rollback})
		m.power()
		m.want(A, "1.0", RolledBack)
		m.stage(v2)
		m.want(A, "1.0", RolledBack)
		m.update(v3)
		m.want(B, "3.0", Blessed)
		m.stage(v2)
		m.want(B, "3.0", Blessed)
		m.give(Event{Kind: Override, Release: v2})
		m.update(v2)
		m.want(A, "2.0", Blessed)
	})
}

// TestOverrideAfterRollback: the operator who went back may go forward again, at
// once, although the journal itself still says what was left.
func TestOverrideAfterRollback(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.update(v2)
		m.give(Event{Kind: Rollback})
		m.power()
		m.give(Event{Kind: Override, Release: v2})
		m.power() // it is not rejected again by what the journal says
		if m.state.IsRejected(v2) || len(m.state.Rejections) != 0 {
			t.Errorf("still rejected: %v", m.state.Rejections)
		}
		m.update(v2)
		m.want(B, "2.0", Blessed)
		m.give(Event{Kind: Override, Release: v2})
		if !strings.Contains(m.state.Notice, "is not rejected") {
			t.Errorf("twice: %q", m.state.Notice)
		}
	})
}

// P24: data of a newer format is not written before the bless, and keeps the
// machine from going back to a version that cannot read it.
func TestDataFormat(t *testing.T) {
	m := newMachine(t, Firmware)
	c := v2
	c.Schema, c.Accepts = 1, 1
	m.update(c)
	m.want(B, "2.0", Blessed)
	if at := slices.Index(m.log, "migrate"); at < slices.Index(m.log, "set-default slot b") {
		t.Errorf("migration at %d of %v", at, m.log)
	}
	m.give(Event{Kind: Rollback})
	if m.state.Good != B || !strings.Contains(m.state.Notice, "format") {
		t.Errorf("rolled back to a version that cannot read the data: %q", m.state.Notice)
	}
}

func TestPowerCutInTrial(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.stage(v2)
		for i := range 5 {
			tries := m.state.TriesLeft
			m.give(Event{Kind: Approve})
			m.reset, m.launch = false, None
			m.behave["2.0"] = Hang // no bless: power goes in the trial
			m.start()
			m.evidence = nil // and leaves no trace
			m.power()
			if m.running != A || m.state.Phase != Failed || m.state.Cause != PowerCut || m.state.TriesLeft != tries {
				t.Fatalf("cut %d: %s %s %s, %d tries of %d", i, m.running, m.state.Phase, m.state.Cause, m.state.TriesLeft, tries)
			}
		}
		delete(m.behave, "2.0")
		m.give(Event{Kind: Approve})
		m.power()
		m.want(B, "2.0", Blessed)
	})
}

func TestCrashLoop(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.update(v2)
		for i := range 3 {
			m.evidence = []Evidence{{Cause: Panic, ID: uint64(i + 1)}}
			m.power()
			m.want(B, "2.0", Blessed)
			m.evidence = []Evidence{{Cause: Panic, ID: uint64(i + 1)}} // could not be erased
			m.power()
		}
		if m.state.Failures != 3 {
			t.Fatalf("%d failures counted, want 3", m.state.Failures)
		}
		m.evidence = []Evidence{{Cause: Hang}}
		m.power()
		m.want(A, "1.0", CrashLoop)
		m.stage(v2)
		m.want(A, "1.0", CrashLoop)
		for range 6 { // no way back: 2.0 is rejected
			m.evidence = []Evidence{{Cause: Hang}}
			m.power()
			m.want(A, "1.0", CrashLoop)
		}
		m.update(v3)
		m.want(B, "3.0", Blessed)
	})
}

func TestSoakForgivesFailures(t *testing.T) {
	m := newMachine(t, Firmware)
	m.update(v2)
	m.evidence = []Evidence{{Cause: Panic, ID: 1}}
	m.power()
	m.give(Event{Kind: Checked, OK: true, Uptime: time.Minute})
	if m.state.Failures != 1 {
		t.Errorf("%d failures after a minute", m.state.Failures)
	}
	m.give(Event{Kind: Checked, OK: true, Uptime: 3 * time.Hour})
	if m.state.Failures != 0 {
		t.Errorf("%d failures after three hours", m.state.Failures)
	}
}

// A TPM that refuses the floor does not keep the failures: four panics in four
// months are no crash loop. The floor waits for the next boot.
func TestRefusedFloorForgivesFailures(t *testing.T) {
	m := newMachine(t, Firmware)
	m.update(v2)
	m.update(v3)
	m.evidence = []Evidence{{Cause: Panic, ID: 1}}
	m.power()
	m.sealed = errors.New("no key is sealed for it")
	m.give(Event{Kind: Checked, OK: true, Uptime: 2 * time.Hour})
	if r := m.says(); r.Failures != 0 || r.Phase != Blessed || r.Floor != 0 {
		t.Errorf("%d failures, %s, floor %d", r.Failures, r.Phase, r.Floor)
	}
	m.sealed = nil
	m.power()
	m.give(Event{Kind: Checked, OK: true, Uptime: 2 * time.Hour})
	if r := m.says(); r.Phase != Idle || r.Floor != 2 || m.counter != 2 {
		t.Errorf("%s, floor %d, counter %d", r.Phase, r.Floor, m.counter)
	}
}

func TestPollutedBoot(t *testing.T) {
	m := newMachine(t, Firmware)
	m.polluted = true
	m.power() // resets once, then lives with it
	m.want(A, "1.0", Idle)
	if n := len(m.chain); n != 2 || count(m.log, "reset") != 1 {
		t.Errorf("boots %v", m.chain)
	}
	m.power()
	if n := len(m.chain); n != 3 {
		t.Errorf("a second polluted boot resets again: %v", m.chain)
	}
	m.polluted = false
	m.power()
	if m.state.Guarded {
		t.Error("the guard stays after a clean boot")
	}
}

// S7: the candidate returned to the firmware, which went on to the good slot.
func TestReturned(t *testing.T) {
	m := newMachine(t, Firmware)
	m.stage(v2)
	m.give(Event{Kind: Approve})
	m.vars.next, m.polluted, m.reset = None, true, false
	m.start()
	m.polluted = false
	m.power()
	m.want(A, "1.0", Failed)
	if m.state.Cause != Returned {
		t.Errorf("cause %s", m.state.Cause)
	}
}

func TestLockRefused(t *testing.T) {
	m := newMachine(t, Firmware)
	m.locked = true
	m.stage(v2)
	m.give(Event{Kind: Approve})
	m.want(A, "1.0", Staged)
	if m.vars.next != None || m.reset || m.state.Arms != 0 {
		t.Errorf("next %s, reset %v, arms %d", m.vars.next, m.reset, m.state.Arms)
	}
	m.locked = false
	m.give(Event{Kind: Approve})
	m.power()
	m.want(B, "2.0", Blessed)
}
