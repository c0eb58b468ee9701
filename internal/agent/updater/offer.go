package updater

import (
	"slices"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Offer implements updates.Client.
func (u *Updater) Offer(o updateapi.Offer) (updateapi.Progress, error) {
	if err := u.able(); err != nil {
		return updateapi.Progress{}, err
	}
	r, err := u.accept.Accept(o.Manifest, u.m.Now(), u.m.Keeper.State().Floor)
	if err != nil {
		return updateapi.Progress{}, err
	}
	return u.offer(r, o)
}

// offer begins an accepted release, or goes on with it.
func (u *Updater) offer(r *accept.Release, o updateapi.Offer) (updateapi.Progress, error) {
	s := u.m.Keeper.State()
	u.mu.Lock()
	if p := u.update; p != nil && same(p.content, r.Content) {
		if o.Approve && !p.approve {
			p.approve, p.by = true, o.By
		}
		defer u.mu.Unlock()
		return u.progress(s), nil
	}
	u.mu.Unlock()
	if err := u.take(); err != nil {
		return updateapi.Progress{}, err
	}
	defer u.writing.Unlock()
	if done, err := u.nothingToWrite(s, r, o); done || err != nil {
		p := u.answer()
		p.Version = r.Version
		return p, err
	}
	if err := u.pardon(s, r, o); err != nil {
		return updateapi.Progress{}, err
	}
	if err := u.begin(r, o); err != nil {
		return updateapi.Progress{}, err
	}
	return u.answer(), nil
}

// same says whether two contents have the same bytes.
func same(a, b slot.Content) bool { return a.Image == b.Image && a.Root == b.Root }

// take takes the lock of who writes, unless a reset was ordered: what that is for
// must not be exchanged before it comes.
func (u *Updater) take() error {
	if !u.writing.TryLock() {
		return busy("another update is being written")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.resets {
		u.writing.Unlock()
		return busy("the machine resets")
	}
	return nil
}

func busy(why string) error { return refuse(updateapi.Busy, "try again later", "%s", why) }

func (u *Updater) answer() updateapi.Progress {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.progress(u.m.Keeper.State())
}

// nothingToWrite is for a release that runs already, or is written already.
func (u *Updater) nothingToWrite(s slot.State, r *accept.Release, o updateapi.Offer) (bool, error) {
	switch {
	case s.Phase == slot.Armed || s.Phase == slot.Trying:
		return false, busy("a trial of version " + s.Of(s.Candidate).Version + " is under way")
	case s.Running == s.Good && same(s.Of(s.Good), r.Content) && (s.Of(s.Good).Condition == slot.Good || !o.Approve && !o.Override):
		// A running slot with damage is made anew in the other one only where an
		// operator says so: that one is the way back, and may be the last.
		return true, nil
	case same(s.Of(s.Candidate), r.Content) && s.Of(s.Candidate).Condition == slot.Ready && (s.Phase == slot.Staged || s.Phase == slot.Failed && s.TriesLeft > 0):
		if o.Approve {
			u.tryIt(o.By)
		}
		return true, nil
	}
	return false, nil
}

// pardon lets an operator's word take a version off the rejected list.
func (u *Updater) pardon(s slot.State, r *accept.Release, o updateapi.Offer) error {
	if !s.IsRejected(r.Content) {
		return nil
	}
	if !o.Override {
		why := ""
		if i := slices.IndexFunc(s.Rejections, func(x slot.Rejection) bool { return x.Version == r.Version }); i >= 0 {
			why = ": " + s.Rejections[i].Cause.Text()
		}
		return refuse(updateapi.IsRejected, "to try it all the same: --override", "version %s failed on this machine before%s", r.Version, why)
	}
	return u.m.Keeper.Handle(slot.Event{Kind: slot.Override, Release: r.Content})
}

// begin asks the state machine, and makes the old content of the slot unable to
// start. It is called with writing held.
func (u *Updater) begin(r *accept.Release, o updateapi.Offer) error {
	if s := u.m.Keeper.State(); s.Recovering {
		return u.beginRestore(s, r)
	}
	u.drop()
	u.takeFill()
	err := u.m.Keeper.Handle(slot.Event{Kind: slot.Stage, Release: r.Content})
	a := u.takeFill()
	switch {
	case a == nil && err != nil:
		return refuse(updateapi.Failed, "", "%v", err)
	case a == nil:
		return notAllowed(u.m.Keeper.State())
	case a.Do == slot.Recover:
		return busy("the firmware always starts " + a.Slot.String() + ": the good version is copied there first")
	}
	p := &update{target: a.Slot, content: r.Content, parts: slices.Clone(r.Parts), approve: o.Approve}
	if o.Approve {
		p.by = o.By
	}
	p.resume(u.m.Keeper.Progress())
	return u.open(p)
}

// drop ends the update under way.
func (u *Updater) drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.update = nil
}

// open makes p the update under way: from here on its slot does not start.
func (u *Updater) open(p *update) error {
	if err := u.clearHeader(p); err != nil {
		return refuse(updateapi.Failed, "", "clear the header of %s: %v", p.target, err)
	}
	p.past = parseKept(u.m.Keeper.Progress()).inherit(u.m.Keeper.State())
	if err := u.m.Keeper.SaveProgress(p.keep()); err != nil {
		u.m.Problem("remember the update: %v", err) // costs a second transfer after a reset
	}
	u.mu.Lock()
	u.update = p
	u.mu.Unlock()
	u.m.Logf("update: version %s goes to %s", p.content.Version, p.target)
	return nil
}

// Approve implements updates.Client.
func (u *Updater) Approve(by string) (updateapi.Progress, error) {
	return u.reset(slot.Approve, by, nil)
}

// approve is Approve of this content and no other.
func (u *Updater) approve(c slot.Content, by string) (updateapi.Progress, error) {
	return u.reset(slot.Approve, by, &c)
}

// Rollback implements updates.Client.
func (u *Updater) Rollback() (updateapi.Progress, error) { return u.reset(slot.Rollback, "", nil) }

// reset hands an event to the state machine that ends in a reset. What it will
// say is known before: it is a pure function. So the answer reaches whoever
// asked.
func (u *Updater) reset(kind slot.Kind, by string, want *slot.Content) (updateapi.Progress, error) {
	if u.m.Keeper == nil {
		return updateapi.Progress{}, u.able()
	}
	if err := u.take(); err != nil {
		return updateapi.Progress{}, err
	}
	defer u.writing.Unlock()
	if s := u.m.Keeper.State(); want != nil && !same(s.Of(s.Candidate), *want) {
		return updateapi.Progress{}, busy("another version has come to the other slot")
	}
	return u.order(kind, by)
}

// tryIt approves what was written. A no is told, and kept for the next answer.
func (u *Updater) tryIt(by string) {
	if _, err := u.order(slot.Approve, by); err != nil {
		u.m.Logf("update: approve: %v", err)
	}
}

// order is called with writing held.
func (u *Updater) order(kind slot.Kind, by string) (updateapi.Progress, error) {
	next, acts := slot.Rules{}.Next(u.m.Keeper.State(), slot.Event{Kind: kind})
	if !slices.ContainsFunc(acts, func(a slot.Action) bool { return a.Do == slot.Reset }) {
		return updateapi.Progress{}, notAllowed(next)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.resets {
		return updateapi.Progress{}, busy("the machine resets already")
	}
	u.resets = true
	k := parseKept(u.m.Keeper.Progress())
	if c := next.Of(next.Candidate); kind == slot.Approve && !(k.Approved && k.is(next.Candidate, c)) { // nobody has to say it again when the power goes
		p := &update{target: next.Candidate, content: c, approve: true, by: by, past: k.inherit(next)}
		if err := u.m.Keeper.SaveProgress(p.keep()); err != nil {
			u.m.Logf("update: remember the approval: %v", err)
		}
	}
	time.AfterFunc(u.grace, func() {
		u.guard(kind.String(), func() {
			defer u.settle()
			if s := u.m.Keeper.State(); kind == slot.Approve && !same(s.Of(s.Candidate), next.Of(next.Candidate)) {
				u.m.Problem("%s: another version than the approved one is in the other slot", kind)
				return
			}
			if err := u.m.Keeper.Handle(slot.Event{Kind: kind}); err != nil {
				u.m.Problem("%s: %v", kind, err)
			}
		})
	})
	return u.progress(next), nil
}

// settle is for a reset that did not come: the reboot lock is taken.
func (u *Updater) settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resets = false
}

// Override implements updates.Client.
//
// The version waits for an approval then: one from before it was rejected does
// not count.
func (u *Updater) Override(o updateapi.Override) (updateapi.Progress, error) {
	if u.m.Keeper != nil {
		if s := u.m.Keeper.State(); s.Of(s.Candidate).Version == o.Version {
			u.unapprove()
		}
	}
	return u.tell(slot.Event{Kind: slot.Override, Release: slot.Content{Version: o.Version}})
}

// Adopt implements updates.Client.
func (u *Updater) Adopt() (updateapi.Progress, error) { return u.tell(slot.Event{Kind: slot.Adopt}) }

// tell hands over an event that changes the journal or is refused.
func (u *Updater) tell(e slot.Event) (updateapi.Progress, error) {
	if u.m.Keeper == nil {
		return updateapi.Progress{}, u.able()
	}
	next, acts := slot.Rules{}.Next(u.m.Keeper.State(), e)
	if !slices.ContainsFunc(acts, func(a slot.Action) bool { return a.Do != slot.Report }) {
		return updateapi.Progress{}, notAllowed(next)
	}
	if err := u.m.Keeper.Handle(e); err != nil {
		return updateapi.Progress{}, refuse(updateapi.Failed, "", "%v", err)
	}
	return u.answer(), nil
}
