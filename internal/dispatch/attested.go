package dispatch

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/boot/slot"
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
		d.failed(host, "read what it boots", err)
		return
	}
	again := before.LastSeen != nil && before.LastSeen.Clock.ResetCount == v.Clock.ResetCount
	d.tellTimeline(before, &b, v, address, again)
	if b.Lost != nil || forged(b.Attempt, v, d.now()) {
		d.failed(host, "give back a try that was not its own", d.giveBack(ctx, host, v))
	}
	switch a := b.Attempt; {
	case forged(a, v, d.now()):
	case v.Trusted && v.Boot == diskBoot: // each verdict ends an install, in case that the first could not
		d.failed(host, "end its ticket", d.installed(ctx, host))
	case again && before.Trusted: // this boot was judged already
	case v.Trusted:
		d.failed(host, "end its ticket", d.spend(ctx, host, a, v))
	case a != nil && a.Trial && a.Stem == stemOf(v):
		d.failed(host, "end a try that is not trusted", d.refused(ctx, host, v))
	}
}

func stemOf(v *attest.Verdict) string { return v.Release + "-" + v.Version }

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
		d.sawHost(host, b, address, stage, strings.Trim(stemOf(v), "-"), detail)
	}
}

// forged reports whether an attempt was not the host's: its TPM was not reset
// since; or once, by the boot that attests now, which is of another release and
// began when the window was over. With a boot of the attempt between there would
// have been two. A count that is not known says nothing, and neither does the release
// of evidence that is not trusted: it is a guess.
func forged(a *fleet.Attempt, v *attest.Verdict, now time.Time) bool {
	if a == nil || a.Resets == nil {
		return false
	}
	switch n := v.Clock.ResetCount; {
	case n == *a.Resets:
		return true
	case n == *a.Resets+1:
		return v.Trusted && a.Stem != stemOf(v) && !now.Before(a.Until)
	}
	return false
}

// giveBack forgets attempts that were not the host's, and gives back the try and the
// ticket that they used.
func (d *Dispatcher) giveBack(ctx context.Context, host string, v *attest.Verdict) error {
	var st *slot.State
	var elsewhere *fleet.Attempt // that followed no ticket under the host's name
	err := d.o.Store.ChangeBoot(ctx, host, func(b *fleet.Boot) error {
		st, elsewhere = nil, nil
		now := d.now()
		var try *fleet.Attempt
		if a := b.Lost; a != nil {
			if forged(a, v, now) {
				try = a
			}
			if try != nil || v.Trusted || a.Resets == nil || v.Clock.ResetCount != *a.Resets+1 {
				b.Lost = nil // all is known that will be
			}
		}
		if a := b.Attempt; forged(a, v, now) {
			b.Attempt = nil
			if a.Ticket != "" && !asBefore(b, a) {
				elsewhere = a
			}
			if a.Trial {
				try = a
			}
		}
		if try == nil || len(b.Journal) == 0 {
			return nil
		}
		return d.open.during(host, &b.Entry, func() (err error) {
			st, err = d.giveBackTry(host, try)
			return err
		})
	})
	if err == nil && elsewhere != nil {
		err = d.o.Store.ChangeBoot(ctx, elsewhere.MAC.String(), func(b *fleet.Boot) error {
			asBefore(b, elsewhere)
			return nil
		})
	}
	if err != nil || st == nil {
		return err
	}
	return d.publish(ctx, host, *st)
}

// asBefore has a ticket be as it was before an attempt followed it; false: it is not here.
func asBefore(b *fleet.Boot, a *fleet.Attempt) bool {
	k := b.Ticket
	if k == nil || k.Kind != a.Ticket || k.Began != a.Digest {
		return false
	}
	again := *k
	again.Begun = time.Time{}
	b.Ticket = &again
	return true
}

// giveBackTry gives a try back to slots, unless they are about another release by now.
func (d *Dispatcher) giveBackTry(host string, a *fleet.Attempt) (*slot.State, error) {
	st, err := d.slots.State(host)
	if image := st.Of(st.Candidate).Image; err != nil || st.Candidate == slot.None || hex.EncodeToString(image[:]) != a.Digest {
		return nil, err
	}
	out, err := d.slots.Return(host)
	return &out.State, err
}

// refused ends a trial that was started and is not trusted.
func (d *Dispatcher) refused(ctx context.Context, host string, v *attest.Verdict) error {
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
		return d.open.during(host, &b.Entry, func() error {
			if _, err := d.slots.Booted(host, slot.Digest(image), nil); err != nil {
				return err
			}
			out, err := d.slots.Handle(host, slot.Event{Kind: slot.Verdict, Detail: detail})
			st = &out.State
			return err
		})
	})
	if err != nil || st == nil {
		return err
	}
	return d.publish(ctx, host, *st)
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
