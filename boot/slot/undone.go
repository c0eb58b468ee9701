package slot

// undone goes on after an action that failed.
func (t *step) undone(e Event) {
	t.report("%s: %s", e.Action.Do, e.Detail)
	switch e.Action.Do {
	case SetDefault, SetNext:
		t.changeMeans(e)
	case TakeLock:
		t.disarm()
	case Launch:
		t.notLaunched(e.Action.Slot, e.Detail)
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

// notLaunched is for a slot that the selector could not load.
func (t *step) notLaunched(x Slot, detail string) {
	switch {
	case x == t.Candidate && t.Phase == Armed:
		t.blame(x, CorruptPE, detail)
		t.reject()
		if t.Running != t.Good {
			t.do(Action{Do: Launch, Slot: t.Good})
		}
	case x != t.Good:
	case t.Running == None:
		t.set(x, Damaged)
		if t.findGood() {
			t.do(Action{Do: Launch, Slot: t.Good})
		}
	default:
		t.set(x, Damaged)
		t.takeOver(Boot{Running: t.Running})
	}
}
