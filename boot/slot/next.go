package slot

import (
	"fmt"
	"slices"
	"time"
)

// Rules are the limits of the machine. The zero value is the default.
type Rules struct {
	Tries   int           // evidenced failures until a version is rejected; 0 = 3
	Crashes int           // evidenced failures of a blessed slot until the other becomes good; 0 = 3
	Bounces int           // resets towards a good slot that does not come up; 0 = 2
	Heals   int           // repairs of the firmware's variables between two updates until they are no longer relied on; 0 = 10
	Health  time.Duration // for which checks must hold without a gap; 0 = 1 minute
	Limit   time.Duration // after which a trial that is not healthy and attested has failed; 0 = 10 minutes
	Soak    time.Duration // uptime after which a blessed version raises the floor; 0 = 1 hour

	Attested bool // bless: attested — a trial needs the server's verdict too
}

func (r Rules) withDefaults() Rules {
	set := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	wait := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&r.Tries, 3)
	r.Tries = min(r.Tries, 100) // twice this has to fit the journal's byte
	r.Crashes = min(r.Crashes, 100)
	set(&r.Crashes, 3)
	set(&r.Bounces, 2)
	set(&r.Heals, 10)
	wait(&r.Health, time.Minute)
	wait(&r.Limit, 10*time.Minute)
	wait(&r.Soak, time.Hour)
	return r
}

// maxLost is how often a trial of which nothing was seen is made again (S6).
const maxLost = 1

// step is one transition under way: the state as it will be, and what to do.
type step struct {
	rules Rules
	State
	acts  []Action
	dirty bool // the record differs from the journal
}

// Next returns what follows from an event: the state that holds once all
// actions are done, and these, in order. It does not change s.
func (r Rules) Next(s State, e Event) (State, []Action) {
	t := &step{rules: r.withDefaults(), State: s}
	t.Notice = ""
	switch e.Kind {
	case Booted:
		t.booted(e.Boot)
	case Stage:
		t.stage(e.Release)
	case Written:
		t.written(e)
	case Approve:
		t.approve()
	case Checked:
		t.checked(e)
	case Verdict:
		t.verdict(e)
	case Rollback:
		t.rollback()
	case Override:
		t.override(e.Release)
	case Adopt:
		t.adopt()
	case Drifted:
		t.drifted(e.Slot)
	case Restored:
		t.restored(e.Slot)
	case SelfTested:
		t.selfTested(e.OK)
	case Undone:
		t.undone(e)
	}
	return t.State, t.acts
}

func (t *step) do(a Action) {
	a.Means = t.Means
	t.acts = append(t.acts, a)
}

// save puts the record, as it is at this point, into the journal.
func (t *step) save() {
	t.dirty = false
	t.do(Action{Do: WriteJournal, Record: t.Record})
}

// flush saves the record if it changed.
func (t *step) flush() {
	if t.dirty {
		t.save()
	}
}

func (t *step) report(format string, args ...any) {
	t.Notice = fmt.Sprintf(format, args...)
	t.do(Action{Do: Report, Detail: t.Notice})
}

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

// approve arms the try: the journal first, then BootNext.
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
	t.save()
	t.do(Action{Do: SetDefault, Slot: t.Good}) // writes nothing when it holds already
	t.do(Action{Do: SetNext, Slot: t.Candidate})
	t.lockAndReset()
}

func (t *step) lockAndReset() {
	t.do(Action{Do: TakeLock})
	t.do(Action{Do: Reset})
}

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
	floor := t.Floor
	if t.Phase == Blessed {
		floor = t.nextFloor()
		t.Phase = Idle
	}
	t.Failures = 0
	if floor > t.Floor {
		t.Floor = floor
		t.do(Action{Do: RaiseFloor, Floor: floor})
	}
	t.save()
}

func (t *step) nextFloor() uint32 {
	floor := t.Of(t.Good).Epoch
	if other := t.Of(t.Good.Other()); other.Condition == Good && other.Epoch >= t.Floor {
		floor = min(floor, other.Epoch)
	}
	return max(floor, t.Floor)
}

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

func (t *step) override(c Content) {
	kept := []Rejection{}
	for _, r := range t.Rejections {
		if r.Version != c.Version {
			kept = append(kept, r)
		}
	}
	if len(kept) == len(t.Rejections) {
		t.report("version %s is not rejected", c.Version)
		return
	}
	t.Rejections = kept
	t.do(Action{Do: WriteRejected, Rejections: kept})
	if t.Phase == Rejected && t.Of(t.Candidate).Version == c.Version && t.Of(t.Candidate).Condition == Ready {
		t.Phase, t.TriesLeft, t.Arms, t.Lost = Staged, uint8(t.rules.Tries), 0, 0
		t.save()
	}
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
func (t *step) drifted(x Slot) {
	if t.Of(x).Condition == Damaged || x == None {
		return
	}
	t.damage(x)
	t.save()
	t.report("%s differs from its digest", x)
}

func (t *step) restored(x Slot) {
	if x == None || t.Of(x).Condition != Damaged {
		return
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
	t.save()
	t.report("the next boot is chosen by %s", means)
}
