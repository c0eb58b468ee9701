package dispatch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/netslot"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// endorsement are the names of a host's endorsement key.
func endorsement(h *fleet.Host) []string {
	if !reachable(h) {
		return nil
	}
	out := []string{hex.EncodeToString(h.Record.EKName)}
	if sum := verifier.EKFingerprint(h.EK); sum != "" {
		out = append([]string{sum}, out...)
	}
	return out
}

// telling is one report while it is taken.
type telling struct {
	d     *Dispatcher
	host  string
	r     *updateapi.BootReport
	runs  *bootrule.Release // by the newest verdict; nil: it is none of the releases
	ram   bool
	wants *assign.Assignment

	fresh  bool // the first report of this boot
	ticket *bootrule.Ticket
	key    string // of the ticket
	order  updateapi.BootOrder
	state  *slot.State // the slots, where they were touched
	// blessed says that the report made what runs the good release.
	blessed bool
}

// Booted takes the report of an attested host. The first of a boot closes the
// attempt; those of a trial bless it or end it.
func (d *Dispatcher) Booted(ctx context.Context, h *fleet.Host, r updateapi.BootReport) (updateapi.BootOrder, error) {
	t := &telling{d: d, host: h.Record.Name, r: &r, ram: r.Path != diskBoot}
	if l := h.Last; l != nil && h.Trusted {
		t.runs = d.named(l.Release, l.Version, l.Arch)
		t.ram = t.ram && l.Boot != diskBoot
	}
	if h.Trusted { // what another image says of the machine is not known to be true
		if err := d.learn(ctx, h, &r); err != nil {
			return t.order, err
		}
	}
	var err error
	if t.wants, err = d.o.Store.Assignment(ctx, t.host); err != nil {
		return t.order, err
	}
	if err := t.take(ctx); err != nil {
		return t.order, fmt.Errorf("take report of %s: %w", t.host, err)
	}
	return t.order, nil
}

// named is a release by name and version; with several of one version, that for
// the host's processor.
func (d *Dispatcher) named(name, version, arch string) *bootrule.Release {
	list := d.o.Site.Releases()
	for i := range list {
		if r := &list[i]; r.Name == name && r.Version == version && (arch == "" || r.Arch == arch) {
			return r
		}
	}
	return nil
}

// learn has the MAC addresses of an attested host stand for it. An address that
// stands for another host already, or for other hardware, is quarantined: what was
// chosen by it was chosen for somebody else (S17).
func (d *Dispatcher) learn(ctx context.Context, h *fleet.Host, r *updateapi.BootReport) error {
	var list []fleet.Machine
	for _, text := range r.MACs {
		mac, err := netboot.ParseMAC(text)
		if err != nil || mac.IsZero() {
			continue
		}
		m := fleet.Machine{MAC: mac, Host: h.Record.Name, UUID: r.UUID, Serial: r.Serial, Asset: r.Asset, Arch: d.Arch(mac), At: d.now()}
		if !bootrule.Identifies(m.UUID) {
			m.UUID = ""
		}
		old, known := d.Machine(mac)
		if known {
			if m, err = d.compare(ctx, old, m); err != nil {
				return err
			}
			stays := m
			if stays.At = old.At; stays == old {
				continue
			}
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil
	}
	if err := d.o.Store.PutMachines(ctx, list...); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range list {
		d.known.put(m)
	}
	return nil
}

// compare holds what a machine says now against what it has said before.
func (d *Dispatcher) compare(ctx context.Context, old, now fleet.Machine) (fleet.Machine, error) {
	if now.Arch == netboot.Unknown {
		now.Arch = old.Arch
	}
	odd := ""
	switch {
	case old.Quarantine != "":
		old.Claimed = now.Host
		return old, nil
	case old.Host != now.Host:
		h, err := d.o.Store.Host(ctx, old.Host)
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return now, err
		}
		if !reachable(h) || h.Reenrol {
			return now, nil
		}
		odd = fmt.Sprintf("%s booted as %s and attested as %s", now.MAC, old.Host, now.Host)
	case old.Serial != "" && now.Serial != "" && old.Serial != now.Serial:
		odd = fmt.Sprintf("%s had serial number %.40s and has %.40s", now.MAC, old.Serial, now.Serial)
	case old.UUID != "" && now.UUID != "" && old.UUID != now.UUID:
		odd = fmt.Sprintf("%s had UUID %.40s and has %.40s", now.MAC, old.UUID, now.UUID)
	}
	if odd != "" {
		old.Quarantine, old.Claimed = odd, now.Host
		return old, nil
	}
	if now.Serial == "" { // a later image may not tell
		now.Serial = old.Serial
	}
	if now.Asset == "" {
		now.Asset = old.Asset
	}
	if now.UUID == "" {
		now.UUID = old.UUID
	}
	return now, nil
}

