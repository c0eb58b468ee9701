package dispatch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Decision is a decision with what it was made of.
type Decision struct {
	bootrule.Decision
	Host string // "" for a machine that never attested

	key       string // under which boots are kept: the host, or the MAC address
	ticketKey string // likewise, of the ticket
	boot      fleet.Boot
	assigned  *assign.Assignment
}

// Decide says what a client boots. Nothing changes.
func (d *Dispatcher) Decide(ctx context.Context, c netboot.Client) (Decision, error) {
	return d.decide(ctx, d.o.Store, c)
}

// reader is what a decision reads of a Store.
type reader interface {
	Host(ctx context.Context, name string) (*fleet.Host, error)
	Assignment(ctx context.Context, name string) (*assign.Assignment, error)
	Boot(ctx context.Context, name string) (fleet.Boot, error)
}

func (d *Dispatcher) decide(ctx context.Context, k reader, c netboot.Client) (Decision, error) {
	c = d.complete(c)
	m := d.machine(c)
	rules := d.o.Site.Rules()
	x := bootrule.Case{Facts: d.facts(c, m), Rules: rules, Releases: d.o.Site.Releases(), Now: d.now()}
	out := Decision{Host: m.Host, key: c.MAC.String()}
	if m.Host != "" {
		out.key = m.Host
	}
	if err := d.gather(ctx, k, &out, &x, c.MAC); err != nil {
		return out, fmt.Errorf("decide for %s: %w", c.MAC, err)
	}
	out.Decision = bootrule.Decide(x)
	return out, nil
}

// gather reads what the store has of a machine.
func (d *Dispatcher) gather(ctx context.Context, k reader, out *Decision, x *bootrule.Case, mac netboot.MAC) (err error) {
	if out.boot, err = k.Boot(ctx, out.key); err != nil {
		return err
	}
	x.Ticket, out.ticketKey = out.boot.Ticket, out.key
	if out.Host == "" {
		return nil
	}
	if x.Ticket == nil || !x.Now.Before(x.Ticket.Expires) { // one that was given before it attested
		b, err := k.Boot(ctx, mac.String())
		if err != nil {
			return err
		}
		if b.Ticket != nil {
			x.Ticket, out.ticketKey = b.Ticket, mac.String()
		}
	}
	if x.Rules != nil && x.Rules.NeedsRecord() {
		h, err := k.Host(ctx, out.Host)
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return err
		}
		x.Facts.EK = endorsement(h)
	}
	if out.assigned, err = k.Assignment(ctx, out.Host); err != nil {
		return err
	}
	if a := out.assigned; a != nil {
		x.Assigned = &bootrule.Assigned{Digest: a.Release, Version: a.Version, By: a.By, Approved: a.Approved}
	}
	if len(out.boot.Journal) > 0 {
		x.Peek = func(want bootrule.Release, approved bool) bootrule.Peeked { return d.peek(out, want, approved) }
	}
	return nil
}

// facts are what rules are asked about. What an attested machine has reported of
// itself counts before what a packet says now.
func (d *Dispatcher) facts(c netboot.Client, m fleet.Machine) bootrule.Facts {
	f := bootrule.Facts{MAC: c.MAC, UUID: c.UUID, Arch: c.Arch, IPXE: c.IPXE, Host: m.Host, Serial: m.Serial, Asset: m.Asset, Quarantine: m.Quarantine}
	if m.MAC == c.MAC && m.UUID != "" {
		f.UUID = m.UUID
	}
	for _, a := range []netip.Addr{c.Addr, c.Relay} {
		if a.IsValid() && !a.IsUnspecified() {
			f.Addrs = append(f.Addrs, a)
		}
	}
	if c.Link != "" && !c.Relay.IsValid() && d.o.Link != nil {
		for _, p := range d.o.Link(c.Link) {
			f.Addrs = append(f.Addrs, p.Addr())
		}
	}
	return f
}

// reachable reports whether a host is one that may boot as itself.
func reachable(h *fleet.Host) bool { return h != nil && h.Record.State != attest.Revoked }
