package slot

import "errors"

// undone goes on after an action that failed.
func (t *step) undone(e Event) {
	t.report("%s: %s", e.Action.Do, e.Detail)
	switch e.Action.Do {
	case SetDefault, SetNext:
		t.changeMeans(e)
	case TakeLock:
		t.disarm()
	case Launch:
		t.notLaunched(e.Action.Slot, e)
	case RaiseFloor:
		t.FloorTried = true
	case WriteJournal, WriteRejected:
		// What cannot be recorded is not done. A trial that leaves no trace
		// would be made again and again.
		if t.Running != None && t.Running == t.Candidate {
			t.do(Action{Do: Reset})
		}
	}
}

// changeMeans gives up variables that do not keep what is written: full, read
// only, or broken. The journal stays the truth, the selector acts on it. Taking
// back a try is the exception: the worst of it is a trial that nobody approved,
// which the journal ends at its start.
func (t *step) changeMeans(e Event) {
	rest := e.Rest
	if t.Means == Firmware && !(e.Action.Do == SetNext && e.Action.Slot == None) {
		t.Means = Selector
		t.Bounces = 0
		t.save()
		t.report("boot variables cannot be written: the selector chooses from now on")
		if t.Running == None {
			rest = []Action{{Do: Launch, Slot: t.Good}}
		}
	}
	for _, a := range rest {
		if a.Do == Fill && t.Pinned == a.Slot {
			t.mirror(a.Slot)
			return
		}
		a.Record.Means = t.Means
		t.do(a)
	}
}

// disarm is for a try that the reboot lock does not allow now.
func (t *step) disarm() {
	if t.Phase != Armed {
		return // a rollback: it happens at the next reset
	}
	t.do(Action{Do: SetNext, Slot: None})
	t.Phase = Staged
	t.Arms--
	t.save()
}

// notLaunched is for a slot that the selector could not load. Only one whose
// bytes were seen to be wrong is damaged.
func (t *step) notLaunched(x Slot, e Event) {
	if errors.Is(e.Err, ErrDigest) && t.Of(x).Condition == Good {
		t.set(x, Damaged)
		t.dirty = true
	}
	defer t.flush()
	switch {
	case errors.Is(e.Err, ErrRefused):
		t.notHere(x)
	case x == t.Candidate && t.Phase == Armed:
		t.blame(x, CorruptPE, e.Detail)
		t.reject()
		if t.Running != t.Good {
			t.do(Action{Do: Launch, Slot: t.Good})
		}
	case x != t.Good:
		t.nothingStarts()
	case t.Running == None:
		t.launchOther()
	default:
		t.takeOver(Boot{Running: t.Running})
	}
}

// notHere takes back the try of a machine that can start nothing.
func (t *step) notHere(x Slot) {
	if x == t.Candidate && t.Phase == Armed {
		t.Phase, t.Launched = Staged, false
		t.Arms--
		t.save()
	}
}

// launchOther is for the selector, when the good slot does not start. It stays
// the good one until its bytes are seen to be wrong, or the other slot runs and
// cannot start it either.
func (t *step) launchOther() {
	x := t.Good.Other()
	switch {
	case t.Of(t.Good).Condition == Damaged:
		if t.findGood() {
			t.do(Action{Do: Launch, Slot: t.Good})
		}
	case t.usable(x) == nil:
		t.do(Action{Do: Launch, Slot: x})
	default:
		t.nothingStarts()
	}
}

func (t *step) nothingStarts() {
	t.Recovering = true
	t.report("neither slot starts, and %s has the right bytes, or cannot be read", t.Good)
}
