package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/netslot"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/pxe/netboot"

	"github.com/ingot-os/ingot/boot/slot"
)

// ErrMoved: what was decided is not true any more. The machine asks again.
var ErrMoved = fmt.Errorf("another release is decided by now: %w", netboot.ErrDenied)

// Begin is the first payload byte of a release, or of a program by its name, to a
// client. It opens an attempt, and uses up a try where this is one. In a window
// that is open already nothing is written.
func (d *Dispatcher) Begin(ctx context.Context, c netboot.Client, what string) error {
	x, err := d.Decide(ctx, c)
	if err != nil {
		return err
	}
	if x.Verb != netboot.Boot || x.names() != what {
		return ErrMoved
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
		if err := d.beginTicket(ctx, &x, now); err != nil {
			return err
		}
	}
	return d.open1(ctx, &x, a)
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

// beginTicket notes that a ticket was followed.
func (d *Dispatcher) beginTicket(ctx context.Context, x *Decision, now time.Time) error {
	return d.o.Store.ChangeBoot(ctx, x.ticketKey, func(b *fleet.Boot) error {
		if b.Ticket == nil || b.Ticket.Kind != x.Ticket || !now.Before(b.Ticket.Expires) {
			return ErrMoved
		}
		k := *b.Ticket
		if k.Begun.IsZero() {
			k.Begun = now
		}
		b.Ticket = &k
		return nil
	})
}

// open1 writes the attempt. The slots are asked once more, on what they are now:
// the decision was made outside of this transaction.
func (d *Dispatcher) open1(ctx context.Context, x *Decision, a *fleet.Attempt) error {
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
			b.Attempt = a
			return nil
		}
		want, err := contentOf(*x.Wanted)
		if err != nil {
			return err
		}
		return d.open.with(x.key, &b.Entry, func() error {
			// Not d.slots: the machine was reset, what ran before it does not any more.
			fresh := &netslot.Server{Store: &d.open, Rules: d.o.Slots, Ready: d.ready}
			v, err := serve(fresh, x.key, want, x.Approve)
			if err != nil {
				return err
			}
			if v.digest != a.Digest {
				return ErrMoved
			}
			a.Trial, st, b.Attempt = v.trial, &v.state, a
			return nil
		})
	})
	if err != nil || st == nil || x.Host == "" {
		return err
	}
	return d.publish(ctx, x.Host, *st)
}

// publish has a host's slots shown among those of hosts with a disk. What brings
// news is recorded.
func (d *Dispatcher) publish(ctx context.Context, host string, st slot.State) error {
	s := slotsOf(st)
	err := d.o.Store.Update(ctx, host, func(x *fleet.Change) error {
		if x.Host == nil {
			return fleet.ErrNotFound
		}
		old, err := x.Report()
		if err != nil {
			return err
		}
		if p := plain(s, x.Host); old != nil && same(&old.Slots, &p) {
			return errSame
		}
		r := &fleet.Report{At: d.now(), Slots: plain(s, x.Host)}
		x.Reported(r)
		if brief := r.Brief(); old == nil || old.Brief() != brief {
			x.Record(&audit.Record{Kind: audit.KindSlots, Time: r.At, Detail: "netboot slots: " + words(st.Notice, st.Phase.String()+", "+words(brief.Version, "no version")+" is good")})
		}
		return d.taken(x, &s)
	})
	if errors.Is(err, errSame) || errors.Is(err, fleet.ErrNotFound) {
		return nil
	}
	return err
}

// plain are slots with versions as operators name them: without the name of the
// appliance, where that is what the host runs.
func plain(s updateapi.Slots, h *fleet.Host) updateapi.Slots {
	if h.Last == nil || h.Last.Release == "" {
		return s
	}
	short := func(v string) string { return strings.TrimPrefix(v, h.Last.Release+"-") }
	s.Slots, s.Rejected = slices.Clone(s.Slots), slices.Clone(s.Rejected)
	for i := range s.Slots {
		s.Slots[i].Version = short(s.Slots[i].Version)
	}
	for i := range s.Rejected {
		s.Rejected[i].Version = short(s.Rejected[i].Version)
	}
	return s
}

// errSame has the store change nothing.
var errSame = errors.New("nothing has changed")

// taken ends an override that has done what it is for.
func (d *Dispatcher) taken(x *fleet.Change, s *updateapi.Slots) error {
	a, err := x.Assignment()
	if err != nil || a == nil || !a.Override {
		return err
	}
	r := d.release(a.Release)
	if r == nil || slices.ContainsFunc(s.Rejected, func(y updateapi.Rejected) bool { return y.Version == r.Stem() }) {
		return nil
	}
	next := *a
	next.Override = false
	x.Assign(&next)
	x.Record(&audit.Record{Kind: audit.KindAssigned, Time: d.now(), Detail: a.Version + " was taken once more: if it fails again, it is not offered again"})
	return nil
}

// overridden is the release that an operator has taken off the list; "" for none.
func (d *Dispatcher) overridden(a *assign.Assignment) string {
	if a == nil || !a.Override {
		return ""
	}
	if r := d.release(a.Release); r != nil {
		return r.Stem()
	}
	return ""
}
