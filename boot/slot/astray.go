package slot

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
		t.Heals++
		t.save()
		t.do(Action{Do: SetDefault, Slot: t.Good})
		t.do(Action{Do: Reset})
	}
}

// takeOver makes the running slot good because the good one does not start.
func (t *step) takeOver(b Boot) {
	cause := t.whyNot()
	c := t.Of(b.Running)
	switch {
	case t.usable(b.Running) == nil:
		t.leave(b.Running, cause, "")
		t.do(Action{Do: SetDefault, Slot: t.Good})
		t.report("%s does not start (%s): version %s on %s is good now", t.Culprit, cause, c.Version, t.Good)
	case b.Running == t.Candidate && c.Condition == Ready && t.TriesLeft > 0 && !t.IsRejected(c):
		t.Arms++
		t.try(b) // without a baseline: there is no slot to go back to for one
		t.runChecks()
	default:
		t.set(t.Good, Damaged) // nothing is left but to write it again
		t.dirty = true
		t.recover("neither slot is good")
	}
}

// whyNot is why the good slot does not start. Where its bytes were looked at and
// are right it stays a way back: the firmware, or the machine, may be at fault.
func (t *step) whyNot() Cause {
	if t.Of(t.Good).Condition == Damaged {
		return CorruptPE
	}
	return Unloadable
}

func (t *step) recover(why string) {
	t.Recovering = true
	t.flush()
	t.report("%s: %s is restored from the network or a USB stick", why, t.Good)
	t.do(Action{Do: Recover, Slot: t.Good, Release: t.Of(t.Good)})
}
