package dhcp

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// want is who asks for an address, and what it would like.
type want struct {
	client netboot.Client
	port   bool // where it is plugged in counts
	addr   netip.Addr
	own    func(netip.Addr) bool // whether the server itself has an address
}

// choose finds an address: the reserved one, the one that it has or had, the one it asks
// for, one that was never given, the one that is free for longest, and at last one
// whose offer nobody has taken up.
func (l *Leases) choose(s *network, w want, now time.Time) (netip.Addr, error) {
	mac := w.client.MAC
	var conflict string
	if r, ok := s.reserved(w.client, w.port); ok {
		if w.own(r.Addr) {
			return netip.Addr{}, fmt.Errorf("no address left in %s: the reserved %s is this server's own", s.Prefix, r.Addr)
		}
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

// filling is what fills a subnet, as of a time.
type filling struct {
	text string
	at   time.Time
}

// fillingKept is how long it is told without another look through all leases.
const fillingKept = time.Second

// full says what fills a subnet. It looks through all leases, so it does so once in a
// while, however many ask.
func (l *Leases) full(s *network, now time.Time) string {
	if f, ok := l.fills[s.Prefix]; ok && now.Sub(f.at) >= 0 && now.Sub(f.at) < fillingKept {
		return f.text
	}
	n := map[Standing]int{}
	for _, x := range l.byAddr {
		if now.Before(x.Expires) && s.pooled(x.Addr) {
			n[x.Standing]++
		}
	}
	text := fmt.Sprintf("of %d in its pools %d are leased, %d offered, %d declined", s.total(), n[Bound], n[Offered], n[Declined])
	l.init()
	l.fills[s.Prefix] = filling{text, now}
	return text
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
