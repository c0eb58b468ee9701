// Package dispatch is the memory of a boot server: what it knows of machines,
// tickets that operators gave, and the netboot slots of hosts. It answers what a
// machine boots (package bootrule decides), counts a try with the first byte of
// payload, and learns from attestation and reports what came of it.
//
//	d, err := dispatch.New(ctx, dispatch.Options{Store: store, Site: site})
//	c, err := d.Decide(ctx, client)              // a question changes nothing
//	err = d.Begin(ctx, client, digest)           // first byte of a release
//	d.Attested(ctx, before, verdict, address)    // package verifier calls these
//	order, err := d.Booted(ctx, host, report)
//	go d.Run(ctx)                                // keeps timelines
//
// One attempt is one host and one window (DESIGN S18): the first byte opens it,
// attestation of a later boot or time closes it. Within it the same release is
// served again: a power cut in the middle of a download costs nothing. A host that
// attests with the reset count that it had before was not reset, so somebody else
// fetched under its address: the try is given back. It is given back, too, when
// the host was reset only once since, and runs another release, which it fetched
// when the window was over.
//
// Who never attested has no slots: rules decide alone, and nothing of it is
// written, so forged addresses fill no disk.
//
// What rules may ask for of a host comes from two places: its endorsement key from
// its enrolment, and UUID, serial number and asset tag from its newest report that
// came while its verdict was trusted, said by an image that the verdict knows. A
// packet says its MAC address, its UUID where none was reported, its architecture,
// and by which link or relay it came.
//
// Limits: one process for a store. MAC addresses choose, and prove nothing: who
// forges one while its host is off can have the host's next boot fall into the
// same window, which is what would have been served anyhow.
package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/netslot"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Store keeps what has to outlast the server (fleet.SQLite).
type Store interface {
	Host(ctx context.Context, name string) (*fleet.Host, error)
	Assignment(ctx context.Context, name string) (*assign.Assignment, error)
	Update(ctx context.Context, name string, fn func(*fleet.Change) error) error

	Machines(ctx context.Context) ([]fleet.Machine, error)
	PutMachines(ctx context.Context, list ...fleet.Machine) error
	RemoveMachines(ctx context.Context, list ...netboot.MAC) error
	Boot(ctx context.Context, name string) (fleet.Boot, error)
	Boots(ctx context.Context) (map[string]fleet.Boot, error)
	ChangeBoot(ctx context.Context, name string, fn func(*fleet.Boot) error) error
	Timelines(ctx context.Context) ([][]byte, error)
	PutTimelines(ctx context.Context, list []fleet.Timeline) error
}

var _ Store = (*fleet.SQLite)(nil)

// Site is what is served now. Both may be exchanged while questions are answered.
type Site interface {
	Rules() *bootrule.Rules
	Releases() []bootrule.Release
}

// Options are what a dispatcher is made of. Store and Site are required.
type Options struct {
	Store    Store
	Site     Site
	Timeline *timeline.Timeline // nil: a new one, which keeps what somebody has named
	// Window is how long an attempt lasts that does not attest; 0 is 15 minutes.
	Window time.Duration
	// Slots are the rules of trials. A trial always needs a trusted verdict.
	Slots slot.Rules
	// Link gives the networks in which the server itself is on an interface: those of
	// a machine that asks there without a relay. Nil: they are not known.
	Link func(name string) []netip.Prefix
	// Answer is what a machine is told of a decision: the file that it loads first, or that
	// there is none that it could start. It must ask the dispatcher nothing. Nil: every
	// machine starts a release's UKI.
	Answer func(c netboot.Client, d bootrule.Decision) netboot.Answer
	// Watcher is told the stages that are known here alone: what hosts attested and
	// reported. The timeline has them either way. Nil: nobody.
	Watcher netboot.Watcher
	// Failed is told what could not be kept where no caller waits for an error: host is
	// a name, or a MAC address, or empty for all. It must not block. Nil: nobody.
	Failed func(host, step string, err error)
	Now    func() time.Time // nil: time.Now
}

// Dispatcher decides and remembers. Its methods may be called concurrently.
type Dispatcher struct {
	o     Options
	slots *netslot.Server
	open  changing

	mu      sync.Mutex
	known   directory
	ordered map[netboot.MAC]bool   // of which the store has boots under their address: orders made those
	asked   recent[netboot.Client] // the newest question of each machine, without what no rule asks for
	loads   chan netboot.MAC       // programs that went out whole
}

