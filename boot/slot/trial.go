package slot

import "slices"

// checked is health, asked again and again with growing uptime.
func (t *step) checked(e Event) {
	if t.Checks++; t.Checks == 1 {
		t.Began = e.Uptime
	}
	if e.OK && !t.Healthy {
		t.Since = e.Uptime
	}
	t.Healthy = e.OK
	switch {
	case t.Phase == Trying && t.Running == t.Candidate:
		t.judgeTrial(e)
	case t.Running == t.Good && t.Healthy && e.Uptime >= t.rules.Soak:
		t.soaked()
	}
}

func (t *step) judgeTrial(e Event) {
	switch {
	case t.Healthy && e.Uptime-t.Since >= t.rules.Health && (t.Trusted || !t.rules.Attested):
		t.bless()
	case e.Uptime-t.Began < t.rules.Limit:
	case t.Healthy:
		t.fail(NotAttested, "no verdict within "+t.rules.Limit.String())
	case e.Cause == NoCause:
		t.fail(Unhealthy, e.Detail)
	default:
		t.fail(e.Cause, e.Detail)
	}
}

// verdict counts in a trial only; it blesses nothing by itself, the next check
// does.
func (t *step) verdict(e Event) {
	t.Trusted = e.OK
	if !e.OK && t.rules.Attested && t.Phase == Trying && t.Running == t.Candidate {
		t.fail(NotAttested, e.Detail)
	}
}

// bless makes the candidate good. The journal is the commit point: BootOrder
// follows it, and is repaired from it when power goes in between.
func (t *step) bless() {
	deferred := t.deferred()
	t.Good, t.Candidate, t.Phase = t.Candidate, None, Blessed
	t.set(t.Good, Good)
	t.Launched, t.Failures, t.Bounces, t.Heals = false, 0, 0, 0
	t.Cause, t.Culprit, t.Detail = NoCause, None, ""
	t.Schema = max(t.Schema, t.Of(t.Good).Schema)
	t.save()
	t.do(Action{Do: SetDefault, Slot: t.Good})
	t.do(Action{Do: StopWatchdog})
	if deferred {
		t.do(Action{Do: Migrate})
	}
	t.do(Action{Do: ReleaseLock})
	t.report("version %s is good now, on %s", t.Of(t.Good).Version, t.Good)
}

// deferred says that the candidate would write data which the good slot cannot
// read: not before the bless (P24).
func (t *step) deferred() bool { return t.Of(t.Candidate).Schema > t.Of(t.Good).Accepts }

// fail ends a trial from inside: the good slot, after the reset, decides
// whether there is another.
func (t *step) fail(c Cause, detail string) {
	t.blame(t.Candidate, c, detail)
	t.Phase = Failed
	t.save()
	t.do(Action{Do: KeepEvidence, Cause: c, Detail: t.Detail})
	t.report("trial of version %s failed: %s", t.Of(t.Candidate).Version, t.why())
	t.do(Action{Do: Reset})
}

// blame records a failure and uses up a try where the cause says so.
func (t *step) blame(x Slot, c Cause, detail string) {
	if c >= causes {
		c = Unhealthy
	}
	t.Cause, t.Culprit, t.Detail = c, x, clean(detail)
	switch row := causeTable[c]; {
	case x != t.Candidate:
	case row.final:
		t.TriesLeft = 0
	case row.counts && t.TriesLeft > 0:
		t.TriesLeft--
	}
}

func (t *step) why() string {
	if t.Detail == "" {
		return t.Cause.Text()
	}
	return t.Cause.Text() + ": " + t.Detail
}

// reject ends the update for good. The journal alone says so already: when the
// list is not written any more, the next boot does it.
func (t *step) reject() {
	c := t.Of(t.Candidate)
	t.Phase, t.Launched = Rejected, false
	t.save()
	t.addRejection(c, t.Cause)
	t.do(Action{Do: ReleaseLock})
	t.report("version %s is rejected: %s", c.Version, t.why())
}

func (t *step) addRejection(c Content, why Cause) {
	if slices.ContainsFunc(t.Rejections, c.isSame) {
		return
	}
	t.Rejections = append(t.Rejections[:len(t.Rejections):len(t.Rejections)], Rejection{c.Version, c.Image, why})
	if over := len(t.Rejections) - MaxRejections; over > 0 {
		t.Rejections = t.Rejections[over:]
	}
	t.do(Action{Do: WriteRejected, Rejections: t.Rejections})
}

// soaked raises the floor, at most to what the fallback slot still satisfies,
// and forgives a blessed slot its earlier failures. The TPM's counter is first:
// raised twice it stays the same, while a journal that is ahead of it would
// never come back to it.
func (t *step) soaked() {
	if t.Phase != Blessed && t.Failures == 0 || t.FloorTried {
		return
	}
	if t.Failures > 0 { // forgiven even where the TPM refuses the floor
		t.Failures, t.dirty = 0, true
	}
	if t.Phase == Blessed {
		if floor := t.nextFloor(); floor > t.Floor {
			t.flush()
			t.Floor = floor
			t.do(Action{Do: RaiseFloor, Floor: floor})
		}
		t.Phase, t.dirty = Idle, true
	}
	t.flush()
}

func (t *step) nextFloor() uint32 {
	floor := t.Of(t.Good).Epoch
	if other := t.Of(t.Good.Other()); other.Condition == Good && other.Epoch >= t.Floor {
		floor = min(floor, other.Epoch)
	}
	return max(floor, t.Floor)
}
