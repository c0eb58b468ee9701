package dhcp

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Standing is how a lease is.
type Standing string

// The standings.
const (
	Offered  Standing = "offered"  // waits for its request; not kept in the file
	Bound    Standing = "bound"    // given, until it expires
	Declined Standing = "declined" // the client found somebody else there
)

// Lease is an address that is somebody's, or was: what has expired is kept, so that a
// machine gets its address again as long as nobody else needs it.
type Lease struct {
	Addr     netip.Addr
	MAC      netboot.MAC
	Name     string // host name that it has sent (option 12), cleaned
	Standing Standing
	Since    time.Time // of the offer
	Expires  time.Time
	Net      netip.Prefix // the subnet that it is of
}

// owner is who has a lease. RFC 2131 section 4.2 wants the client identifier where there is
// one; firmware, iPXE and operating system of one machine send three of them, and the
// machine would take three addresses for one boot. A machine may be in several subnets.
type owner struct {
	mac netboot.MAC
	net netip.Prefix
}

// Leases are the addresses in use. The zero value has none. It holds at most as many as
// the pools and reservations of a configuration have.
type Leases struct {
	byAddr  map[netip.Addr]Lease
	byOwner map[owner]netip.Addr
	// fullUntil says of a subnet that nothing comes free before: a starved server must not
	// look through all leases at each message.
	fullUntil map[netip.Prefix]time.Time
}

func (l *Leases) init() {
	if l.byAddr == nil {
		l.byAddr, l.byOwner, l.fullUntil = map[netip.Addr]Lease{}, map[owner]netip.Addr{}, map[netip.Prefix]time.Time{}
	}
}

// List is all that is known, by address.
func (l *Leases) List() []Lease {
	out := make([]Lease, 0, len(l.byAddr))
	for _, x := range l.byAddr {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Lease) int { return a.Addr.Compare(b.Addr) })
	return out
}

// Count is how many leases of a standing have not expired.
func (l *Leases) Count(s Standing, now time.Time) int {
	n := 0
	for _, x := range l.byAddr {
		if x.Standing == s && now.Before(x.Expires) {
			n++
		}
	}
	return n
}

// held is the lease of a machine in a subnet, expired or not.
func (l *Leases) held(mac netboot.MAC, s *network) (Lease, bool) {
	x, ok := l.byAddr[l.byOwner[owner{mac, s.Prefix}]]
	return x, ok
}

// taken reports whether an address is somebody else's now.
func (l *Leases) taken(a netip.Addr, mac netboot.MAC, now time.Time) bool {
	x, ok := l.byAddr[a]
	return ok && now.Before(x.Expires) && (x.MAC != mac || x.Standing == Declined)
}

// put makes x the one lease of its owner. A bound one stays beside an offer of another
// address, until it expires: the machine may go on with it.
func (l *Leases) put(x Lease) {
	l.init()
	who := owner{x.MAC, x.Net}
	if old, ok := l.byOwner[who]; ok && old != x.Addr && (x.Standing == Bound || l.byAddr[old].Standing != Bound) {
		l.drop(old)
	}
	if old, ok := l.byAddr[x.Addr]; ok && old.MAC != x.MAC && l.byOwner[owner{old.MAC, old.Net}] == x.Addr {
		delete(l.byOwner, owner{old.MAC, old.Net})
	}
	l.byAddr[x.Addr] = x
	if x.Standing == Declined {
		delete(l.byOwner, who) // it is to get another one
		return
	}
	l.byOwner[who] = x.Addr
}

// drop forgets an address.
func (l *Leases) drop(a netip.Addr) {
	x, ok := l.byAddr[a]
	if !ok {
		return
	}
	delete(l.byAddr, a)
	if who := (owner{x.MAC, x.Net}); l.byOwner[who] == a {
		delete(l.byOwner, who)
	}
	clear(l.fullUntil)
}

// end makes a lease free now. It is remembered.
func (l *Leases) end(x Lease, now time.Time) {
	x.Expires = now
	l.byAddr[x.Addr] = x
	clear(l.fullUntil)
}

