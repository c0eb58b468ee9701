package slot

// passedOver is an armed try that the firmware has neither made nor deleted: the
// candidate did not run. Where its boot file is broken, the firmware may have tried
// it and left BootNext behind, and the file is to blame.
func (t *step) passedOver(b Boot) bool {
	if t.Phase != Armed || t.Means != Firmware || b.View.Next != t.Candidate {
		return false
	}
	e, found := strongest(b.Evidence, t.Candidate, t.Seen)
	return !found || !causeTable[e.Cause].final
}

// tryWithoutFirmware makes the try by the selector, and all later ones. Somebody at
// the firmware's menu may have picked the good slot, so the firmware is asked twice.
func (t *step) tryWithoutFirmware(b Boot) {
	if len(b.Evidence) > 0 {
		t.do(Action{Do: EraseEvidence}) // nothing of it is the candidate's
	}
	if t.Bounces == 0 {
		t.Bounces++
		t.save()
		t.report("the firmware did not start %s, which BootNext names: resetting once", t.Candidate)
		t.do(Action{Do: Reset})
		return
	}
	t.Bounces, t.Means, t.Deaf = 0, Selector, true
	t.save()
	t.acts = append(t.acts, Action{Do: SetNext, Means: Firmware})
	t.report("the firmware does not use BootNext: the selector chooses from now on")
	t.launchCandidate()
}
