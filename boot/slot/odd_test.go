package slot

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// P22: no journal is made up, until an operator speaks.
func TestLostJournal(t *testing.T) {
	m := newMachine(t, Firmware)
	m.lost = true
	m.power()
	if m.journalWrites != 0 || !m.state.Unjournalled || !strings.Contains(m.state.Notice, "adopt") {
		t.Fatalf("%d writes, %q", m.journalWrites, m.state.Notice)
	}
	m.stage(v2)
	if !strings.Contains(m.state.Notice, "refused") || m.journalWrites != 0 {
		t.Errorf("staged: %q", m.state.Notice)
	}
	m.give(Event{Kind: Rollback})
	if m.journalWrites != 0 {
		t.Error("rolled back")
	}
	m.give(Event{Kind: Adopt})
	m.update(v2)
	m.want(B, "2.0", Blessed)
}

// Firmware that keeps its variables and still comes back to the selector.
func TestFirmwareIgnoresItsEntries(t *testing.T) {
	m := newMachine(t, Firmware)
	m.stray = true
	m.power()
	m.want(A, "1.0", Idle)
	if m.state.Means != Selector || len(m.chain) > 5 {
		t.Errorf("by %s after %v", m.state.Means, m.chain)
	}
	m.update(v2)
	if m.state.Good != B { // its entries name slot a first, so 1.0 may have moved
		m.update(v2)
	}
	if v := m.holds[m.running.index()].Version; v != "2.0" {
		t.Errorf("runs %s", v)
	}
}

// The selector on a machine without journal and with slots that do not load.
func TestNothingLoads(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.update(v2)
		m.broken = [2]bool{true, true}
		m.power()
		if m.running == None || !strings.Contains(strings.Join(m.reports, "\n"), "restored from the network") {
			t.Errorf("%s runs: %v %v", m.running, m.chain, m.reports)
		}
	})
	m := newMachine(t, Firmware)
	m.journal, m.broken = nil, [2]bool{true, true}
	m.behave["1.0"] = CorruptPE
	m.start()
	if m.reset || !m.state.Recovering {
		t.Errorf("goes round: %v", m.log)
	}
	m.holds[0] = v1
	m.broken = [2]bool{}
	m.start() // the variables are right, and still the selector was started
	if m.reset || !m.state.Recovering {
		t.Errorf("goes round with right variables: %v", m.log)
	}
}

func TestStrongestEvidence(t *testing.T) {
	all := []Evidence{{Cause: Hang}, {Cause: Panic, ID: 7}, {Cause: InitExit, ID: 8}, {Cause: NoCause}, {Cause: causes + 3}}
	if e, ok := strongest(all, A, 0); !ok || e.Cause != InitExit {
		t.Errorf("strongest = %s", e.Cause)
	}
	if e, ok := strongest(all, A, 8); !ok || e.Cause != Panic {
		t.Errorf("without the one that was counted: %s", e.Cause)
	}
	if _, ok := strongest(nil, A, 0); ok {
		t.Error("evidence of nothing")
	}
}

// Evidence that names its slot counts against no other: not against a trial that
// the power ended before its start, and not against the slot that a trial fell
// back to.
func TestEvidenceOfTheOtherSlot(t *testing.T) {
	m := newMachine(t, Firmware)
	m.stage(v2)
	m.give(Event{Kind: Approve})
	m.vars.next, m.reset = None, false // the good slot came up instead, and fell
	m.evidence = []Evidence{{Cause: CorruptRoot, Slot: A, ID: 7}}
	m.power()
	if s := m.state; s.Phase != Failed || s.Cause != LostBeforeInit || s.TriesLeft != 3 {
		t.Errorf("a trial is judged by the good slot's end: %s %s, %d tries left", s.Phase, s.Cause, s.TriesLeft)
	}
	m.update(v3)
	m.evidence = []Evidence{{Cause: Panic, Slot: A, ID: 8}}
	m.power()
	if s := m.state; s.Good != B || s.Failures != 0 || len(m.evidence) != 0 {
		t.Errorf("%s counts what slot a has left: %d failures; %v stays", s.Good, s.Failures, m.evidence)
	}
}

