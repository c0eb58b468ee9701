package dhcp

import (
	"cmp"
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
	// beside is the bound address of who has an offer of another one in byOwner.
	beside map[owner]netip.Addr
	// fullUntil says of a subnet that nothing comes free before: a starved server must not
	// look through all leases at each message.
	fullUntil map[netip.Prefix]time.Time
	fills     map[netip.Prefix]filling // likewise of what fills it
}

func (l *Leases) init() {
	if l.byAddr == nil {
		l.byAddr, l.byOwner, l.beside = map[netip.Addr]Lease{}, map[owner]netip.Addr{}, map[owner]netip.Addr{}
		l.fullUntil, l.fills = map[netip.Prefix]time.Time{}, map[netip.Prefix]filling{}
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

// resting is how many addresses of a subnet rest since they were declined.
func (l *Leases) resting(s *network, now time.Time) int {
	n := 0
	for _, x := range l.byAddr {
		if x.Standing == Declined && x.Net == s.Prefix && now.Before(x.Expires) {
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

// bound is the lease that a machine works with in a subnet, which has not expired.
func (l *Leases) bound(mac netboot.MAC, s *network, now time.Time) (Lease, bool) {
	who := owner{mac, s.Prefix}
	for _, a := range []netip.Addr{l.byOwner[who], l.beside[who]} {
		if x, ok := l.byAddr[a]; ok && x.Standing == Bound && now.Before(x.Expires) {
			return x, true
		}
	}
	return Lease{}, false
}

// put makes x the one lease of its owner. A bound one stays beside an offer of another
// address until that is bound: the machine may go on with it.
func (l *Leases) put(x Lease) {
	l.init()
	who := owner{x.MAC, x.Net}
	if old, ok := l.byAddr[x.Addr]; ok && (old.MAC != x.MAC || old.Net != x.Net || x.Standing == Declined) {
		l.disown(old)
	}
	l.byAddr[x.Addr] = x
	if x.Standing == Declined { // nobody has it, and the machine is to get another one
		return
	}
	had := []netip.Addr{l.byOwner[who], l.beside[who]}
	delete(l.byOwner, who)
	delete(l.beside, who)
	for _, old := range had {
		switch {
		case !old.IsValid() || old == x.Addr:
		case x.Standing == Offered && l.byAddr[old].Standing == Bound:
			l.beside[who] = old
		default:
			l.drop(old)
		}
	}
	l.byOwner[who] = x.Addr
}

// disown takes an address from its owner, who goes on with the bound one beside it.
func (l *Leases) disown(x Lease) {
	who := owner{x.MAC, x.Net}
	other, ok := l.beside[who]
	switch {
	case ok && other == x.Addr:
		delete(l.beside, who)
	case l.byOwner[who] != x.Addr:
	case ok:
		l.byOwner[who] = other
		delete(l.beside, who)
	default:
		delete(l.byOwner, who)
	}
}

// drop forgets an address.
func (l *Leases) drop(a netip.Addr) {
	x, ok := l.byAddr[a]
	if !ok {
		return
	}
	delete(l.byAddr, a)
	l.disown(x)
	clear(l.fullUntil)
}

// end makes a lease free now. It is remembered.
func (l *Leases) end(x Lease, now time.Time) {
	x.Expires = now
	l.byAddr[x.Addr] = x
	clear(l.fullUntil)
}

// adopt sorts leases into the networks of another configuration. What is in none of them
// is forgotten when it has expired. Of two of one owner, which only a file has that was
// not written by this version, the newest that goes on is the lease: it is put last.
func (l *Leases) adopt(p *Policy, now time.Time) {
	old := l.List()
	slices.SortStableFunc(old, func(a, b Lease) int {
		return cmp.Or(adoptRank(a, now)-adoptRank(b, now), a.Since.Compare(b.Since))
	})
	*l = Leases{}
	l.init()
	strangers := 0
	for _, x := range old {
		if n := p.at(x.Addr); n != nil {
			x.Net = n.Prefix
		} else if strangers++; !now.Before(x.Expires) || strangers > MaxAddresses {
			continue
		} else {
			x.Net = netip.PrefixFrom(x.Addr, 32) // so that another lease of the machine does not end it
		}
		l.put(x)
	}
}

func adoptRank(x Lease, now time.Time) int {
	switch {
	case x.Standing == Declined:
		return 0
	case !now.Before(x.Expires):
		return 1
	}
	return 2 + rank(x)
}
