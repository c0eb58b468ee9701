package slot

import "slices"

// booted decides what a boot is: the good slot's, a trial, a boot that went
// astray, or the selector's.
func (t *step) booted(b Boot) {
	t.State = State{Record: t.Record, Rejections: t.Rejections, Running: b.Running}
	if len(b.View.Order) > 0 {
		t.Pinned = b.View.Order[0]
	}
	if b.Journal != JournalRead && !t.rebuild(b) {
		return
	}
	t.Floor = max(t.Floor, b.Counter)
	t.noteDamage(b)
	switch {
	case b.Running == None:
		t.choose()
	case b.Polluted && !t.Guarded:
		t.resetCold(b)
	case b.Running == t.Good:
		t.onGood(b)
	case b.Running == t.Candidate && t.Phase == Armed:
		t.try(b)
	default:
		t.astray(b)
	}
}

// rebuild makes a journal where there is none: at the first boot of a fresh
// disk, and after a loss when a signed manifest names what runs (P22). The
// selector leaves that to the slot that it starts.
func (t *step) rebuild(b Boot) bool {
	c := b.Content
	c.Condition = Good
	t.Record = Record{Good: b.Running, Means: t.Means, Floor: b.Counter, Schema: c.Schema}
	if b.Running == None {
		t.guess(b)
		return false
	}
	t.Slots[b.Running.index()] = c
	if b.Journal == JournalLost && !b.Trusted {
		t.Unjournalled = true
		t.report("the slot journal is lost and no signed manifest names what runs on %s: no update until an operator adopts it", b.Running)
		return false
	}
	t.dirty = true
	if b.Journal == JournalLost {
		t.report("the slot journal was lost; rebuilt for %s", b.Running)
	}
	return true
}

// guess starts a slot without a journal: slot a, as every disk begins, unless
// it is seen to be damaged. Nothing is written to the journal. Variables that
// were right already mean that the firmware has tried both slots.
func (t *step) guess(b Boot) {
	x := A
	if b.Damaged[A.index()] {
		x = B
	}
	t.Good = x
	switch {
	case b.Damaged[x.index()], t.Means == Firmware && b.View.holds(x):
		t.recover("neither slot starts, and there is no journal")
	case t.Means == Firmware:
		t.start(x)
	default:
		t.do(Action{Do: Launch, Slot: x})
	}
}

// noteDamage takes note of slots that were looked at and are wrong.
func (t *step) noteDamage(b Boot) {
	for _, x := range []Slot{A, B} {
		if c := t.Of(x).Condition; b.Damaged[x.index()] && (c == Good || c == Ready) {
			t.damage(x)
			t.dirty = true
		}
	}
}

// damage marks a slot. A candidate whose bytes rotted is not to blame as a
// version: it is written again, and costs a try so that a dying medium ends it.
func (t *step) damage(x Slot) {
	t.set(x, Damaged)
	if x != t.Candidate {
		return
	}
	switch t.Phase {
	case Staged, Armed, Trying, Failed:
		t.Cause, t.Culprit, t.Detail = CorruptPE, x, "the slot differs from its digest"
		t.TriesLeft -= min(t.TriesLeft, 1)
		t.Phase = Staging
		t.set(x, Partial)
	}
}

// resetCold leaves a boot in which another program ran first: its PCR 4 cannot
// be explained. Once; firmware that does this at every boot is lived with (S7).
func (t *step) resetCold(b Boot) {
	t.Guarded = true
	tries := t.Phase == Armed && b.Running == t.Candidate
	if t.Phase == Armed && b.Running == t.Good {
		t.blame(t.Candidate, Returned, "")
		t.Phase = Failed
	}
	t.save()
	if tries {
		t.do(Action{Do: SetNext, Slot: t.Candidate})
	}
	t.report("boot.polluted: another program ran before %s: resetting once", b.Running)
	t.do(Action{Do: Reset})
}

// onGood is a boot of the good slot: look back at a trial, count evidence,
// repair the variables. On a healthy machine it does nothing at all.
func (t *step) onGood(b Boot) {
	if b.Polluted {
		t.report("boot.polluted: another program ran before %s again", b.Running)
	} else if t.Guarded {
		t.Guarded, t.dirty = false, true
	}
	if t.Bounces > 0 {
		t.Bounces, t.dirty = 0, true
	}
	switch {
	case t.Phase == Armed && t.Means == Selector && !t.Launched:
		t.launchCandidate()
		return
	case t.Phase == Armed && t.Means == Netboot && !t.Launched: // its next request gets the candidate
	case t.Phase == Armed || t.Phase == Trying:
		t.judge(b)
	case t.Phase == Failed && t.TriesLeft == 0:
		t.reject()
	case t.crashed(b):
		return
	}
	t.keepRejections()
	t.reconcile(b.View)
	if len(b.Evidence) > 0 {
		t.do(Action{Do: EraseEvidence})
	}
}

// judge looks back at a trial that did not end in a bless.
func (t *step) judge(b Boot) {
	e, found := strongest(b.Evidence, t.Seen)
	switch {
	case found:
		t.blame(t.Candidate, e.Cause, e.Detail)
		t.see(e)
	case t.Phase == Armed:
		t.Lost++
		t.blame(t.Candidate, LostBeforeInit, "")
	default:
		t.blame(t.Candidate, PowerCut, "")
	}
	t.Phase, t.Launched, t.dirty = Failed, false, true
	if t.Lost > maxLost || int(t.Arms) >= 2*t.rules.Tries {
		t.TriesLeft = 0
	}
	if t.TriesLeft == 0 {
		t.reject()
		return
	}
	t.flush()
	t.do(Action{Do: ReleaseLock})
	t.report("trial of version %s: %s", t.Of(t.Candidate).Version, t.why())
}

