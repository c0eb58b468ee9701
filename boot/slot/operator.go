package slot

import "fmt"

// rollback goes to the other slot at an operator's word, and does not come
// back by itself: the version left behind is rejected.
func (t *step) rollback() {
	old := t.Good
	if err := t.mayRollBack(); err != nil {
		t.report("rollback refused: %v", err)
		return
	}
	t.Good, t.Candidate, t.Phase = old.Other(), None, RolledBack
	t.blame(old, ByOperator, "")
	t.save()
	t.addRejection(t.Of(old), ByOperator)
	t.do(Action{Do: SetDefault, Slot: t.Good})
	t.lockAndReset()
}

func (t *step) mayRollBack() error {
	switch {
	case t.Unjournalled:
		return fmt.Errorf("the slot journal was lost")
	case t.Phase == Armed || t.Phase == Trying:
		return fmt.Errorf("a trial is under way, %s is still the good slot", t.Good)
	}
	return t.usable(t.Good.Other())
}

// override takes a version off the list, and takes back what the journal itself
// says against it: a rollback or crash loop leaves a phase that rejects.
func (t *step) override(c Content) {
	kept := []Rejection{}
	for _, r := range t.Rejections {
		if r.Version != c.Version {
			kept = append(kept, r)
		}
	}
	last, ok := t.refused()
	ok = ok && last.Version == c.Version
	if len(kept) == len(t.Rejections) && !ok {
		t.report("version %s is not rejected", c.Version)
		return
	}
	t.Rejections = kept
	t.do(Action{Do: WriteRejected, Rejections: kept})
	if !ok {
		return
	}
	if t.Phase == Rejected && last.Condition == Ready {
		t.Phase, t.TriesLeft, t.Arms, t.Lost = Staged, uint8(t.rules.Tries), 0, 0
	} else {
		t.Candidate, t.Phase = None, Idle
		t.Cause, t.Culprit, t.Detail = NoCause, None, ""
	}
	t.save()
}

// adopt takes an operator's word that the running slot is good.
func (t *step) adopt() {
	if !t.Unjournalled || t.Running == None {
		t.report("nothing to adopt: the journal is there")
		return
	}
	t.Unjournalled = false
	t.save()
}

// drifted takes note of a slot whose bytes changed under it. A damaged good
// slot stays the default while it runs: its code is in memory and the other
// may be worse; the next boot decides by what loads.
func (t *step) drifted(x Slot, detail string) {
	if t.Of(x).Condition == Damaged || x == None {
		return
	}
	t.damage(x)
	t.save()
	if detail == "" {
		detail = "it differs from its digest"
	}
	t.report("%s is damaged: %s", x, clean(detail))
	if x == t.Running && x == t.Candidate && t.Phase == Staging {
		t.do(Action{Do: Reset}) // nobody judges this trial any more
	}
}

// restored takes note of a slot that was written again. Where the journal did
// not know what belongs there, it is what was written.
func (t *step) restored(x Slot, c Content) {
	if x == None || t.Of(x).Condition != Damaged {
		return
	}
	if t.Of(x).Image == (Digest{}) && c.Image != (Digest{}) && checkContent(c) == nil {
		t.Slots[x.index()] = c
	}
	t.set(x, Good)
	t.Bounces, t.Recovering = 0, false
	if c := t.Of(t.Good); t.Means == Selector && t.Pinned == x && c.Image == t.Of(x).Image {
		t.Good = x
	}
	t.save()
	t.do(Action{Do: SetDefault, Slot: t.Good})
	t.do(Action{Do: Reset})
}

func (t *step) selfTested(ok bool) {
	means := Firmware
	if !ok {
		means = Selector
	}
	if t.Means == means || t.Means == Netboot {
		return
	}
	t.Means, t.Heals = means, 0
	t.Deaf = t.Deaf && !ok
	t.save()
	t.report("the next boot is chosen by %s", means)
}

// identified gives a slot that was flashed its digests: the first boot of a disk
// knows the version of what runs, and not yet its bytes.
func (t *step) identified(x Slot, c Content) {
	if x == None || t.Of(x).Condition != Good || t.Of(x).Image != (Digest{}) || t.Unjournalled {
		return
	}
	t.Slots[x.index()].Image, t.Slots[x.index()].Root = c.Image, c.Root
	t.save()
}
