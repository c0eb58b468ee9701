// Package timeline joins what the parts of a boot server see into boots: offer,
// probe, first byte, last byte, attested, healthy, with times, and the stage in
// which a boot died.
//
//	t := timeline.New(timeline.Options{})
//	t.Saw(event)                  // netboot.Watcher
//	boots := t.Of(mac, now)       // oldest first
//
// Memory is bounded: of each machine the last boots, of a boot so many steps, of
// all machines those that were seen last, of all of them together so many steps. A
// machine is a MAC address, which anybody can forge; what stands here proves
// nothing. So machines that only asked make room first, and are not kept over a
// restart; then those that fetched something; last those that attested or that
// somebody has named.
//
// Limits: times are the server's. A firmware that asks anew within the same
// minute after it was refused makes no new boot. A boot of which the server saw
// nothing (another one served it) begins with its attestation.
package timeline

import (
	"container/list"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Options bound a timeline. Zero values are defaults.
type Options struct {
	Hosts int           // machines; 16384
	Boots int           // of a machine; 8
	Steps int           // of a boot; 48
	Total int           // steps of all machines; 262,144, and never less than one machine can have
	Limit time.Duration // without a step, after which a boot has died; 15 minutes
	// Named reports whether somebody has named a machine: a rule, an order, a record.
	// It is called while the timeline is locked. Nil: nobody has.
	Named func(netboot.MAC) bool
}

// defaultTotal is the newest boots of 16,384 machines, at 16 steps each. A step is
// 96 bytes and two texts, 416 at most: 129 MB were measured with every step forged
// and as long as can be.
const defaultTotal = 1 << 18

// maxPending bounds the questions of a machine that no answer has placed.
const maxPending = 4

// Timeline is a netboot.Watcher.
type Timeline struct {
	o Options

	mu    sync.Mutex
	hosts map[netboot.MAC]*host
	order [tiers]*list.List          // of *host, last seen first
	last  uint64                     // order of the host that was seen last
	steps int                        // of all hosts
	addrs map[netip.Addr]netboot.MAC // that have fetched boot files or were given an address
	dirty map[netboot.MAC]bool       // not kept yet; false: gone
}

type host struct {
	mac     netboot.MAC
	boots   []Boot
	pending []Step    // questions that no answer has placed yet
	same    time.Time // until then questions are of the boot under way
	seen    time.Time
	addrs   []netip.Addr
	stored  bool // Changed gave it, or Load took it

	tier  tier
	el    *list.Element // in the order of its tier
	order uint64        // higher: seen later
	steps int           // as they are counted
}

// maxAddrs bounds how many addresses of a machine are remembered.
const maxAddrs = 4

// New makes an empty one.
func New(o Options) *Timeline {
	set := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	set(&o.Hosts, 16384)
	set(&o.Boots, 8)
	set(&o.Steps, 48)
	set(&o.Total, defaultTotal)
	o.Total = max(o.Total, o.Boots*o.Steps+maxPending)
	if o.Limit <= 0 {
		o.Limit = 15 * time.Minute
	}
	t := &Timeline{o: o, hosts: map[netboot.MAC]*host{}, addrs: map[netip.Addr]netboot.MAC{}, dirty: map[netboot.MAC]bool{}}
	for i := range t.order {
		t.order[i] = list.New()
	}
	return t
}

// Saw implements netboot.Watcher.
func (t *Timeline) Saw(e netboot.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mac := t.whose(&e)
	if mac.IsZero() {
		return
	}
	if e.Stage == Started {
		t.continues(mac, Started, e.Time)
		if h := t.hosts[mac]; h != nil {
			t.learn(h, e.Addr.Addr())
		}
		return
	}
	h := t.host(mac, e.Time)
	defer t.settle(h)
	t.learn(h, e.Addr.Addr())
	s := Step{Time: e.Time, Stage: e.Stage, Path: shortPath(e.Path), Bytes: e.Bytes, Size: e.Size, Detail: cut(e.Detail, 200)}
	switch {
	case s.Stage != netboot.Refused:
	case !ofFile(&e):
		s.Path = ""
	case s.Path == "":
		s.Path = string(e.Method)
	}
	if e.Stage == netboot.Asked && !e.Time.Before(h.same) {
		h.ask(s, t.o.Steps)
		return
	}
	b := t.boot(h, &e)
	if e.Host != "" {
		b.Host = e.Host
	}
	if e.Release != "" && (b.Release == "" || !ofFile(&e)) { // iPXE is loaded before the release that was offered
		b.Release = e.Release
	}
	if e.Method != "" {
		b.Method = e.Method
	}
	if e.Addr.IsValid() {
		b.Addr = e.Addr.Addr().String()
	}
	b.add(s, t.o.Steps)
}

// Continues says that the machine's boot goes on: iPXE, or ingot-init, asks for an
// address now. What asks without a boot before it is none of its: iPXE may be the
// firmware, and a machine that runs renews its lease.
func (t *Timeline) Continues(mac netboot.MAC, stage netboot.Stage, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.continues(mac, stage, now)
}

func (t *Timeline) continues(mac netboot.MAC, stage netboot.Stage, now time.Time) {
	h := t.hosts[mac] // nil: of a boot that this server did not see
	if h == nil || len(h.boots) == 0 || !h.boots[len(h.boots)-1].leads(stage, now, t.o.Limit) {
		return
	}
	t.host(mac, now)
	if stage == Chained { // its question and the answer are of this boot; firmware that asks so soon is not
		h.same, h.pending = now.Add(10*time.Second), nil
	}
	h.boots[len(h.boots)-1].add(Step{Time: now, Stage: stage}, t.o.Steps)
	t.settle(h)
}

// whose is the machine of an event: it says so itself, or its path does, or its
// address. The address alone says it of what boots do, and people do not: from there
// somebody may look at the server with a browser.
func (t *Timeline) whose(e *netboot.Event) netboot.MAC {
	if !e.MAC.IsZero() {
		return e.MAC
	}
	if rest, ok := strings.CutPrefix(e.Path, "boot/"); ok {
		plain, _, _ := strings.Cut(rest, "/")
		if mac, err := netboot.ParseMAC(plain); err == nil && len(plain) == 12 {
			return mac
		}
	}
	mac := t.addrs[e.Addr.Addr().Unmap()]
	switch h := t.hosts[mac]; {
	case !ofFile(e), strings.HasPrefix(e.Path, "root/"):
		return mac
	case e.Path == "" && e.Method == netboot.HTTPS && h != nil && len(h.boots) > 0 && h.boots[len(h.boots)-1].shakes(e.Time, t.o.Limit):
		return mac
	}
	return netboot.MAC{}
}

// host is the machine, made when it is new. Its caller settles it.
func (t *Timeline) host(mac netboot.MAC, now time.Time) *host {
	kept, changed := t.dirty[mac]
	removed := changed && !kept // and not written so yet
	t.dirty[mac] = true
	h := t.hosts[mac]
	if h == nil {
		h = &host{mac: mac, stored: removed}
		h.el = t.order[h.tier].PushFront(h)
		t.hosts[mac] = h
	}
	h.seen = now
	t.touch(h)
	return h
}

// learn remembers the machine's address: events about a root payload and
// attestation have nothing else.
func (t *Timeline) learn(h *host, a netip.Addr) {
	if a = a.Unmap(); !a.IsValid() || a.IsUnspecified() || t.addrs[a] == h.mac {
		return
	}
	t.addrs[a] = h.mac
	h.addrs = append(h.addrs, a)
	if len(h.addrs) > maxAddrs {
		if old := h.addrs[0]; t.addrs[old] == h.mac {
			delete(t.addrs, old)
		}
		h.addrs = append([]netip.Addr(nil), h.addrs[1:]...)
	}
}

// ask notes a question. Whether it begins a boot shows with the answer.
func (h *host) ask(s Step, limit int) {
	if n := len(h.pending); n > 0 && h.pending[n-1].same(s) {
		h.pending[n-1].Times = max(h.pending[n-1].Times, 1) + 1
		return
	}
	if len(h.pending) < min(limit, maxPending) {
		h.pending = append(h.pending, s)
	}
}

// boot is the boot that an event is of: the one under way, or a new one.
func (t *Timeline) boot(h *host, e *netboot.Event) *Boot {
	if n := len(h.boots); n > 0 && !t.begins(&h.boots[n-1], h, e) {
		b := &h.boots[n-1]
		for _, s := range h.pending {
			b.add(s, t.o.Steps)
		}
		h.pending = nil
		return b
	}
	b := Boot{Begun: e.Time, Steps: h.pending}
	if len(h.pending) > 0 {
		b.Begun = h.pending[0].Time
	}
	h.pending = nil
	if h.boots = append(h.boots, b); len(h.boots) > t.o.Boots {
		h.boots = append([]Boot(nil), h.boots[1:]...)
	}
	return &h.boots[len(h.boots)-1]
}

// begins says whether an event is the first of another boot. An answer of DHCP
// is, when the boot before has fetched something or nothing came of it for long;
// a file, when it went out whole already: the firmware may have kept its lease
// over a reset; an attestation, when the boot has one.
func (t *Timeline) begins(b *Boot, h *host, e *netboot.Event) bool {
	silent := e.Time.Sub(b.Steps[len(b.Steps)-1].Time)
	switch {
	case e.Stage == netboot.Attested || e.Stage == Untrusted:
		return b.has(netboot.Attested, Untrusted) || silent > t.o.Limit && b.file() == nil
	case reports[e.Stage]:
		return false
	case ofFile(e):
		return silent > t.o.Limit || (e.Stage == netboot.Probed || e.Stage == netboot.First) && b.loaded(shortPath(e.Path))
	case e.Time.Before(h.same):
		return false
	}
	return b.furthest() >= rank[netboot.First] || silent > time.Minute
}

// Reached reports whether the machine's newest boot has come to a stage.
func (t *Timeline) Reached(mac netboot.MAC, stage netboot.Stage) bool {
	b := t.newest(mac)
	return b != nil && b.has(stage)
}

// Going reports whether something of the machine's newest boot was seen within the
// limit: what it tells now is of that boot.
func (t *Timeline) Going(mac netboot.MAC, now time.Time) bool {
	b := t.newest(mac)
	return b != nil && now.Sub(b.Steps[len(b.Steps)-1].Time) <= t.o.Limit
}

// newest is a copy of the machine's newest boot; nil for none.
func (t *Timeline) newest(mac netboot.MAC) *Boot {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[mac]
	if h == nil || len(h.boots) == 0 {
		return nil
	}
	b := h.boots[len(h.boots)-1]
	b.Steps = slices.Clone(b.Steps)
	return &b
}
