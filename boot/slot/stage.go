package slot

import "fmt"

// stage begins an update, or goes on with one that was cut.
func (t *step) stage(c Content) {
	if err := t.mayStage(c); err != nil {
		t.report("update to version %s refused: %v", c.Version, err)
		return
	}
	target := t.target()
	if t.Means == Selector && t.Pinned == target {
		t.mirror(target)
		return
	}
	if !t.resumes(c) {
		t.Generation++
		t.TriesLeft, t.Attempt, t.Arms, t.Lost = uint8(t.rules.Tries), 0, 0, 0
		t.Cause, t.Culprit, t.Detail = NoCause, None, ""
	}
	c.Condition = Partial
	t.Candidate, t.Phase, t.Slots[target.index()] = target, Staging, c
	t.save()
	t.do(Action{Do: SetDefault, Slot: t.Good}) // nothing but the good slot may start while the other is untested
	t.do(Action{Do: Fill, Slot: target, Release: c})
}

// mirror is for firmware that starts the target whatever the journal says,
// because its variables cannot be changed any more. An untested version there
// would be the default. So the good version is copied there and becomes good in
// that place, and the slot it leaves takes the update.
func (t *step) mirror(target Slot) {
	c := t.Of(t.Good)
	c.Condition = Damaged
	t.Candidate, t.Phase, t.Slots[target.index()] = None, Idle, c
	t.save()
	t.report("the firmware always starts %s: version %s is copied there before an update", target, c.Version)
	t.do(Action{Do: Recover, Slot: target, Release: c})
}

// target is the slot that may be written: never the good one, never the one
// that runs.
func (t *step) target() Slot { return t.Good.Other() }

func (t *step) resumes(c Content) bool {
	return t.Phase == Staging && t.Of(t.Candidate).Image == c.Image
}

func (t *step) mayStage(c Content) error {
	switch {
	case t.Unjournalled:
		return fmt.Errorf("the slot journal was lost: an operator must adopt the running slot first")
	case t.IsRejected(c):
		return fmt.Errorf("it is rejected on this machine: an operator can override that")
	case c.Epoch < t.Floor:
		return fmt.Errorf("its security epoch %d is below the floor %d", c.Epoch, t.Floor)
	case t.Phase == Armed || t.Phase == Trying:
		return fmt.Errorf("a trial is under way")
	case t.target() == t.Running:
		return fmt.Errorf("%s runs, and %s is the good one: reset first", t.Running, t.Good)
	case t.Recovering && t.Of(t.Good).Condition != Good:
		return fmt.Errorf("%s must be restored first", t.Good)
	}
	return checkContent(c)
}

func (t *step) written(e Event) {
	switch {
	case t.Phase != Staging:
		return
	case !e.OK:
		t.report("write %s: %s: the update can go on from there", t.Candidate, e.Detail)
		return
	}
	t.Phase = Staged
	t.set(t.Candidate, Ready)
	t.save()
}

// approve arms the try: first how the machine is, then the journal, then
// BootNext. A try never starts of which the state before it is not on the disk.
func (t *step) approve() {
	if t.Phase != Staged && (t.Phase != Failed || t.TriesLeft == 0) {
		t.report("nothing to try: the machine is in %s", t.Phase)
		return
	}
	if t.Running != t.Good && t.Running != None {
		t.report("%s does not run: reset first", t.Good)
		return
	}
	t.Phase, t.Launched = Armed, false
	t.Arms++
	t.do(Action{Do: KeepBaseline, Slot: t.Candidate, Release: t.Of(t.Candidate)})
	t.save()
	t.do(Action{Do: SetDefault, Slot: t.Good}) // writes nothing when it holds already
	t.do(Action{Do: SetNext, Slot: t.Candidate})
	t.lockAndReset()
}

func (t *step) lockAndReset() {
	t.do(Action{Do: TakeLock})
	t.do(Action{Do: Reset})
}
