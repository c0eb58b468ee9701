package dhcp6

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// MaxLeases bounds the addresses that are out at one time, 64 KiB hosts on a boot
// network: a table of them is about 20 MB.
const MaxLeases = 65536

// maxProbes bounds the search for a free address: half a millisecond. In a pool of more
// addresses as many taken ones in a row mean that it is as good as full.
const maxProbes = 8192

// Pool is the addresses that are given out on one link.
type Pool struct {
	Link        netip.Prefix // of the link: relays and interfaces with an address in it
	First, Last netip.Addr   // both included, of one /64
	DNS         []netip.Addr
	// Lifetimes of addresses, whole seconds (RFC 8415 section 7.7). Default: 1 h, and 2 h,
	// so that no lease ends while a large image loads.
	Preferred, Valid time.Duration
}

const (
	defaultPreferred = time.Hour
	defaultValid     = 2 * time.Hour
)

func (p Pool) lifetimes() (preferred, valid time.Duration) {
	preferred, valid = p.Preferred, p.Valid
	if valid <= 0 {
		valid = max(defaultValid, 2*preferred)
	}
	if preferred <= 0 {
		preferred = min(defaultPreferred, valid/2)
	}
	return preferred, valid
}

func (p Pool) check() error {
	switch {
	case !p.Link.IsValid() || !p.Link.Addr().Is6() || p.Link.Addr().Is4In6():
		return fmt.Errorf("pool %s: not a prefix of IPv6 addresses", p.Link)
	case !p.Link.Contains(p.First) || !p.Link.Contains(p.Last):
		return fmt.Errorf("pool %s: %s to %s is not inside", p.Link, p.First, p.Last)
	case high(p.First) != high(p.Last) || low(p.First) > low(p.Last):
		return fmt.Errorf("pool %s: %s to %s is not a range of one /64", p.Link, p.First, p.Last)
	case p.contains(p.Link.Masked().Addr()):
		return fmt.Errorf("pool %s: %s is the anycast address of the link's routers (RFC 4291 section 2.6.1)", p.Link, p.Link.Masked().Addr())
	case p.Valid > 0 && p.Valid < p.Preferred:
		return fmt.Errorf("pool %s: valid %s is shorter than preferred %s", p.Link, p.Valid, p.Preferred)
	}
	return nil
}

func (p Pool) contains(a netip.Addr) bool {
	return a.Is6() && p.First.Compare(a) <= 0 && a.Compare(p.Last) <= 0
}

// at is the address number n, counted from the first one and around.
func (p Pool) at(n uint64) netip.Addr {
	size := low(p.Last) - low(p.First) + 1 // 0: all 2^64
	if size != 0 {
		n %= size
	}
	b := p.First.As16()
	binary.BigEndian.PutUint64(b[8:], low(p.First)+n)
	return netip.AddrFrom16(b)
}

func (p Pool) size() uint64 { // at least 1; 2^64 counts as one less
	return max(low(p.Last)-low(p.First), low(p.Last)-low(p.First)+1)
}

func high(a netip.Addr) uint64 { b := a.As16(); return binary.BigEndian.Uint64(b[:]) }
func low(a netip.Addr) uint64  { b := a.As16(); return binary.BigEndian.Uint64(b[8:]) }

// Lease is an address that is out.
type Lease struct {
	DUID     DUID // empty: declined, so nobody has it
	IAID     uint32
	Addr     netip.Addr
	MAC      netboot.MAC
	Until    time.Time // end of its valid lifetime
	Declined bool      // somebody else on the link uses it
}

type owner struct {
	duid string
	iaid uint32
}

func (l Lease) owner() owner { return owner{string(l.DUID), l.IAID} }

// Leases are the addresses that are out. The zero value is an empty table. Not for
// concurrent use.
type Leases struct {
	byAddr  map[netip.Addr]Lease
	byOwner map[owner]netip.Addr
	max     int // 0: MaxLeases
	changes uint64
	swept   time.Time // when it was full of leases that go on
	// full says of a pool that it was searched in vain, and when: a starved server must
	// not search it at each message.
	full map[netip.Prefix]time.Time
}

// Changes counts what has changed: equal numbers are equal tables.
func (t *Leases) Changes() uint64 { return t.changes }

