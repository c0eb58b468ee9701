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
		t.tryArmed(b)
	default:
		t.astray(b)
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
	if t.Phase == Armed && b.Running == t.Good && !t.passedOver(b) {
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
	if t.passedOver(b) {
		t.tryWithoutFirmware(b)
		return
	}
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
	e, found := strongest(b.Evidence, t.Candidate, t.Seen)
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
	e, found := strongest(b.Evidence, t.Good, t.Seen)
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
	t.do(Action{Do: EraseEvidence}) // the other slot would count what is left of it
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
	wrong := !v.Holds(t.Good)
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

// Holds says whether the variables start x by default and the other slot when
// x does not load.
func (v View) Holds(x Slot) bool {
	return v.Entries && len(v.Order) >= 2 && v.Order[0] == x && v.Order[1] == x.Other()
}

// try is the first thing that a candidate does: from here on its end can be
// told from one before init.
func (t *step) try(b Boot) {
	t.Phase = Trying
	t.Attempt++
	if e, ok := strongest(b.Evidence, t.Candidate, t.Seen); ok {
		t.see(e) // of an earlier boot: not this trial's
	}
	t.do(Action{Do: StartWatchdog})
	t.save()
	if len(b.Evidence) > 0 {
		t.do(Action{Do: EraseEvidence}) // Seen holds one of it only
	}
	if b.View.Next != None && t.Means == Firmware { // it is for the firmware to delete: else the try would repeat itself
		t.do(Action{Do: SetNext})
		t.report("the firmware did not delete BootNext")
	}
}

// tryArmed is a try that the good slot has armed. Without what that has kept a
// version which loses the network or a disk would look healthy, so the trial ends,
// and the next one gets a baseline of its own.
func (t *step) tryArmed(b Boot) {
	t.try(b)
	if t.Means != Netboot && b.Baseline != t.Of(t.Candidate).Image { // a server keeps none of its machines
		t.fail(Unhealthy, "nothing tells how the machine was before this trial")
		return
	}
	t.runChecks()
}

func (t *step) runChecks() { t.do(Action{Do: RunChecks, Deferred: t.deferred()}) }
