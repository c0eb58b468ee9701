package updater

import (
	"context"

	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/agent/manage"
	"github.com/ingot-os/ingot/internal/agent/updates"
)

// Run serves the management listener and takes updates, until the context ends
// or the listener does.
func Run(ctx context.Context, m updates.Machine) {
	ctx, cancel := context.WithCancel(ctx)
	u := New(m)
	defer func() { // after a panic, too: whoever begins anew must be alone
		cancel()
		u.wait()
	}()
	if u.broken != nil {
		m.Problem("update: %v", u.broken)
	}
	start := func(what string, f func(context.Context)) {
		u.tasks.Go(func() { u.guard(what, func() { f(ctx) }) })
	}
	if u.broken == nil && accept.IsTest(m.Spec.Trust) {
		u.say("this machine trusts TEST keys: it is for dev and test only")
	}
	if u.broken == nil {
		start("try again", u.rearm)
		if m.Spec.Attest != nil {
			start("report slots", u.reports)
		}
		if m.Spec.Update.Pull {
			start("follow the server", u.pull)
		}
		if m.Spec.Update.USB {
			start("look for sticks", u.usb)
		}
	}
	manage.Run(ctx, m, u)
}

// wait waits for all that was begun. What the keeper asks for later is for the
// client that begins then; until it does, it is done here.
func (u *Updater) wait() {
	u.asking.Lock()
	u.ended = true
	u.asking.Unlock()
	u.tasks.Wait()
}
