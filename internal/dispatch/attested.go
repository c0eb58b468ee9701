package dispatch

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// diskBoot is the boot path of verdicts (package predict) that is not the network.
const diskBoot = "disk"

// Attested takes a verdict that is proven to be the host's. It says whether an
// open attempt was the host's own.
func (d *Dispatcher) Attested(ctx context.Context, before *fleet.Host, v *attest.Verdict, address string) {
	host := before.Record.Name
	b, err := d.o.Store.Boot(ctx, host)
	if err != nil {
		return // the next verdict comes within an interval
	}
	again := before.LastSeen != nil && before.LastSeen.Clock.ResetCount == v.Clock.ResetCount
	d.tellTimeline(before, &b, v, address, again)
	if b.Attempt == nil {
		return
	}
	switch {
	case forged(b.Attempt, v, d.now()):
		d.giveBack(ctx, host)
	case again:
	case v.Trusted:
		d.spend(ctx, host, v)
	case b.Attempt.Trial && b.Attempt.Stem == v.Release+"-"+v.Version:
		d.refused(ctx, host, v)
	}
}

// tellTimeline says that a boot has attested, or was refused, once. From a disk that
// is of a boot over the network only when one was seen shortly before.
func (d *Dispatcher) tellTimeline(before *fleet.Host, b *fleet.Boot, v *attest.Verdict, address string, again bool) {
	host, stage, detail := before.Record.Name, netboot.Attested, v.Boot
	if !v.Trusted {
		stage, detail = timeline.Untrusted, string(v.Reason())
	}
	mac := d.macOf(host, b, address)
	switch {
	case again && (before.Trusted == v.Trusted || d.o.Timeline.Reached(mac, stage)):
	case (v.Boot == diskBoot || v.Boot == "") && !d.o.Timeline.Going(mac, d.now()):
	default:
		d.sawHost(host, b, address, stage, strings.Trim(v.Release+"-"+v.Version, "-"), detail)
	}
}

// forged reports whether an attempt was not the host's: its TPM was not reset
// since; or once, by the boot that attests now, which is of another release and
// began when the window was over. With a boot of the attempt between there would
// have been two. A count that is not known says nothing.
func forged(a *fleet.Attempt, v *attest.Verdict, now time.Time) bool {
	if a.Resets == nil {
		return false
	}
	switch n := v.Clock.ResetCount; {
	case n == *a.Resets:
		return true
	case n == *a.Resets+1:
		return a.Stem != v.Release+"-"+v.Version && !now.Before(a.Until)
	}
	return false
}

// giveBack forgets an attempt, and gives back the try and the ticket that it used.
func (d *Dispatcher) giveBack(ctx context.Context, host string) {
	var st *slot.State
	err := d.o.Store.ChangeBoot(ctx, host, func(b *fleet.Boot) error {
		st = nil
		a := b.Attempt
		if a == nil {
			return nil
		}
		b.Attempt = nil
		if b.Ticket != nil && b.Ticket.Kind == a.Ticket {
			k := *b.Ticket
			k.Begun = time.Time{}
			b.Ticket = &k
		}
		if !a.Trial || len(b.Journal) == 0 {
			return nil
		}
		return d.open.with(host, &b.Entry, func() error {
			out, err := d.slots.Return(host)
			st = &out.State
			return err
		})
	})
	if err == nil && st != nil {
		_ = d.publish(ctx, host, *st) // what a list shows; the journal is written
	}
}

// spend ends the ticket that brought the host up: one of a single boot with any
// attestation of what it boots, an install with one from the disk.
func (d *Dispatcher) spend(ctx context.Context, host string, v *attest.Verdict) {
	b, err := d.o.Store.Boot(ctx, host)
	a := b.Attempt
	if err != nil || a == nil || a.Ticket == "" { // others the report closes: it has the evidence of earlier boots
		return
	}
	installed := a.Ticket == bootrule.Install && v.Boot == diskBoot
	if a.Ticket == bootrule.Install && !installed || !installed && a.Stem != v.Release+"-"+v.Version {
		return
	}
	_ = d.endTicket(ctx, host, a.Ticket)
}

// endTicket takes a ticket of a host away that has been followed, under whichever
// name it was given, and closes its attempt.
func (d *Dispatcher) endTicket(ctx context.Context, host, kind string) error {
	names := []string{host}
	for _, m := range d.machinesOf(host) {
		names = append(names, m.MAC.String())
	}
	for _, name := range names {
		b, err := d.o.Store.Boot(ctx, name)
		if err != nil {
			return err
		}
		if b.Ticket == nil && (b.Attempt == nil || b.Attempt.Ticket == "") {
			continue
		}
		if err := d.o.Store.ChangeBoot(ctx, name, func(b *fleet.Boot) error {
			if k := b.Ticket; k != nil && k.Kind == kind && !k.Begun.IsZero() {
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

// refused ends a trial that was started and is not trusted.
func (d *Dispatcher) refused(ctx context.Context, host string, v *attest.Verdict) {
	var st *slot.State
	detail := string(v.Reason())
	err := d.o.Store.ChangeBoot(ctx, host, func(b *fleet.Boot) error {
		st = nil
		a := b.Attempt
		if a == nil || !a.Trial || len(b.Journal) == 0 {
			return nil
		}
		image, err := hex.DecodeString(a.Digest)
		if err != nil || len(image) != 32 {
			return err
		}
		b.Attempt = nil
		return d.open.with(host, &b.Entry, func() error {
			if _, err := d.slots.Booted(host, slot.Digest(image), nil); err != nil {
				return err
			}
			out, err := d.slots.Handle(host, slot.Event{Kind: slot.Verdict, Detail: detail})
			st = &out.State
			return err
		})
	})
	if err == nil && st != nil {
		_ = d.publish(ctx, host, *st)
	}
}

// sawHost tells what became known of a host, of the machine that it is about.
func (d *Dispatcher) sawHost(host string, b *fleet.Boot, address string, stage netboot.Stage, release, detail string) {
	e := netboot.Event{Time: d.now(), Stage: stage, Host: host, MAC: d.macOf(host, b, address), Release: release, Detail: detail}
	e.Addr, _ = netip.ParseAddrPort(address)
	if d.o.Watcher != nil {
		d.o.Watcher.Saw(e)
	}
	if !e.MAC.IsZero() {
		d.o.Timeline.Saw(e)
	}
}

func (d *Dispatcher) reached(host string, b *fleet.Boot, stage netboot.Stage) bool {
	return d.o.Timeline.Reached(d.macOf(host, b, ""), stage)
}

// macOf is the machine that a host's word is about: that of its attempt, else the
// one that has its address, else its first. Zero: none is known.
func (d *Dispatcher) macOf(host string, b *fleet.Boot, address string) (mac netboot.MAC) {
	if b.Attempt != nil {
		mac = b.Attempt.MAC
	}
	if addr, err := netip.ParseAddrPort(address); err == nil && mac.IsZero() {
		mac = d.o.Timeline.At(addr.Addr())
	}
	if m, ok := d.Machine(mac); ok && m.Host != host {
		mac = netboot.MAC{} // behind the same gateway
	}
	if own := d.machinesOf(host); mac.IsZero() && len(own) > 0 {
		mac = own[0].MAC
	}
	return mac
}

// machinesOf are the MAC addresses of a host, in order.
func (d *Dispatcher) machinesOf(host string) []fleet.Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known.of(host)
}
