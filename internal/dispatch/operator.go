package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

var _ verifier.Boots = (*Dispatcher)(nil)

// Lines implements verifier.Boots. Machines that attested come first, by host,
// then those that were only seen, newest first.
func (d *Dispatcher) Lines(ctx context.Context) ([]verifier.BootLine, error) {
	now := d.now()
	seen := map[netboot.MAC]timeline.Machine{}
	var strangers []netboot.MAC
	for _, m := range d.o.Timeline.Machines(now) {
		seen[m.MAC] = m
		if _, known := d.Machine(m.MAC); !known {
			strangers = append(strangers, m.MAC)
		}
	}
	all, err := d.o.Store.Boots(ctx)
	if err != nil {
		return nil, err
	}
	for name := range all { // a ticket for a machine that never asked
		if mac, err := netboot.ParseMAC(name); err == nil && strings.Contains(name, ":") {
			if _, known := d.Machine(mac); !known && seen[mac].MAC.IsZero() {
				strangers = append(strangers, mac)
			}
		}
	}
	var out []verifier.BootLine
	for _, mac := range append(d.attested(), strangers...) {
		line, err := d.line(ctx, readAtOnce{d.o.Store, all}, mac, seen[mac].Boot)
		if err != nil {
			return nil, err
		}
		out = append(out, line)
	}
	return out, nil
}

// attested are the MAC addresses that stand for hosts, by host.
func (d *Dispatcher) attested() (out []netboot.MAC) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for mac := range d.known.machines {
		out = append(out, mac)
	}
	slices.SortFunc(out, func(a, b netboot.MAC) int {
		return cmp.Or(strings.Compare(d.known.machines[a].Host, d.known.machines[b].Host), compareMAC(a, b))
	})
	return out
}

// readAtOnce has the boots of all machines: a list has thousands.
type readAtOnce struct {
	reader
	boots map[string]fleet.Boot
}

// Boot implements reader.
func (r readAtOnce) Boot(_ context.Context, name string) (fleet.Boot, error) {
	return r.boots[name], nil
}

func (d *Dispatcher) line(ctx context.Context, k reader, mac netboot.MAC, last *timeline.Boot) (verifier.BootLine, error) {
	c, _ := d.client(mac)
	x, err := d.decide(ctx, k, c)
	l := verifier.BootLine{MAC: mac.String(), Host: x.Host, Would: would(&x.Decision), Why: x.Reason, Last: x.boot.Recent, Seen: x.boot.RecentAt}
	if a := d.answer(c, x.Decision); a.Verb != x.Verb {
		l.Would, l.Why = would(&bootrule.Decision{}), a.Reason
	}
	if last != nil {
		l.Outcome, l.Stage, l.Died, l.Last, l.Seen = last.Outcome, last.Stage, last.Died, cmp.Or(last.Release, l.Last), last.Steps[len(last.Steps)-1].Time
	}
	return l, err
}

// client is a machine as it last asked. Of one that was never heard to ask, the
// firmware is taken for the most frequent one.
func (d *Dispatcher) client(mac netboot.MAC) (netboot.Client, string) {
	c, heard := d.question(mac)
	note := ""
	if !heard {
		note = "it was not heard to ask since the server started: rules about its subnet are left out"
	}
	if c.Arch == netboot.Unknown {
		c.Arch = netboot.EFIX64
		note = "it was not heard to ask yet: taken for " + netboot.EFIX64.String() + "; rules about its subnet are left out"
	}
	return c, note
}

// answer is what a machine is told of a decision. Of one whose firmware is a guess it is the
// decision alone.
func (d *Dispatcher) answer(c netboot.Client, x bootrule.Decision) netboot.Answer {
	if d.o.Answer != nil && d.Arch(c.MAC) != netboot.Unknown {
		return d.o.Answer(c, x)
	}
	a := netboot.Answer{Verb: x.Verb, Reason: x.Reason}
	if x.Release != nil {
		a.Path = "boot/" + c.MAC.Plain() + "/" + x.Release.Stem() + ".efi"
	}
	return a
}

// would is what a machine would get, in a word.
func would(x *bootrule.Decision) string {
	switch {
	case x.Release != nil:
		return x.Release.Stem()
	case x.Program != "":
		return "program:" + x.Program
	}
	return "local"
}

