package slot

// choose is the boot of the selector, or a machine's request at a netboot
// server: no slot runs, one is to be started.
func (t *step) choose() {
	switch {
	case t.Means == Firmware:
		t.chooseByFirmware()
	case t.Phase == Armed && !t.Launched:
		t.launchCandidate()
	case t.lastResort():
		t.flush()
		t.do(Action{Do: Launch, Slot: t.Good})
	case t.findGood(): // it judges a trial that was lost: it has the evidence
		t.flush()
		t.do(Action{Do: Launch, Slot: t.Good})
	}
}

// lastResort is a good slot with damage, and no other that could be started: most
// bytes of a slot are not needed to start it, and firmware that has no selector
// before it would start this one, too. When it does not, Undone follows, and
// launchOther restores it.
func (t *step) lastResort() bool {
	return t.Means == Selector && !t.Recovering && t.Of(t.Good).Condition == Damaged && t.usable(t.Good.Other()) != nil
}

// chooseByFirmware repairs the variables and lets the firmware start the good
// slot: the selector runs only when that failed (P18, P19, P21). Firmware that
// comes back to the selector all the same does not use what it keeps.
func (t *step) chooseByFirmware() {
	if !t.findGood() {
		return
	}
	if int(t.Bounces) >= t.rules.Bounces {
		t.Means, t.Bounces = Selector, 0
		t.save()
		t.report("the firmware does not start %s although its entries are right: the selector chooses from now on", t.Good)
		t.do(Action{Do: Launch, Slot: t.Good})
		return
	}
	t.Bounces++
	t.Heals++
	t.save()
	t.report("selector: the boot entries are made again, %s starts next", t.Good)
	t.start(t.Good)
}

// launchCandidate uses up the try before the candidate runs, as the firmware
// deletes BootNext before it loads.
func (t *step) launchCandidate() {
	t.Launched = true
	t.save()
	t.do(Action{Do: Launch, Slot: t.Candidate})
}

// findGood makes sure that the good slot can be started, or another becomes
// good.
func (t *step) findGood() bool {
	if t.Of(t.Good).Condition == Good {
		return true
	}
	if t.usable(t.Good.Other()) == nil {
		t.leave(t.Good.Other(), CorruptPE, "")
		t.dirty = false
		return true
	}
	t.dirty = true
	t.recover("neither slot is good")
	return false
}

// start lets the firmware start x.
func (t *step) start(x Slot) {
	t.do(Action{Do: SetDefault, Slot: x})
	t.do(Action{Do: SetNext, Slot: x})
	t.do(Action{Do: Reset})
}
