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
	interval = 5 * time.Minute // when the recipe names none
)

// rearm goes on with a trial that was approved before the last reset and did not
// come to an end (P6, P11): nobody has to approve a version again because the
// power went.
func (u *Updater) rearm(ctx context.Context) {
	if u.able() != nil || !u.owesTry() {
		return
	}
	wait := u.m.Spec.Update.Interval.Or(interval)
	switch s := u.m.Keeper.State(); s.Cause {
	case slot.PowerCut, slot.LostBeforeInit, slot.NoCause:
		wait = min(wait, afterCut)
	}
	if sleep(ctx, wait); ctx.Err() == nil && u.owesTry() {
		if _, err := u.Approve(); err != nil {
			u.m.Logf("update: try again: %v", err)
		}
	}
}

// owesTry says whether what waits in the other slot was approved.
func (u *Updater) owesTry() bool {
	s := u.m.Keeper.State()
	if s.Phase != slot.Staged && (s.Phase != slot.Failed || s.TriesLeft == 0) {
		return false
	}
	k := parseKept(u.m.Keeper.Progress())
	return k.Approved && k.is(s.Candidate, s.Of(s.Candidate))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
