package slot

import (
	"slices"
	"strings"
	"testing"
)

// Firmware that leaves BootNext where it is gets a second chance. Then the selector
// makes the try, nothing is held against the release, and later ones come at once.
func TestDeafFirmware(t *testing.T) {
	m := newMachine(t, Firmware)
	m.vars.deaf = true
	m.update(v2)
	m.want(B, "2.0", Blessed)
	if got := strings.Join(m.chain, " "); got != "a=1.0 a=1.0 b=2.0" {
		t.Errorf("the boots are %s", got)
	}
	if s := m.state; s.Means != Selector || s.Lost != 0 || s.Arms != 1 || len(s.Rejections) != 0 || m.vars.next != None {
		t.Errorf("by %s, %d lost of %d starts, rejected %v, BootNext %s", s.Means, s.Lost, s.Arms, s.Rejections, m.vars.next)
	}
	if why := m.state.Why(); !slices.Contains(why, "chosen by: selector, because the firmware does not use BootNext") {
		t.Errorf("why: %q", why)
	}
}

// Whatever action of that is the last before a power cut, the release is not rejected.
func TestDeafFirmwareCut(t *testing.T) {
	probe := newMachine(t, Firmware)
	probe.vars.deaf = true
	probe.update(v2)
	for at := 1; at <= probe.acts; at++ {
		m := newMachine(t, Firmware)
		m.vars.deaf, m.life = true, at
		m.update(v2)
		m.power()
		for range 3 {
			if m.holds[m.running.index()].Version != "2.0" {
				m.update(v2)
			}
		}
		if m.holds[m.running.index()].Version != "2.0" || len(m.state.Rejections) != 0 {
			t.Errorf("cut at %d: %v, rejected %v", at, m.chain, m.state.Rejections)
		}
	}
}

// Somebody at the firmware's menu picks the good slot once: BootNext is still there,
// and is used at the next reset.
func TestMenuPicksGoodSlot(t *testing.T) {
	m := newMachine(t, Firmware)
	m.stage(v2)
	m.give(Event{Kind: Approve})
	m.boot(A)
	m.power()
	m.want(B, "2.0", Blessed)
	if m.state.Means != Firmware || m.state.Bounces != 0 {
		t.Errorf("by %s, %d bounces", m.state.Means, m.state.Bounces)
	}
}

// Evidence of the reset is not the candidate's while BootNext is there; that its
// boot file is broken is, for firmware may try it and leave BootNext behind.
func TestDeafFirmwareEvidence(t *testing.T) {
	for _, c := range []struct {
		cause Cause
		tries uint8
		phase Phase
	}{{Hang, 3, Blessed}, {Panic, 3, Blessed}, {CorruptPE, 0, Rejected}, {WrongSignature, 0, Rejected}} {
		m := newMachine(t, Firmware)
		m.vars.deaf = true
		m.stage(v2)
		m.give(Event{Kind: Approve})
		m.evidence = []Evidence{{Cause: c.cause, ID: 7}}
		m.power()
		if s := m.state; s.TriesLeft != c.tries || s.Phase != c.phase || len(m.evidence) != 0 {
			t.Errorf("%s: %s, %d tries left, %v stays", c.cause, s.Phase, s.TriesLeft, m.evidence)
		}
	}
}

// Another program ran first, at each boot: that is no reason to blame a candidate
// that the firmware has not started.
func TestDeafAndPolluted(t *testing.T) {
	m := newMachine(t, Firmware)
	m.vars.deaf, m.polluted = true, true
	m.stage(v2)
	m.give(Event{Kind: Approve})
	m.power()
	m.want(B, "2.0", Blessed)
	if m.state.TriesLeft != 3 {
		t.Errorf("%d tries left: %v", m.state.TriesLeft, m.reports)
	}
}

// Where the selector may start nothing either, the release waits: it is not to blame.
func TestDeafFirmwareWithoutKexec(t *testing.T) {
	r := Record{Good: A, Candidate: B, Phase: Armed, Bounces: 1, TriesLeft: 3, Arms: 1, Slots: [2]Content{v1, v2}}
	r.Slots[0].Condition, r.Slots[1].Condition = Good, Ready
	none := &refusing{err: ErrRefused}
	h := Host{Actuators: [3]Actuator{none, none, none}, Do: func(Action) error { return nil }}
	s, _ := h.Handle(State{Record: r}, Event{Kind: Booted, Boot: Boot{Running: A, View: View{true, []Slot{A, B}, B}}})
	if s.Phase != Staged || s.TriesLeft != 3 || s.Arms != 0 || !s.Deaf {
		t.Errorf("%s, %d tries left, %d starts", s.Phase, s.TriesLeft, s.Arms)
	}
	s, _ = h.Handle(s, Event{Kind: SelfTested, OK: true})
	if s.Deaf || s.Means != Firmware {
		t.Errorf("after a self-test that went well: by %s", s.Means)
	}
}

// Firmware that deletes BootNext and does not use it cannot be told from a candidate
// that dies before its init: the release is rejected after its second start.
func TestDroppedNext(t *testing.T) {
	m := newMachine(t, Firmware)
	m.vars.drops = true
	m.update(v2)
	m.rest()
	m.want(A, "1.0", Rejected)
	if s := m.state; s.Cause != LostBeforeInit || s.Arms != 2 || s.Means != Firmware {
		t.Errorf("%s after %d starts, by %s", s.Cause, s.Arms, s.Means)
	}
}
