package updater

import (
	"context"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
)

// Waits before an approved version is tried again by itself. One that failed for
// a reason gets the interval of the recipe in between: time for people to look,
// and for what the machine is for.
const (
	afterCut = time.Minute
	interval = 5 * time.Minute  // when the recipe names none
	lookTry  = 10 * time.Second // between two looks whether a try is owed
)

// rearm goes on with a trial that was approved and did not come to an end (P6,
// P11): nobody has to approve a version again because the power went.
func (u *Updater) rearm(ctx context.Context) {
	began, said := time.Now(), ""
	for sleep(ctx, u.lookTry); ctx.Err() == nil; sleep(ctx, u.lookTry) {
		if !u.owesTry() || time.Since(began) < u.pause(u.m.Keeper.State().Cause) {
			continue
		}
		began = time.Now() // one that is refused waits as long again
		s := u.m.Keeper.State()
		if _, err := u.approve(s.Of(s.Candidate), ""); err != nil && err.Error() != said {
			said = err.Error()
			u.m.Logf("update: try again: %v", err)
		}
	}
}

// pause is how long a boot lasts before a try that ended for this cause is made
// again.
func (u *Updater) pause(c slot.Cause) time.Duration {
	d := u.m.Spec.Update.Interval.Or(interval)
	switch c {
	case slot.PowerCut, slot.LostBeforeInit, slot.NoCause:
		return min(d, afterCut)
	}
	return d
}

// owesTry says whether what waits in the other slot was approved.
func (u *Updater) owesTry() bool {
	s := u.m.Keeper.State()
	if s.Phase == slot.Rejected {
		u.unapprove() // who takes it off the list has not approved it
	}
	if s.Phase != slot.Staged && (s.Phase != slot.Failed || s.TriesLeft == 0) {
		return false
	}
	k := parseKept(u.m.Keeper.Progress())
	return k.Approved && k.is(s.Candidate, s.Of(s.Candidate))
}

// unapprove forgets the approval of a version that is rejected.
func (u *Updater) unapprove() {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.m.Keeper.State()
	k := parseKept(u.m.Keeper.Progress())
	if s.Phase != slot.Rejected || !k.Approved || !k.is(s.Candidate, s.Of(s.Candidate)) {
		return
	}
	k.Approved = false
	if err := u.m.Keeper.SaveProgress(k.marshal()); err != nil {
		u.m.Logf("update: forget the approval: %v", err)
	}
}

// byServer names the server that the machine follows among those who approve.
const byServer = "the server"

// remember keeps what the server says about trying what waits in the other slot,
// which must not be exchanged meanwhile. An operator's approval stays what it is.
func (u *Updater) remember(approved bool, is func(slot.Content) bool) {
	if !u.writing.TryLock() {
		return // the next round says it again
	}
	defer u.writing.Unlock()
	s := u.m.Keeper.State()
	k := parseKept(u.m.Keeper.Progress())
	was := k.Approved && k.is(s.Candidate, s.Of(s.Candidate))
	if s.Candidate == slot.None || !is(s.Of(s.Candidate)) || was == approved || !approved && !k.Server {
		return
	}
	p := &update{target: s.Candidate, content: s.Of(s.Candidate), approve: approved, server: true, past: k.inherit(s)}
	if approved {
		p.by = byServer
	}
	if err := u.m.Keeper.SaveProgress(p.keep()); err != nil {
		u.m.Logf("update: remember the approval: %v", err)
	}
}