// What a slot leaves behind twice over is not counted against the next one.
func TestEvidenceDoesNotFollow(t *testing.T) {
	two := func(i int) []Evidence {
		return []Evidence{{Cause: InitExit, ID: uint64(10 + i)}, {Cause: Panic, ID: uint64(100 + i)}}
	}
	m := newMachine(t, Firmware)
	m.update(v2)
	for i := range 4 {
		m.evidence = two(i)
		m.power()
	}
	m.want(A, "1.0", CrashLoop)
	if s := m.state; s.Failures != 0 || s.Cause != Crashes || s.Culprit != B {
		t.Errorf("%s is blamed for %s, %d failures", s.Culprit, s.Cause, s.Failures)
	}
	m.stage(v3)
	m.give(Event{Kind: Approve})
	m.evidence = two(9)
	m.behave["3.0"] = LostBeforeInit
	m.reset, m.log = false, nil
	m.boot(B) // its trial begins, and the power goes
	m.power()
	if s := m.state; s.Cause != PowerCut {
		t.Errorf("the trial ended by %s", s.Cause)
	}
}

// A launch that fails condemns a good slot only when its bytes were seen to be
// wrong, and none at all when nothing can be launched here.
func TestLaunchFails(t *testing.T) {
	for _, tt := range []struct {
		err       error
		good      Slot
		condition Condition // of slot b, which was good
		launches  int
	}{
		{ErrRefused, B, Good, 1},
		{errors.New("out of memory"), B, Good, 2},
		{ErrDigest, A, Damaged, 2},
	} {
		s := State{Record: Record{Good: B, Means: Selector, Slots: [2]Content{{Version: "1", Image: Digest{1}, Condition: Good}, {Version: "2", Image: Digest{2}, Condition: Good}}}}
		var m refusing
		m.err = tt.err
		var did []string
		h := Host{Actuators: [3]Actuator{nil, &m, nil}, Do: func(a Action) error { did = append(did, a.Do.String()); return nil }}
		s, _ = h.Handle(s, Event{Kind: Booted, Boot: Boot{}})
		if s.Good != tt.good || s.Slots[1].Condition != tt.condition || m.launches != tt.launches {
			t.Errorf("%v: good %s, slot b %s, %d launches, %v", tt.err, s.Good, s.Slots[1].Condition, m.launches, did)
		}
		if tt.err == ErrRefused && !slices.Equal(did, []string{"report"}) {
			t.Errorf("where nothing can be launched: %v", did)
		}
	}
	s := State{Running: A, Record: Record{Good: A, Candidate: B, Phase: Armed, Launched: true, Arms: 1, TriesLeft: 3, Slots: [2]Content{{Version: "1", Condition: Good}, {Version: "2", Condition: Ready}}}}
	s, _ = Rules{}.Next(s, Event{Kind: Undone, Action: Action{Do: Launch, Slot: B}, Err: ErrRefused})
	if s.Phase != Staged || s.Arms != 0 || s.TriesLeft != 3 {
		t.Errorf("a try that the machine cannot make: %s, %d starts, %d tries left", s.Phase, s.Arms, s.TriesLeft)
	}
}

// refusing launches nothing.
type refusing struct {
	err      error
	launches int
}

func (*refusing) SetDefault(_, _ Slot) error { return nil }
func (*refusing) SetNext(Slot) error         { return nil }
func (r *refusing) Launch(Slot) error        { r.launches++; return r.err }

// The journal alone keeps a version rejected when the list cannot be written.
func TestListNotWritten(t *testing.T) {
	m := newMachine(t, Firmware)
	m.behave["2.0"] = CorruptRoot
	m.update(v2)
	m.list = nil // lost
	m.give(Event{Kind: Booted, Boot: Boot{Running: A, View: View{true, m.vars.order, None}}})
	m.state.Rejections = nil
	if !m.state.IsRejected(v2) {
		t.Error("2.0 may be tried again")
	}
	m.power()
	if list, err := ParseRejections(m.list); err != nil || len(list) != 1 || list[0].Cause != CorruptRoot {
		t.Errorf("the list was not repaired: %v %v", list, err)
	}
}

