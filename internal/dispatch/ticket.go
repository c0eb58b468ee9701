package dispatch

import (
	"context"
	"fmt"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// spend ends the ticket of a single boot that brought the host up, with any attestation
// of what it booted by it. Others the report closes: it has the evidence of earlier
// boots.
func (d *Dispatcher) spend(ctx context.Context, host string, a *fleet.Attempt, v *attest.Verdict) error {
	if a == nil || a.Ticket == "" || a.Ticket == bootrule.Install {
		return nil
	}
	h, err := d.o.Store.Host(ctx, host)
	if err != nil || !d.mayRun(h, a.Digest) {
		return err
	}
	// The first report of this boot finds no ticket any more, and has to know.
	err = d.o.Store.ChangeBoot(ctx, host, func(b *fleet.Boot) error {
		b.Spent = &fleet.Spent{Kind: a.Ticket, Resets: v.Clock.ResetCount}
		return nil
	})
	if err != nil {
		return err
	}
	return d.endTicket(ctx, host, a.Ticket)
}

// installed ends an install ticket that was handed out, when the disk boots what was
// to be written. A disk that boots something else was not written yet.
func (d *Dispatcher) installed(ctx context.Context, host string) error {
	for _, name := range d.namesOf(host) {
		b, err := d.o.Store.Boot(ctx, name)
		if err != nil {
			return err
		}
		if b.Ticket == nil || b.Ticket.Kind != bootrule.Install {
			continue
		}
		h, err := d.o.Store.Host(ctx, host)
		if err != nil {
			return err
		}
		if d.isWritten(h, b.Ticket) {
			return d.endTicket(ctx, host, bootrule.Install)
		}
	}
	return nil
}

// isWritten reports whether a host that runs from its disk runs what an install
// ticket was handed out for.
func (d *Dispatcher) isWritten(h *fleet.Host, k *bootrule.Ticket) bool {
	return k.Kind == bootrule.Install && !k.Handed.IsZero() && d.mayRun(h, k.Began)
}

// namesOf are the names under which boots of a host may be kept: its own, and its
// addresses from before it attested.
func (d *Dispatcher) namesOf(host string) []string {
	names := []string{host}
	for _, m := range d.machinesOf(host) {
		names = append(names, m.MAC.String())
	}
	return names
}

// wasFollowed reports whether a machine has begun to do what a ticket says.
func wasFollowed(k *bootrule.Ticket) bool { return !k.Begun.IsZero() || !k.Handed.IsZero() }

// endTicket takes a ticket of a host away that has been followed, under whichever
// name it was given, and closes its attempt.
func (d *Dispatcher) endTicket(ctx context.Context, host, kind string) error {
	for _, name := range d.namesOf(host) {
		b, err := d.o.Store.Boot(ctx, name)
		if err != nil {
			return err
		}
		if b.Ticket == nil && (b.Attempt == nil || b.Attempt.Ticket == "") {
			continue
		}
		if err := d.o.Store.ChangeBoot(ctx, name, func(b *fleet.Boot) error {
			if k := b.Ticket; k != nil && k.Kind == kind && wasFollowed(k) {
				b.Ticket = nil
			}
			if a := b.Attempt; a != nil && a.Ticket == kind {
				b.Attempt = nil
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// closeByAddress ends the attempts that followed tickets of the host's addresses, from
// before it attested. A ticket whose time is over is not found any more, and would
// leave its attempt there: each later boot of that release would count as by order.
func (t *taking) closeByAddress(ctx context.Context) error {
	if !t.fresh {
		return nil
	}
	for _, m := range t.d.machinesOf(t.host) {
		key := m.MAC.String()
		b, err := t.d.o.Store.Boot(ctx, key)
		if err != nil {
			return err
		}
		if !t.closes(b.Attempt) {
			continue
		}
		err = t.d.o.Store.ChangeBoot(ctx, key, func(b *fleet.Boot) error {
			if t.closes(b.Attempt) {
				b.Attempt = nil
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// findTicket finds a ticket that was begun, and the attempt that followed one: of the
// host, or of an address of its, from before it attested.
func (t *taking) findTicket(ctx context.Context, b *fleet.Boot) error {
	t.lookAt(b, t.host)
	for _, text := range t.r.MACs {
		if t.ticket != nil && t.attempt != nil {
			return nil
		}
		mac, err := netboot.ParseMAC(text)
		if err != nil || mac.IsZero() {
			continue
		}
		if m, ok := t.d.Machine(mac); ok && m.Host != t.host {
			continue // in quarantine: another's
		}
		x, err := t.d.o.Store.Boot(ctx, mac.String())
		if err != nil {
			return err
		}
		t.lookAt(&x, mac.String())
	}
	return nil
}

func (t *taking) lookAt(b *fleet.Boot, name string) {
	if k := b.Ticket; t.ticket == nil && k != nil && wasFollowed(k) && t.d.now().Before(k.Expires) {
		t.ticket, t.key = k, name
	}
	if a := b.Attempt; t.attempt == nil && a != nil && a.Ticket != "" {
		t.attempt = a
	}
}

// madeBy is the kind of the ticket that this boot was made by; empty: by none. Either
// the verdict on it has ended that ticket, or its attempt is of what runs.
func (t *taking) madeBy(b *fleet.Boot) string {
	seen := t.h.LastSeen
	switch {
	case !t.ram:
		return ""
	case b.Spent != nil && seen != nil && seen.Clock.ResetCount == b.Spent.Resets:
		return b.Spent.Kind
	case t.attempt == nil:
		return ""
	case t.runs == nil && t.attempt.Stem == t.stem(), t.mayRun(t.attempt.Digest):
		return t.attempt.Ticket
	}
	return ""
}

// install hands an install ticket to the boot that was made by it.
func (t *taking) install(ctx context.Context, b *fleet.Boot) error {
	k := t.ticket
	if k == nil || k.Kind != bootrule.Install || b.Handed != bootrule.Install || !t.ram {
		return nil
	}
	what := t.candidate(k.Began)
	if what == nil {
		return nil
	}
	if !t.r.Installs {
		t.order.Why = "an install is ordered, and this image does not install itself (install: in its recipe)"
		return nil
	}
	if k.Handed.IsZero() {
		at := t.d.now()
		err := t.d.o.Store.ChangeBoot(ctx, t.key, func(b *fleet.Boot) error {
			if b.Ticket == nil || !b.Ticket.At.Equal(k.At) {
				return ErrMoved
			}
			handed := *b.Ticket
			handed.Handed = at
			b.Ticket = &handed
			return nil
		})
		if err != nil {
			return err
		}
	}
	t.order.Install = &updateapi.InstallTicket{ID: ticketID(k), Release: k.Began, Version: what.Version, Force: k.Force}
	return nil
}

// done reports whether the ticket has brought what it is for. One of a single boot
// has when the machine attests what it booted by it; an install when the disk is
// written.
func (t *taking) done(b *fleet.Boot) bool {
	k := t.ticket
	if k.Kind != bootrule.Install {
		return t.ram && t.fresh && b.Handed == k.Kind && t.mayRun(k.Began)
	}
	i := t.r.Install
	return !t.ram && t.fresh && t.d.isWritten(t.h, k) || i != nil && i.Phase == updateapi.InstallDone && i.Ticket == ticketID(k)
}

func ticketID(k *bootrule.Ticket) string { return fmt.Sprintf("%s-%x", k.Kind, k.At.UnixNano()) }