// adopt sorts leases into the networks of another configuration. What is in none of them
// is forgotten when it has expired.
func (l *Leases) adopt(p *Policy, now time.Time) {
	old := l.List()
	*l = Leases{}
	l.init()
	for _, x := range old {
		if n := p.at(x.Addr); n != nil {
			x.Net = n.Prefix
		} else if !now.Before(x.Expires) {
			continue
		}
		l.put(x)
	}
}

// want is who asks for an address, and what it would like.
type want struct {
	client netboot.Client
	port   bool // where it is plugged in counts
	addr   netip.Addr
	own    netip.Addr // the server's
}

// choose finds an address: the reserved one, the one that it has or had, the one it asks
// for, one that was never given, the one that is free for longest, and at last one
// whose offer nobody has taken up.
func (l *Leases) choose(s *network, w want, now time.Time) (netip.Addr, error) {
	mac := w.client.MAC
	var conflict string
	if r, ok := s.reserved(w.client, w.port); ok {
		if !l.taken(r.Addr, mac, now) {
			return r.Addr, nil
		}
		conflict = fmt.Sprintf("; the reserved %s is %s by %s until %s", r.Addr, l.byAddr[r.Addr].Standing, l.byAddr[r.Addr].MAC, l.byAddr[r.Addr].Expires.UTC().Format(time.TimeOnly))
	}
	candidates := []netip.Addr{w.addr}
	if x, ok := l.held(mac, s); ok {
		candidates = []netip.Addr{x.Addr, w.addr}
	}
	for _, a := range candidates {
		if a.IsValid() && s.usable(a, w) && !l.taken(a, mac, now) {
			return a, nil
		}
	}
	if a, ok := l.search(s, w, now); ok {
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("no address left in %s: %s%s", s.Prefix, l.full(s, now), conflict)
}

// full says what fills a subnet.
func (l *Leases) full(s *network, now time.Time) string {
	n := map[Standing]int{}
	for _, x := range l.byAddr {
		if now.Before(x.Expires) && s.pooled(x.Addr) {
			n[x.Standing]++
		}
	}
	return fmt.Sprintf("of %d in its pools %d are leased, %d offered, %d declined", s.total(), n[Bound], n[Offered], n[Declined])
}

// search looks through the pools, from a place that the MAC address decides: so a machine
// tends to get the same address even from a server that has lost its leases.
func (l *Leases) search(s *network, w want, now time.Time) (netip.Addr, bool) {
	if now.Before(l.fullUntil[s.Prefix]) {
		return netip.Addr{}, false
	}
	var best Lease // free for longest, else the oldest offer
	var next time.Time
	for a := range s.from(w.client.MAC) {
		if !s.usable(a, w) {
			continue
		}
		x, ok := l.byAddr[a]
		if !ok {
			return a, true
		}
		x.Expires = x.freeAt()
		if now.Before(x.Expires) {
			if next.IsZero() || x.Expires.Before(next) {
				next = x.Expires
			}
		} else if !best.Addr.IsValid() || cmp.Or(rank(x)-rank(best), x.Expires.Compare(best.Expires)) < 0 {
			best = x
		}
	}
	if !best.Addr.IsValid() {
		l.init()
		l.fullUntil[s.Prefix] = next
	}
	return best.Addr, best.Addr.IsValid()
}

// freeAt is when a lease can be given to somebody else: an offer gives way before it ends
// when all is taken, or whoever makes up 10,000 MAC addresses has the pool for himself.
func (x Lease) freeAt() time.Time {
	if t := x.Since.Add(offerGrace); x.Standing == Offered && t.Before(x.Expires) {
		return t
	}
	return x.Expires
}

func rank(x Lease) int {
	if x.Standing == Offered {
		return 1
	}
	return 0
}

// from yields the addresses of the pools once around.
func (s *network) from(mac netboot.MAC) func(yield func(netip.Addr) bool) {
	total := s.total()
	return func(yield func(netip.Addr) bool) {
		if total == 0 {
			return
		}
		h := fnv.New32a()
		h.Write(mac[:])
		start := int(h.Sum32() % uint32(total))
		for i := range total {
			if !yield(s.nth((start + i) % total)) {
				return
			}
		}
	}
}

func (s *network) nth(n int) netip.Addr {
	for _, r := range s.Pools {
		if n < r.size() {
			return address(number(r.From) + uint32(n))
		}
		n -= r.size()
	}
	return netip.Addr{}
}