func (t *step) see(e Evidence) {
	if e.ID != 0 {
		t.Seen = e.ID
	}
}

// crashed counts evidence against the blessed slot, and leaves it for the other
// when there is too much. Boots without evidence never count: power cycles
// alone must not change a slot (rauc#490, meta-balena#2301).
func (t *step) crashed(b Boot) bool {
	e, found := strongest(b.Evidence, t.Seen)
	if !found || t.Of(t.Good.Other()).Condition != Good {
		return false
	}
	t.Failures++
	t.blame(t.Good, e.Cause, e.Detail)
	t.see(e)
	t.dirty = true
	if int(t.Failures) <= t.rules.Crashes {
		t.flush()
		t.report("%s failed %d of %d times: %s", t.Good, t.Failures, t.rules.Crashes+1, t.why())
		return false
	}
	if err := t.usable(t.Good.Other()); err != nil {
		t.Failures = uint8(t.rules.Crashes) // stays at the edge, whatever comes
		t.flush()
		t.report("%s fails again and again, and there is no way back: %v", t.Good, err)
		return false
	}
	t.leave(t.Good.Other(), Crashes, e.Cause.String())
	t.addRejection(t.Of(t.Culprit), Crashes)
	t.do(Action{Do: SetNext, Slot: t.Good})
	t.report("%s failed %d times: going back to version %s", t.Culprit, t.rules.Crashes+1, t.Of(t.Good).Version)
	t.do(Action{Do: Reset})
	return true
}

// leave makes another slot good and saves that.
func (t *step) leave(x Slot, c Cause, detail string) {
	bad := t.Good
	t.Good, t.Candidate, t.Phase = x, None, CrashLoop
	t.blame(bad, c, detail)
	t.Failures, t.Bounces, t.Launched = 0, 0, false
	t.save()
}

// keepRejections repeats a list entry that was lost with the power.
func (t *step) keepRejections() {
	c, ok := t.refused()
	if ok && !slices.ContainsFunc(t.Rejections, c.isSame) {
		t.addRejection(c, t.Cause)
	}
}

// reconcile repairs the firmware's variables: both entries, the good slot
// first, no trial left over from before.
func (t *step) reconcile(v View) {
	if t.Means != Firmware {
		t.flush()
		return
	}
	stale := v.Next != None && t.Phase != Armed
	wrong := !v.holds(t.Good)
	if wrong {
		t.Heals++
		t.dirty = true
		if int(t.Heals) > t.rules.Heals {
			t.Means = Selector
		}
	}
	t.flush()
	if t.Means == Selector {
		t.report("boot variables were lost %d times: the selector chooses from now on", t.Heals)
		return
	}
	if stale {
		t.do(Action{Do: SetNext, Slot: None})
		t.report("took back a stale try of %s", v.Next)
	}
	if wrong {
		t.do(Action{Do: SetDefault, Slot: t.Good})
		t.report("repaired the boot entries: %s is first", t.Good)
	}
}

// holds says whether the variables start x by default and the other slot when
// x does not load.
func (v View) holds(x Slot) bool {
	return v.Entries && len(v.Order) >= 2 && v.Order[0] == x && v.Order[1] == x.Other()
}

// try is the first thing that a candidate does: from here on its end can be
// told from one before init.
func (t *step) try(b Boot) {
	t.Phase = Trying
	t.Attempt++
	if e, ok := strongest(b.Evidence, t.Seen); ok {
		t.see(e) // of an earlier boot: not this trial's
	}
	t.do(Action{Do: StartWatchdog})
	t.save()
	t.do(Action{Do: RunChecks, Deferred: t.deferred()})
}

// astray is a boot of a slot that is neither good nor on trial: the power went
// between journal and BootOrder (P14), the variables were changed, or the good
// slot does not load (P20).
func (t *step) astray(b Boot) {
	switch {
	case t.Means == Netboot:
		t.report("%s runs, but %s was served", b.Running, t.Good)
	case t.Of(t.Good).Condition != Good || int(t.Bounces) >= t.rules.Bounces:
		t.takeOver(b)
	case t.Means == Selector:
		t.do(Action{Do: Launch, Slot: t.Good})
	default:
		t.Bounces++
		t.save()
		t.do(Action{Do: SetDefault, Slot: t.Good})
		t.do(Action{Do: Reset})
	}
}

// takeOver makes the running slot good because the good one does not start.
func (t *step) takeOver(b Boot) {
	cause := t.writeOff()
	c := t.Of(b.Running)
	switch {
	case t.usable(b.Running) == nil:
		t.leave(b.Running, cause, "")
		t.do(Action{Do: SetDefault, Slot: t.Good})
		t.report("%s does not start (%s): version %s on %s is good now", t.Culprit, cause, c.Version, t.Good)
	case b.Running == t.Candidate && c.Condition == Ready && t.TriesLeft > 0 && !t.IsRejected(c):
		t.Arms++
		t.try(b)
	default:
		t.dirty = true
		t.recover("neither slot is good")
	}
}

// writeOff marks the good slot as one that does not start.
func (t *step) writeOff() Cause {
	if t.Of(t.Good).Condition == Damaged {
		return CorruptPE
	}
	t.set(t.Good, Damaged)
	return Unloadable
}

func (t *step) recover(why string) {
	t.Recovering = true
	t.flush()
	t.report("%s: %s is restored from the network or a USB stick", why, t.Good)
	t.do(Action{Do: Recover, Slot: t.Good, Release: t.Of(t.Good)})
}