// NewLeases is a table with leases of before, for example from a file. Of two for one
// address or one owner the last counts, and what is beyond MaxLeases is left out.
func NewLeases(old []Lease) *Leases {
	t := &Leases{}
	for _, l := range old {
		if t.Len() < t.limit() {
			t.put(l)
		}
	}
	return t
}

func (t *Leases) limit() int {
	if t.max > 0 {
		return t.max
	}
	return MaxLeases
}

// Len is how many leases there are, ended ones that were not yet swept included.
func (t *Leases) Len() int { return len(t.byAddr) }

// All are the leases in the order of their addresses.
func (t *Leases) All() []Lease {
	out := make([]Lease, 0, len(t.byAddr))
	for _, l := range t.byAddr {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Lease) int { return a.Addr.Compare(b.Addr) })
	return out
}

func (t *Leases) put(l Lease) {
	if t.byAddr == nil {
		t.byAddr, t.byOwner = map[netip.Addr]Lease{}, map[owner]netip.Addr{}
	}
	t.changes++
	t.drop(l.Addr)
	if old, ok := t.byOwner[l.owner()]; ok && !l.Declined {
		t.drop(old)
	}
	l.DUID = bytes.Clone(l.DUID) // the caller's is part of a datagram
	t.byAddr[l.Addr] = l
	if !l.Declined {
		t.byOwner[l.owner()] = l.Addr
	}
}

func (t *Leases) drop(a netip.Addr) {
	if l, ok := t.byAddr[a]; ok {
		t.changes++
		clear(t.full)
		delete(t.byAddr, a)
		if t.byOwner[l.owner()] == a {
			delete(t.byOwner, l.owner())
		}
	}
}

// of is what an owner has, when it has not ended.
func (t *Leases) of(o owner, now time.Time) (Lease, bool) {
	l, ok := t.byAddr[t.byOwner[o]]
	return l, ok && l.Until.After(now)
}

// free reports whether an owner may have an address.
func (t *Leases) free(a netip.Addr, o owner, now time.Time) bool {
	l, taken := t.byAddr[a]
	return !taken || !l.Until.After(now) || !l.Declined && l.owner() == o
}

// sweepAgain is how long a table that is full of leases that go on is not swept again:
// whoever has filled it would make each message cost a walk through all of it.
const sweepAgain = 5 * time.Second

// searchAgain is likewise of a pool. A lease ends without anybody's doing.
const searchAgain = time.Second

// room makes place for one more lease, by sweeping those that have ended.
func (t *Leases) room(now time.Time) bool {
	if t.Len() < t.limit() {
		return true
	}
	if since := now.Sub(t.swept); since >= 0 && since < sweepAgain {
		return false
	}
	t.swept = now
	for a, l := range t.byAddr {
		if !l.Until.After(now) {
			t.drop(a)
		}
	}
	return t.Len() < t.limit()
}

// want is who wants an address, and which may not be had.
type want struct {
	owner    owner
	wish     netip.Addr
	reserved func(netip.Addr) bool
	// more says that reserved are also those that this owner's answer names already, which
	// are nobody's yet: a search in vain says nothing of the pool then.
	more bool
}

// pick is an address for an owner: what it has, what it wishes, else the one that its
// identifiers hash to or a free one behind it. So a server that has lost its table, and
// a second server beside it, come to the same address.
func (t *Leases) pick(p Pool, w want, now time.Time) (netip.Addr, bool) {
	ok := func(a netip.Addr) bool { return p.contains(a) && !w.reserved(a) && t.free(a, w.owner, now) }
	if l, has := t.of(w.owner, now); has && ok(l.Addr) {
		return l.Addr, true
	}
	if w.wish.IsValid() && ok(w.wish) {
		return w.wish, true
	}
	if at, full := t.full[p.Link]; full && now.Sub(at) >= 0 && now.Sub(at) < searchAgain {
		return netip.Addr{}, false
	}
	start := w.owner.hash()
	for n := uint64(0); n < min(p.size(), maxProbes); n++ {
		if a := p.at(start%p.size() + n); ok(a) {
			return a, true
		}
	}
	if w.more {
		return netip.Addr{}, false
	}
	if t.full == nil {
		t.full = map[netip.Prefix]time.Time{}
	}
	t.full[p.Link] = now
	return netip.Addr{}, false
}

func (o owner) hash() uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", o.duid, o.iaid)
	return h.Sum64()
}