// Boot implements verifier.Boots.
func (d *Dispatcher) Boot(ctx context.Context, name string) (*verifier.BootDetail, error) {
	name = d.spelled(ctx, name)
	out := &verifier.BootDetail{Now: d.now(), Name: name, Machines: []verifier.BootMachine{}}
	key, macs, err := d.whose(ctx, name)
	if err != nil {
		return nil, err
	}
	if out.Host = key; strings.Contains(key, ":") {
		out.Host = ""
	}
	for _, k := range append([]string{key}, texts(macs)...) {
		b, err := d.o.Store.Boot(ctx, k)
		if err != nil {
			return nil, err
		}
		if out.Ticket == nil && b.Ticket != nil && out.Now.Before(b.Ticket.Expires) {
			out.Ticket = b.Ticket
		}
		if out.Attempt == nil {
			out.Attempt = underWay(&b, out.Now)
		}
	}
	for _, mac := range macs {
		m, err := d.explain(ctx, mac)
		if err != nil {
			return nil, err
		}
		out.Machines = append(out.Machines, m)
	}
	return out, nil
}

func texts(macs []netboot.MAC) (out []string) {
	for _, m := range macs {
		out = append(out, m.String())
	}
	return out
}

// spelled writes a MAC address with colons that has hyphens (as files of machines have) or
// nothing (as paths of boots have) between its bytes, unless a host has it as its name.
func (d *Dispatcher) spelled(ctx context.Context, name string) string {
	mac, err := netboot.ParseMAC(name)
	if err != nil || strings.Contains(name, ":") || len(d.machinesOf(name)) > 0 {
		return name
	}
	if _, err := d.o.Store.Host(ctx, name); !errors.Is(err, fleet.ErrNotFound) {
		return name
	}
	return mac.String()
}

// whose resolves a name: a MAC address with colons, which may be of a host, or a
// host.
func (d *Dispatcher) whose(ctx context.Context, name string) (key string, macs []netboot.MAC, err error) {
	if strings.Contains(name, ":") {
		mac, err := netboot.ParseMAC(name)
		if err != nil || mac.IsZero() {
			return "", nil, &updateapi.Error{Code: updateapi.Malformed, Detail: fmt.Sprintf("%.40q is no MAC address", name), Hint: "52:54:00:12:34:56"}
		}
		if m, ok := d.Machine(mac); ok {
			return m.Host, []netboot.MAC{mac}, nil
		}
		return mac.String(), []netboot.MAC{mac}, nil
	}
	for _, m := range d.machinesOf(name) {
		macs = append(macs, m.MAC)
	}
	if len(macs) > 0 {
		return name, macs, nil
	}
	if _, err := d.o.Store.Host(ctx, name); errors.Is(err, fleet.ErrNotFound) {
		return "", nil, &updateapi.Error{Code: string(attest.HostUnknown), Detail: fmt.Sprintf("%.70q is not enrolled", name), Hint: "a machine that never attested is named by its MAC address: 52:54:00:12:34:56"}
	} else if err != nil {
		return "", nil, err
	}
	return name, nil, nil
}

func (d *Dispatcher) explain(ctx context.Context, mac netboot.MAC) (verifier.BootMachine, error) {
	c, note := d.client(mac)
	x, err := d.Decide(ctx, c)
	if err != nil {
		return verifier.BootMachine{}, err
	}
	k, _ := d.Machine(mac)
	m := verifier.BootMachine{Arch: c.Arch.String(), UUID: k.UUID, Serial: k.Serial, Asset: k.Asset, Reported: k.At, Quarantine: k.Quarantine,
		Chain: x.Chain, Trial: x.Trial, Note: note, Steps: x.Steps, Boots: d.o.Timeline.Of(mac, d.now())}
	if m.UUID == "" {
		m.Claimed = c.UUID
	}
	if k.Quarantine != "" {
		m.ClaimedHost = k.AttestedAs()
	}
	if k.Host != "" {
		h, err := d.o.Store.Host(ctx, k.Host)
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return m, err
		}
		m.EK = strings.Join(endorsement(h)[:min(1, len(endorsement(h)))], "")
	}
	a := d.answer(c, x.Decision)
	if m.Path = a.Path; a.Verb != x.Verb {
		m.Chain, m.Trial = false, false
		m.Steps = append(m.Steps, bootrule.Step{What: "file", Why: a.Reason})
	}
	var last *timeline.Boot
	if n := len(m.Boots); n > 0 {
		last = &m.Boots[n-1]
	}
	m.BootLine, err = d.line(ctx, d.o.Store, mac, last)
	return m, err
}
