package dispatch

import (
	"context"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Saw implements netboot.Watcher. It does not block: what has to be written, Run
// writes.
func (d *Dispatcher) Saw(e netboot.Event) {
	d.o.Timeline.Saw(e)
	if e.Stage != netboot.Last || !strings.HasSuffix(e.Path, "/"+bootrule.Memtest+".efi") {
		return
	}
	plain, _, _ := strings.Cut(strings.TrimPrefix(e.Path, "boot/"), "/")
	if mac, err := netboot.ParseMAC(plain); err == nil {
		select {
		case d.loads <- mac:
		default: // the ticket lasts until its end
		}
	}
}

// keepEach is how often timelines are written, and keepMany how many at once.
const (
	keepEach = 5 * time.Second
	keepMany = 256
)

// Run keeps timelines, beside the way that boots go, until the context ends. What
// was seen in the last seconds before a crash is lost; all else is there again
// after a restart.
func (d *Dispatcher) Run(ctx context.Context) {
	tick := time.NewTicker(keepEach)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.failed("", "keep what was seen of boots", d.Keep(context.WithoutCancel(ctx)))
			return
		case mac := <-d.loads:
			d.loaded(ctx, mac)
		case <-tick.C:
			d.failed("", "keep what was seen of boots", d.Keep(ctx))
		}
	}
}

// isNamed reports whether somebody has named a machine: it attested, an operator gave
// an order for it, or rules write its address out. Of others that only asked nothing
// is kept. The timeline calls it locked: it must not call the timeline.
func (d *Dispatcher) isNamed(mac netboot.MAC) bool {
	d.mu.Lock()
	_, attested := d.known.machines[mac]
	named := attested || d.ordered[mac]
	d.mu.Unlock()
	if named {
		return true
	}
	r := d.o.Site.Rules()
	return r != nil && r.Names(mac)
}

// order remembers that a key of boots was ordered something, if it is a machine.
func (d *Dispatcher) order(key string) {
	mac, err := netboot.ParseMAC(key)
	if err != nil || !strings.Contains(key, ":") { // a host may be called like digits
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ordered[mac] = true
}

// Keep writes what has changed of timelines. What cannot be written is tried again with
// the next call.
func (d *Dispatcher) Keep(ctx context.Context) error {
	for {
		list, err := d.o.Timeline.Changed(keepMany)
		if err != nil || len(list) == 0 {
			return err
		}
		out := make([]fleet.Timeline, len(list))
		for i, k := range list {
			out[i] = fleet.Timeline{MAC: k.MAC, At: k.At, Body: k.Body}
		}
		if err := d.o.Store.PutTimelines(ctx, out); err != nil {
			d.o.Timeline.NotKept(list)
			return err
		}
	}
}

// loaded ends a ticket for the memory test with its last byte: nothing attests
// there. Who forges the address of a machine can spend such a ticket.
func (d *Dispatcher) loaded(ctx context.Context, mac netboot.MAC) {
	keys := []string{mac.String()}
	if m, ok := d.Machine(mac); ok {
		keys = append(keys, m.Host)
	}
	for _, k := range keys {
		err := d.o.Store.ChangeBoot(ctx, k, func(b *fleet.Boot) error {
			if b.Ticket != nil && b.Ticket.Kind == bootrule.Memtest && !b.Ticket.Begun.IsZero() {
				b.Ticket, b.Attempt = nil, nil
			}
			return nil
		})
		d.failed(k, "end its ticket", err)
	}
}
