package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Bounds of tickets.
const (
	defaultTTL = 24 * time.Hour
	maxTTL     = 30 * 24 * time.Hour
)

// Codes of refusals.
const (
	codeTicket     = "boot.ticket"     // the order makes no sense for this machine
	codeQuarantine = "boot.quarantine" // there is none
)

// Order implements verifier.Boots.
func (d *Dispatcher) Order(ctx context.Context, name string, o verifier.BootOrder, by string) error {
	name = d.spelled(ctx, name)
	key, macs, err := d.whose(ctx, name)
	if err != nil {
		return err
	}
	switch o.Action {
	case verifier.OrderOnce:
		return d.once(ctx, key, macs, o, by)
	case verifier.OrderNoOnce:
		return d.noOnce(ctx, key, macs)
	case verifier.OrderUnquarantine:
		return d.unquarantine(ctx, name, macs, o.Host)
	}
	return &updateapi.Error{Code: updateapi.Malformed, Detail: fmt.Sprintf("there is no action %.40q", o.Action)}
}

// once keeps a ticket that the machine can follow.
func (d *Dispatcher) once(ctx context.Context, key string, macs []netboot.MAC, o verifier.BootOrder, by string) error {
	k, err := d.ticket(o, by)
	if err != nil {
		return err
	}
	for _, mac := range macs[:min(len(macs), 1)] {
		if err := d.possible(ctx, mac, k); err != nil {
			return err
		}
	}
	d.order(key)
	return d.o.Store.ChangeBoot(ctx, key, func(b *fleet.Boot) error {
		b.Ticket = k
		return nil
	})
}

func (d *Dispatcher) ticket(o verifier.BootOrder, by string) (*bootrule.Ticket, error) {
	bad := func(hint, format string, args ...any) (*bootrule.Ticket, error) {
		return nil, &updateapi.Error{Code: updateapi.Malformed, Detail: fmt.Sprintf(format, args...), Hint: hint}
	}
	ttl := defaultTTL
	if o.TTL != 0 {
		if o.TTL < 1 || o.TTL > maxTTL.Seconds() {
			return bad("", "a ticket lasts a second to %d days", int(maxTTL.Hours())/24)
		}
		ttl = seconds(o.TTL)
	}
	now := d.now()
	k := &bootrule.Ticket{Kind: o.Boot, Force: o.Force, By: by, At: now, Expires: now.Add(ttl)}
	target := ""
	switch kind, rest, _ := strings.Cut(o.Boot, ":"); {
	case o.Boot == bootrule.Rescue, o.Boot == bootrule.Memtest, o.Boot == bootrule.Install:
	case kind == bootrule.Install:
		k.Kind, target = bootrule.Install, rest
	default:
		k.Kind, target = bootrule.Once, o.Boot
	}
	if target != "" || k.Kind == bootrule.Once {
		t, err := bootrule.ParseTarget(target)
		if err != nil {
			return bad("install, install:RELEASE, rescue, memtest, NAME, NAME@VERSION or sha256:DIGITS", "boot once %.80q: %v", o.Boot, err)
		}
		k.Target = t
	}
	if o.Force && k.Kind != bootrule.Install {
		return bad("", "force is for an install")
	}
	return k, nil
}

// possible says why a ticket would bring a machine nothing.
func (d *Dispatcher) possible(ctx context.Context, mac netboot.MAC, k *bootrule.Ticket) error {
	c, _ := d.client(mac)
	m, _ := d.Machine(mac)
	f := d.facts(c, m)
	if m.Host != "" {
		h, err := d.o.Store.Host(ctx, m.Host)
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return err
		}
		f.EK = endorsement(h)
	}
	x := bootrule.Decide(bootrule.Case{Facts: f, Rules: d.o.Site.Rules(), Releases: d.o.Site.Releases(), Ticket: k, Now: d.now()})
	if a := d.answer(c, x); a.Verb != netboot.Boot {
		return &updateapi.Error{Code: codeTicket, Detail: a.Reason, Hint: "ingot hosts " + mac.String() + " --explain"}
	}
	return nil
}

func (d *Dispatcher) noOnce(ctx context.Context, key string, macs []netboot.MAC) error {
	found := false
	for _, k := range append([]string{key}, texts(macs)...) {
		err := d.o.Store.ChangeBoot(ctx, k, func(b *fleet.Boot) error {
			found = found || b.Ticket != nil
			b.Ticket = nil
			if b.Attempt != nil && b.Attempt.Ticket != "" {
				b.Attempt = nil
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !found {
		return &updateapi.Error{Code: codeTicket, Detail: "there is no ticket for " + key}
	}
	return nil
}

// unquarantine takes an operator's word that a machine is the host that it attested
// as, which is the one that the operator has been shown.
func (d *Dispatcher) unquarantine(ctx context.Context, name string, macs []netboot.MAC, host string) error {
	var list []fleet.Machine
	for _, mac := range macs {
		m, _ := d.Machine(mac)
		if m.Quarantine == "" {
			continue
		}
		if is := m.AttestedAs(); is != host {
			return &updateapi.Error{Code: codeQuarantine, Detail: fmt.Sprintf("%s has attested as %s, and the order is for %.70s", mac, is, words(host, "no host")), Hint: "ingot hosts " + mac.String() + " --explain"}
		}
		// What it was known by is forgotten: its next report says it anew.
		list = append(list, fleet.Machine{MAC: mac, Host: host, Arch: m.Arch, At: d.now()})
	}
	if len(list) == 0 {
		return &updateapi.Error{Code: codeQuarantine, Detail: name + " is not in quarantine"}
	}
	return d.remember(ctx, list, nil)
}
