package dispatch

import (
	"context"
	"fmt"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// taking is one report while it is taken.
type taking struct {
	d          *Dispatcher
	h          *fleet.Host
	host       string
	r          *updateapi.BootReport
	candidates []*bootrule.Release // that it may run, by the newest verdict
	runs       *bootrule.Release   // nil: it is none of the releases
	ram        bool
	wants      *assign.Assignment

	fresh   bool // the first report of this boot
	waits   bool // what it tries is not among the releases now
	ticket  *bootrule.Ticket
	key     string         // of the ticket
	attempt *fleet.Attempt // that followed a ticket
	order   updateapi.BootOrder
	state   *slot.State // the slots, where they were touched
	// blessed says that the report made what runs the good release.
	blessed bool
}

// Booted takes the report of an attested host. The first of a boot closes the
// attempt; those of a trial bless it or end it.
func (d *Dispatcher) Booted(ctx context.Context, h *fleet.Host, r updateapi.BootReport) (updateapi.BootOrder, error) {
	t := &taking{d: d, h: h, host: h.Record.Name, r: &r, ram: r.Path != diskBoot}
	if h.Trusted { // what another image says of the machine is not known to be true
		t.ram = t.ram && (h.Last == nil || h.Last.Boot != diskBoot)
		if err := d.learn(ctx, h, &r); err != nil {
			return t.order, err
		}
	}
	t.candidates = d.candidates(h)
	var err error
	if t.wants, err = d.o.Store.Assignment(ctx, t.host); err != nil {
		return t.order, err
	}
	if err := t.take(ctx); err != nil {
		return t.order, fmt.Errorf("take report of %s: %w", t.host, err)
	}
	return t.order, nil
}

// take changes what is kept, when there is something to change.
func (t *taking) take(ctx context.Context) error {
	d := t.d
	b, err := d.o.Store.Boot(ctx, t.host)
	if err != nil {
		return err
	}
	t.fresh = b.Seen != t.r.Boot
	if err := t.findTicket(ctx, &b); err != nil {
		return err
	}
	t.findRelease(&b)
	t.waits = t.isAway(&b)
	if t.ram {
		t.tellTimeline(&b)
	}
	if t.idle(&b) {
		return nil
	}
	before, after := b, b
	err = d.o.Store.ChangeBoot(ctx, t.host, func(b *fleet.Boot) error {
		t.state, t.blessed = nil, false
		err := t.change(b)
		after = *b
		return err
	})
	if err != nil {
		return err
	}
	if err := t.closeByAddress(ctx); err != nil {
		return err
	}
	if err := t.install(ctx, &after); err != nil {
		return err
	}
	if t.blessed {
		d.sawHost(t.host, &before, "", timeline.Released, t.stem(), "")
	}
	if t.ticket != nil && t.done(&after) {
		if err := d.endTicket(ctx, t.host, t.ticket.Kind); err != nil {
			return err
		}
		t.order.Install = nil
	}
	if t.state != nil {
		return d.publish(ctx, t.host, *t.state)
	}
	return nil
}

// tellTimeline says what a report says of the boot. That the host attested, its
// verdict has said, unless it was trusted at the second look.
func (t *taking) tellTimeline(b *fleet.Boot) {
	if t.fresh && t.runs != nil && !t.d.reached(t.host, b, netboot.Attested) {
		t.d.sawHost(t.host, b, "", netboot.Attested, t.stem(), "")
	}
	if t.r.Healthy > 0 && (t.fresh && !t.waits || !b.Fit) {
		t.d.sawHost(t.host, b, "", netboot.Healthy, t.stem(), "")
	}
}

func (t *taking) stem() string {
	if t.runs == nil {
		return t.r.Name + "-" + t.r.Version
	}
	return t.runs.Stem()
}

// idle reports whether a report changes nothing: most do not.
func (t *taking) idle(b *fleet.Boot) bool {
	if t.fresh || b.Attempt != nil || b.Fit != (t.r.Healthy > 0) || t.ticket != nil {
		return false
	}
	if len(b.Journal) == 0 {
		return !t.ram || t.r.Healthy == 0 || t.runs == nil
	}
	r, err := slot.Parse(b.Journal)
	if err != nil {
		return false // said by the change
	}
	if r.Phase == slot.Trying || r.Phase == slot.Blessed || r.Phase == slot.Armed {
		return false
	}
	w := t.wanted()
	return w == nil || r.Of(r.Good).Image == w.Image || r.Candidate != slot.None && r.Of(r.Candidate).Image == w.Image && r.Phase != slot.Staged && !t.wants.Override
}

// wanted is the release that an operator has assigned, as slots name it.
func (t *taking) wanted() *slot.Content {
	if t.wants == nil {
		return nil
	}
	r := t.d.release(t.wants.Release)
	if r == nil {
		return nil
	}
	c, err := contentOf(*r)
	if err != nil {
		return nil
	}
	return &c
}

// isAway reports whether a trusted host runs a try of which the release is not served at
// the moment. Its slots can be told nothing then: that the boot has begun is said by
// the first report that finds the release again.
func (t *taking) isAway(b *fleet.Boot) bool {
	a := b.Attempt
	return t.fresh && t.h.Trusted && t.ram && t.runs == nil && a != nil && a.Trial && a.Stem == t.stem()
}

// closes reports whether this report ends an attempt: the first of a boot does. What is
// not trusted leaves a ticket as it was.
func (t *taking) closes(a *fleet.Attempt) bool {
	return t.fresh && !t.waits && a != nil && (a.Stem == t.stem() || t.ram) && (t.runs != nil || a.Ticket == "")
}

// change is what a report does to what is kept of the host.
func (t *taking) change(b *fleet.Boot) error {
	if t.fresh && !t.waits {
		b.Seen, b.Handed, b.Spent = t.r.Boot, t.madeBy(b), nil
	}
	if t.closes(b.Attempt) {
		b.Attempt = nil
	}
	b.Fit = t.r.Healthy > 0
	if !t.ram || t.runs == nil {
		return nil
	}
	if b.Handed != "" {
		return nil // one boot by order is no try, and makes nothing good
	}
	c, err := contentOf(*t.runs)
	if err != nil {
		return err
	}
	return t.d.open.during(t.host, &b.Entry, func() error {
		if len(b.Journal) == 0 {
			return t.enrol(c)
		}
		return t.tell(c)
	})
}