// take changes what is kept, when there is something to change.
func (t *telling) take(ctx context.Context) error {
	d := t.d
	b, err := d.o.Store.Boot(ctx, t.host)
	if err != nil {
		return err
	}
	t.fresh = b.Seen != t.r.Boot
	if err := t.findTicket(ctx, &b); err != nil {
		return err
	}
	if t.ram {
		t.tellTimeline(&b)
	}
	if t.idle(&b) {
		return nil
	}
	before := b
	err = d.o.Store.ChangeBoot(ctx, t.host, func(b *fleet.Boot) error {
		t.state, t.blessed = nil, false
		return t.change(b)
	})
	if err != nil {
		return err
	}
	t.install(&before)
	if t.blessed {
		d.sawHost(t.host, &before, "", timeline.Released, t.stem(), "")
	}
	if t.ticket != nil && t.done() {
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
func (t *telling) tellTimeline(b *fleet.Boot) {
	if t.fresh && t.runs != nil && !t.d.reached(t.host, b, netboot.Attested) {
		t.d.sawHost(t.host, b, "", netboot.Attested, t.stem(), "")
	}
	if t.r.Healthy > 0 && (t.fresh || !b.Fit) {
		t.d.sawHost(t.host, b, "", netboot.Healthy, t.stem(), "")
	}
}

func (t *telling) stem() string {
	if t.runs == nil {
		return t.r.Name + "-" + t.r.Version
	}
	return t.runs.Stem()
}

// findTicket finds a ticket that was begun: of the host, or of an address of its.
func (t *telling) findTicket(ctx context.Context, b *fleet.Boot) error {
	names := []string{t.host}
	if b.Ticket == nil {
		for _, text := range t.r.MACs {
			if mac, err := netboot.ParseMAC(text); err == nil && !mac.IsZero() {
				names = append(names, mac.String())
			}
		}
	}
	for _, name := range names {
		x := *b
		if name != t.host {
			var err error
			if x, err = t.d.o.Store.Boot(ctx, name); err != nil {
				return err
			}
		}
		if k := x.Ticket; k != nil && !k.Begun.IsZero() && t.d.now().Before(k.Expires) {
			t.ticket, t.key = k, name
			return nil
		}
	}
	return nil
}

// idle reports whether a report changes nothing: most do not.
func (t *telling) idle(b *fleet.Boot) bool {
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
func (t *telling) wanted() *slot.Content {
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

// change is what a report does to what is kept of the host.
func (t *telling) change(b *fleet.Boot) error {
	a := b.Attempt
	byTicket := a != nil && a.Ticket != "" && t.fresh
	if t.fresh {
		b.Seen = t.r.Boot
		if a != nil && (a.Stem == t.stem() || t.ram) {
			b.Attempt = nil
		}
		b.Handed = ""
		if t.ticket != nil {
			b.Handed = t.ticket.Kind
		}
	}
	b.Fit = t.r.Healthy > 0
	if !t.ram || t.runs == nil {
		return nil
	}
	if byTicket || b.Handed != "" {
		return nil // one boot by order is no try, and makes nothing good
	}
	c, err := contentOf(*t.runs)
	if err != nil {
		return err
	}
	return t.d.open.with(t.host, &b.Entry, func() error {
		if len(b.Journal) == 0 {
			return t.enrol(c)
		}
		return t.tell(c)
	})
}

// enrol makes what a host without slots runs, and runs well, its good release.
func (t *telling) enrol(c slot.Content) error {
	if t.r.Healthy == 0 {
		return nil
	}
	if err := t.d.slots.Enrol(t.host, c); err != nil {
		return err
	}
	st, err := t.d.slots.State(t.host)
	t.state, t.blessed = &st, err == nil
	return err
}

// tell gives the report to the slots as the events that it is.
func (t *telling) tell(c slot.Content) error {
	s := t.d.slots
	st, err := s.State(t.host)
	if err != nil {
		return err
	}
	t.state = &st
	mine := st.Of(st.Good).Image == c.Image || st.Candidate != slot.None && st.Of(st.Candidate).Image == c.Image
	if !mine {
		return nil // booted by rules that were others then, or by hand
	}
	handle := func(f func() (netslot.Outcome, error)) {
		if err != nil {
			return
		}
		var out netslot.Outcome
		if out, err = f(); err == nil {
			st = out.State
			t.order.Reset = t.order.Reset || out.Reset
			if n := len(out.Reports); n > 0 {
				t.order.Why = out.Reports[n-1]
			}
		}
	}
	if t.fresh {
		handle(func() (netslot.Outcome, error) { return s.Booted(t.host, c.Image, t.evidence()) })
		t.order.Reset = false // a boot that has begun is not told to end by what was before it
	}
	if before := st.Phase; before == slot.Trying || before == slot.Blessed {
		t.health(handle)
		t.blessed = err == nil && before == slot.Trying && st.Phase == slot.Blessed
	}
	if err == nil && st.Of(st.Good).Image == c.Image {
		t.arm(&st, handle)
	}
	return err
}

// health tells since when all is well, and that it is, or what is not.
func (t *telling) health(handle func(func() (netslot.Outcome, error))) {
	s, r := t.d.slots, t.r
	up, well := seconds(r.Uptime), seconds(r.Healthy)
	handle(func() (netslot.Outcome, error) { return s.Handle(t.host, slot.Event{Kind: slot.Verdict, OK: true}) })
	if well > 0 {
		handle(func() (netslot.Outcome, error) { return s.Health(t.host, false, slot.NoCause, "", 0) }) // it begins again with since
		handle(func() (netslot.Outcome, error) { return s.Health(t.host, true, slot.NoCause, "", up-well) })
		handle(func() (netslot.Outcome, error) { return s.Health(t.host, true, slot.NoCause, "", up) })
		return
	}
	handle(func() (netslot.Outcome, error) {
		return s.Health(t.host, false, causeNamed(r.Cause), r.Detail, up)
	})
}

// arm has an assigned release wait for the host, which is told to start again when
// it may be tried and was not yet. A try that has failed is armed once more with
// the next boot of the good release, and waits for the one after.
func (t *telling) arm(st *slot.State, handle func(func() (netslot.Outcome, error))) {
	s := t.d.slots
	if st.Phase == slot.Failed && st.TriesLeft > 0 && t.fresh {
		handle(func() (netslot.Outcome, error) { return s.Handle(t.host, slot.Event{Kind: slot.Approve}) })
		t.order.Reset = false
		return
	}
	w := t.wanted()
	if w == nil || w.Image == st.Of(st.Good).Image {
		return
	}
	if name := t.d.overridden(t.wants); name != "" && st.IsRejected(*w) {
		handle(func() (netslot.Outcome, error) {
			return s.Handle(t.host, slot.Event{Kind: slot.Override, Release: slot.Content{Version: name}})
		})
	}
	handle(func() (netslot.Outcome, error) {
		next, said, err := stage(s, t.host, *w, t.wants.Approved)
		return netslot.Outcome{State: next, Reports: said}, err
	})
	if st.Phase == slot.Armed && !st.Launched && st.Arms == 1 && t.wants.Approved {
		t.order.Reset, t.order.Why = true, "the server has "+w.Version+" for this machine"
	}
}

func (t *telling) evidence() (out []slot.Evidence) {
	for _, e := range t.r.Evidence {
		out = append(out, slot.Evidence{Cause: causeNamed(e.Cause), Detail: e.Detail})
	}
	return out
}

// install hands an install ticket to the machine that booted by it.
func (t *telling) install(before *fleet.Boot) {
	k := t.ticket
	if k == nil || k.Kind != bootrule.Install || !t.ram || t.runs == nil {
		return
	}
	if !t.r.Installs {
		t.order.Why = "an install is ordered, and this image does not install itself (install: in its recipe)"
		return
	}
	t.order.Install = &updateapi.InstallTicket{ID: ticketID(k), Release: t.runs.Digest, Version: t.runs.Version, Force: k.Force}
}

// done reports whether the ticket has brought what it is for. One of a single boot
// has when the machine attests; an install when the disk is written.
func (t *telling) done() bool {
	k := t.ticket
	if k.Kind != bootrule.Install {
		return t.ram && t.fresh
	}
	i := t.r.Install
	return !t.ram && t.fresh || i != nil && i.Phase == updateapi.InstallDone && i.Ticket == ticketID(k)
}

func ticketID(k *bootrule.Ticket) string { return fmt.Sprintf("%s-%x", k.Kind, k.At.UnixNano()) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