// defaultWindow is longer than the slowest boot that was measured: 120 MB by TFTP
// under emulation, and a TPM that takes its time.
const defaultWindow = 15 * time.Minute

// New makes a dispatcher of what the store has.
func New(ctx context.Context, o Options) (*Dispatcher, error) {
	if o.Window <= 0 {
		o.Window = defaultWindow
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Slots.Attested = true
	d := &Dispatcher{o: o, ordered: map[netboot.MAC]bool{}, asked: recent[netboot.Client]{limit: maxRecent}, loads: make(chan netboot.MAC, 256)}
	d.slots = &netslot.Server{Store: &d.open, Rules: o.Slots, Ready: d.ready}
	if o.Timeline == nil {
		d.o.Timeline = timeline.New(timeline.Options{Limit: o.Window, Named: d.isNamed})
	}
	list, err := o.Store.Machines(ctx)
	if err != nil {
		return nil, fmt.Errorf("open boots: %w", err)
	}
	for _, m := range list {
		d.known.put(m)
	}
	boots, err := o.Store.Boots(ctx)
	if err != nil {
		return nil, fmt.Errorf("open boots: %w", err)
	}
	for key := range boots {
		d.order(key)
	}
	kept, err := o.Store.Timelines(ctx)
	if err != nil {
		return nil, fmt.Errorf("open boots: %w", err)
	}
	return d, d.o.Timeline.Load(kept)
}

// ready says why a release cannot be served.
func (d *Dispatcher) ready(c slot.Content) error {
	if d.release(fmt.Sprintf("%x", c.Image[:])) == nil {
		return fmt.Errorf("%s is not among the releases", c.Version)
	}
	return nil
}

// release finds a release by its digest; nil for none.
func (d *Dispatcher) release(digest string) *bootrule.Release {
	list := d.o.Site.Releases()
	for i := range list {
		if list[i].Digest == digest {
			return &list[i]
		}
	}
	return nil
}

// failed tells of an error that nobody waits for.
func (d *Dispatcher) failed(host, step string, err error) {
	if err != nil && d.o.Failed != nil {
		d.o.Failed(host, step, err)
	}
}

func (d *Dispatcher) now() time.Time { return d.o.Now().UTC() }

// Machine is what a machine has said of itself when it attested; nothing for one
// that never did.
func (d *Dispatcher) Machine(mac netboot.MAC) (fleet.Machine, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.known.machines[mac]
	return m, ok
}

// Arch is the architecture with which a machine last asked.
func (d *Dispatcher) Arch(mac netboot.MAC) netboot.Arch {
	c, _ := d.question(mac)
	return c.Arch
}

// question is what is known of how a machine asks: its newest question, else what it
// said when it last attested. ok says that it was heard.
func (d *Dispatcher) question(mac netboot.MAC) (c netboot.Client, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, known := d.known.machines[mac]
	c, ok = d.asked.get(mac)
	if !ok {
		c = netboot.Client{Arch: netboot.Unknown}
		if known {
			c.Arch = m.Arch
		}
	}
	c.MAC = mac
	return c, ok
}

// Asked remembers a question of DHCP: files are asked for by the machine's address
// alone, and are to be decided as the offer was.
func (d *Dispatcher) Asked(c netboot.Client) {
	switch {
	case c.Init:
		d.o.Timeline.Continues(c.MAC, timeline.Started, d.now())
		return
	case c.IPXE:
		d.o.Timeline.Continues(c.MAC, timeline.Chained, d.now())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old, heard := d.asked.get(c.MAC)
	// iPXE behind firmware that has asked is a step of its boot; alone it is the firmware.
	ipxe := c.IPXE && (!heard || old.IPXE)
	d.asked.put(c.MAC, netboot.Client{Arch: c.Arch, IPXE: ipxe, UUID: cmp.Or(c.UUID, old.UUID), Addr: c.Addr, Relay: c.Relay, Link: c.Link})
}

// complete adds to who asks for a file what it said when it asked for an address. A
// question of DHCP comes with its link.
func (d *Dispatcher) complete(c netboot.Client) netboot.Client {
	if c.Link != "" || c.Addr.IsValid() || c.Relay.IsValid() {
		return c
	}
	q, ok := d.question(c.MAC)
	if ok {
		c.UUID, c.Addr, c.Relay, c.Link = cmp.Or(c.UUID, q.UUID), q.Addr, q.Relay, q.Link
	}
	return c
}

func (d *Dispatcher) machine(c netboot.Client) fleet.Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known.find(c)
}