func TestDriftedCandidate(t *testing.T) {
	m := newMachine(t, Firmware)
	m.stage(v2)
	m.give(Event{Kind: Drifted, Slot: B})
	m.want(A, "1.0", Staging)
	if m.state.TriesLeft != 2 {
		t.Errorf("%d tries left", m.state.TriesLeft)
	}
	m.update(v2)
	m.want(B, "2.0", Blessed)
	m.give(Event{Kind: Drifted, Slot: A})
	m.give(Event{Kind: Rollback})
	if m.state.Good != B || !strings.Contains(m.state.Notice, "slot a is damaged") {
		t.Errorf("rolled back to a damaged slot: %q", m.state.Notice)
	}
}

// A candidate that cannot write the journal does not get blessed.
func TestTrialCannotWriteJournal(t *testing.T) {
	s := State{Record: Record{Good: A, Candidate: B, Phase: Armed, TriesLeft: 3, Arms: 1, Slots: [2]Content{{Version: "1", Condition: Good}, {Version: "2", Condition: Ready}}}}
	var did []string
	h := Host{Do: func(a Action) error {
		did = append(did, a.Do.String())
		if a.Do == WriteJournal {
			return errors.New("input/output error")
		}
		return nil
	}}
	s, err := h.Handle(s, Event{Kind: Booted, Boot: Boot{Running: B}})
	if err == nil || s.Phase != Armed || did[len(did)-1] != "reset" {
		t.Errorf("%s, %v, %v", s.Phase, did, err)
	}
	for range 3 {
		s, _ = h.Handle(s, Event{Kind: Checked, OK: true, Uptime: time.Hour})
	}
	if s.Good != A {
		t.Error("blessed")
	}
}

// A gap in health starts the time over.
func TestHealthHasNoGap(t *testing.T) {
	s := State{Running: B, Record: Record{Good: A, Candidate: B, Phase: Trying, TriesLeft: 3, Slots: [2]Content{{Version: "1", Condition: Good}, {Version: "2", Condition: Ready}}}}
	check := func(up time.Duration, ok bool) {
		s, _ = Rules{}.Next(s, Event{Kind: Checked, OK: ok, Uptime: up, Cause: NetworkDead})
	}
	check(10*time.Second, true)
	check(60*time.Second, true)
	check(65*time.Second, false)
	check(100*time.Second, true)
	check(159*time.Second, true)
	if s.Phase != Trying {
		t.Fatalf("%s after 59 s", s.Phase)
	}
	check(160*time.Second, true)
	if s.Phase != Blessed {
		t.Errorf("%s after a minute", s.Phase)
	}
}

