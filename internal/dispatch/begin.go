package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/netslot"
	"github.com/ingot-os/ingot/pxe/netboot"

	"github.com/ingot-os/ingot/boot/slot"
)

// ErrMoved: what was decided is not true any more. The machine asks again.
var ErrMoved = fmt.Errorf("another release is decided by now: %w", netboot.ErrDenied)

// Denied is why a file is not given that is not what is decided: nothing is, for the
// reason of the decision; or something else is, ErrMoved.
func Denied(x *bootrule.Decision) error {
	if x.Verb == netboot.Boot {
		return ErrMoved
	}
	return fmt.Errorf("%s: %w", x.Reason, netboot.ErrDenied)
}

// Begin is the first payload byte of a release, or of a program by its name, to a
// client. It opens an attempt, and uses up a try where this is one. In a window
// that is open already nothing is written.
func (d *Dispatcher) Begin(ctx context.Context, c netboot.Client, what string) error {
	x, err := d.Decide(ctx, c)
	if err != nil {
		return err
	}
	if x.Verb != netboot.Boot || x.names() != what {
		return Denied(&x.Decision)
	}
	if x.Host == "" && x.Ticket == "" {
		return nil
	}
	now := d.now()
	if a := underWay(&x.boot, now); a != nil && a.Digest == what && a.Trial == x.Trial && a.Ticket == x.Ticket {
		return nil
	}
	a := &fleet.Attempt{Digest: what, MAC: c.MAC, Trial: x.Trial, Ticket: x.Ticket, Opened: now, Until: now.Add(d.o.Window)}
	if a.Stem = what; x.Release != nil {
		a.Stem = x.Release.Stem()
	}
	if err := d.countResets(ctx, x.Host, a); err != nil {
		return err
	}
	if x.Ticket != "" {
		if err := d.beginTicket(ctx, &x, what, now); err != nil {
			return err
		}
	}
	return d.openAttempt(ctx, &x, a)
}

// names is what a decision boots: a release by its digest, a program by its name.
func (x *Decision) names() string {
	if x.Release != nil {
		return x.Release.Digest
	}
	return x.Program
}

// countResets notes how often the host's TPM was reset when it last attested: a
// later attestation tells by it whether the machine was reset since.
func (d *Dispatcher) countResets(ctx context.Context, host string, a *fleet.Attempt) error {
	if host == "" {
		return nil
	}
	h, err := d.o.Store.Host(ctx, host)
	if err != nil && !errors.Is(err, fleet.ErrNotFound) {
		return err
	}
	if h != nil && h.LastSeen != nil {
		n := h.LastSeen.Clock.ResetCount
		a.Resets = &n
	}
	return nil
}

// beginTicket notes that a ticket was followed, and with which release.
func (d *Dispatcher) beginTicket(ctx context.Context, x *Decision, what string, now time.Time) error {
	return d.o.Store.ChangeBoot(ctx, x.ticketKey, func(b *fleet.Boot) error {
		if b.Ticket == nil || b.Ticket.Kind != x.Ticket || !now.Before(b.Ticket.Expires) {
			return ErrMoved
		}
		k := *b.Ticket
		if k.Begun.IsZero() {
			k.Begun = now
		}
		if k.Began != what { // the rules name another one since
			k.Began, k.Handed = what, time.Time{}
		}
		b.Ticket = &k
		return nil
	})
}

// openAttempt writes the attempt. The slots are asked once more, on what they are now:
// the decision was made outside of this transaction.
func (d *Dispatcher) openAttempt(ctx context.Context, x *Decision, a *fleet.Attempt) error {
	var st *slot.State
	err := d.o.Store.ChangeBoot(ctx, x.key, func(b *fleet.Boot) error {
		st = nil
		if old := underWay(b, a.Opened); old != nil && old.Trial && x.Slots {
			if old.Digest != a.Digest {
				return ErrMoved
			}
			return nil // the same try, that another transfer has opened meanwhile
		}
		b.Recent, b.RecentAt = a.Stem, a.Opened
		if !x.Slots {
			replace(b, a)
			return nil
		}
		want, err := contentOf(*x.Wanted)
		if err != nil {
			return err
		}
		return d.open.during(x.key, &b.Entry, func() error {
			// Not d.slots: the machine was reset, what ran before it does not any more.
			fresh := &netslot.Server{Store: &d.open, Rules: d.o.Slots, Ready: d.ready}
			v, err := serve(fresh, x.key, want, x.Approve)
			if err != nil {
				return err
			}
			if v.digest != a.Digest {
				return ErrMoved
			}
			a.Trial, st = v.trial, &v.state
			replace(b, a)
			return nil
		})
	})
	if err != nil || st == nil || x.Host == "" {
		return err
	}
	return d.publish(ctx, x.Host, *st)
}

// replace has an attempt take the place of the one before. A try of which nothing was
// heard is kept beside it: whether the host began it, or somebody who forged its address
// while it was off, shows when the host attests.
func replace(b *fleet.Boot, next *fleet.Attempt) {
	if old := b.Attempt; old != nil && old.Trial {
		b.Lost = old
	}
	b.Attempt = next
}