// One look at each phase's explanation, as an operator reads it.
func TestWhy(t *testing.T) {
	var got []string
	note := func(m *machine) {
		got = append(got, m.state.Why()[:2]...)
		for _, line := range m.state.Why() {
			if strings.HasPrefix(line, "next reset") || strings.HasPrefix(line, "last failure") {
				got = append(got, line)
			}
		}
	}
	m := newMachine(t, Firmware)
	note(m)
	m.stage(v2)
	note(m)
	m.behave["2.0"] = DataFull
	m.give(Event{Kind: Approve})
	note(m)
	m.power()
	note(m)
	m.rest()
	note(m)
	m.update(v3)
	note(m)
	m.give(Event{Kind: Rollback})
	m.power()
	note(m)
	want := []string{
		"runs: slot a, version 1.0, because it is the last blessed slot", "IDLE: no update is under way",
		"next reset: starts slot a, version 1.0",
		"runs: slot a, version 1.0, because it is the last blessed slot", "STAGED: version 2.0 is on slot b and waits for approval",
		"next reset: starts slot a, version 1.0",
		"runs: slot a, version 1.0, because it is the last blessed slot", "ARMED: version 2.0 is tried at the next boot (start 1)",
		"next reset: starts slot b once; the one after it starts slot a, version 1.0",
		"runs: slot a, version 1.0, because it is the last blessed slot", "FAILED: version 2.0 may be tried again, failures left: 2",
		"last failure: slot b, version 2.0: the data partition is full (data-full)", "next reset: starts slot a, version 1.0",
		"runs: slot a, version 1.0, because it is the last blessed slot", "REJECTED: version 2.0 is not tried again unless an operator overrides that",
		"last failure: slot b, version 2.0: the data partition is full (data-full)", "next reset: starts slot a, version 1.0",
		"runs: slot b, version 3.0, because it is the last blessed slot", "BLESSED: version 3.0 is good; the floor may rise when it has run for a while",
		"next reset: starts slot b, version 3.0",
		"runs: slot a, version 1.0, because it is the last blessed slot", "ROLLBACK: an operator went back to version 1.0",
		"last failure: slot b, version 3.0: an operator rolled it back (operator)", "next reset: starts slot a, version 1.0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// Whatever order the firmware was left with, a slot that was never tried is not
// the default: neither once it is written, nor when its trial ends.
func TestDefaultIsMadeSureOf(t *testing.T) {
	m := newMachine(t, Firmware)
	m.behave["2.0"] = Panic
	m.vars.order = []Slot{B, A}
	m.stage(v2)
	m.power()
	m.want(A, "1.0", Staged)
	m.vars.order = []Slot{B, A}
	m.give(Event{Kind: Approve})
	m.power()
	m.want(A, "1.0", Failed)
}

// A try that firmware did not delete, or that somebody else set, is taken back.
func TestStaleTry(t *testing.T) {
	s := State{Record: Record{Good: A, Slots: [2]Content{{Version: "1", Condition: Good}}}}
	_, acts := Rules{}.Next(s, Event{Kind: Booted, Boot: Boot{Running: A, View: View{Entries: true, Order: []Slot{A, B}, Next: B}}})
	if len(acts) != 2 || acts[0].Do != SetNext || acts[0].Slot != None || acts[1].Do != Report {
		t.Errorf("%+v", acts)
	}
}

// Power cuts use up no try, but not for ever: after twice the tries in starts
// the version is rejected.
func TestStartsAreBounded(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.stage(v2)
		m.behave["2.0"] = Hang
		for i := 1; m.state.Phase != Rejected; i++ {
			if i > 6 {
				t.Fatalf("start %d", i)
			}
			m.give(Event{Kind: Approve})
			m.reset, m.launch = false, None
			m.start()
			m.evidence = nil
			m.power()
		}
		if m.state.Arms != 6 || m.state.Cause != PowerCut || m.state.TriesLeft != 0 {
			t.Errorf("%d starts, %s, %d tries left", m.state.Arms, m.state.Cause, m.state.TriesLeft)
		}
	})
}

// A try is not armed when what it is compared with cannot be kept.
func TestNoBaselineNoTry(t *testing.T) {
	onAll(t, func(t *testing.T, m *machine) {
		m.unkept = errors.New("state partition: input/output error")
		m.update(v2)
		m.want(A, "1.0", Staged)
		if m.state.Arms != 0 || m.varWrites != 0 || !strings.Contains(m.state.Notice, "keep-baseline") {
			t.Errorf("armed %d times, %d variables written: %q", m.state.Arms, m.varWrites, m.state.Notice)
		}
		m.unkept = nil
		m.give(Event{Kind: Approve})
		m.power()
		m.want(B, "2.0", Blessed)
	})
}

// A candidate whose baseline is gone, or is that of an earlier trial, is not
// blessed, however healthy it looks. The next try has a baseline of its own. A
// server that serves releases has no baseline of its machines.
func TestTrialWithoutBaseline(t *testing.T) {
	for name, before := range map[string]Digest{"none": {}, "of an earlier trial": {9}} {
		t.Run(name, func(t *testing.T) {
			onAll(t, func(t *testing.T, m *machine) {
				m.stage(v2)
				m.give(Event{Kind: Approve})
				m.before = before
				m.power()
				if m.means == Netboot {
					m.want(B, "2.0", Blessed)
					return
				}
				m.want(A, "1.0", Failed)
				if s := m.state; s.Cause != Unhealthy || s.Culprit != B || s.TriesLeft != 2 || !strings.Contains(s.Detail, "how the machine was before") {
					t.Errorf("%s of %s, %d tries left: %q", s.Cause, s.Culprit, s.TriesLeft, s.Detail)
				}
				m.rest()
				m.want(B, "2.0", Blessed)
			})
		})
	}
}

// Where the good slot does not start there is none to keep a baseline: what was
// written into the other slot is tried without.
func TestLastSlotNeedsNoBaseline(t *testing.T) {
	m := newMachine(t, Firmware)
	m.stage(v2)
	m.broken[0] = true
	m.power()
	m.want(B, "2.0", Blessed)
}
