package verifier

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits bound what clients can cause. Zero values are replaced by defaults.
type Limits struct {
	Connections int           // open at once; 20,000
	Bodies      int64         // bytes of requests in memory at once; 256 MiB, and 1/16 of it for an address
	Timeout     time.Duration // of a handshake, of a request, of an answer; 20 s
	EnrolRate   Rate          // of an address; bursts of 200, then 2 in a second
	AskRate     Rate          // for challenges, of an address; bursts of 2000, then 200 in a second
}

// Rate is how often something may be done.
type Rate struct {
	Burst     float64 // at once
	PerSecond float64 // later
}

func (l *Limits) defaults() {
	set := func(p *Rate, d Rate) {
		if p.Burst <= 0 {
			*p = d
		}
	}
	if l.Connections <= 0 {
		l.Connections = 20_000
	}
	if l.Bodies <= 0 {
		l.Bodies = 256 << 20
	}
	if l.Timeout <= 0 {
		l.Timeout = 20 * time.Second
	}
	set(&l.EnrolRate, Rate{200, 2})
	set(&l.AskRate, Rate{2000, 200})
}

// site is what counts as one address: an IPv6 host has a whole /64.
func site(address string) netip.Prefix {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// maxSites bounds the addresses that are remembered.
const maxSites = 50_000

// rates is a token bucket for each address.
type rates struct {
	rate Rate
	mu   sync.Mutex
	left map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newRates(r Rate) *rates { return &rates{rate: r, left: map[netip.Prefix]bucket{}} }

// allow takes one token of an address.
func (r *rates) allow(address string, now time.Time) bool {
	key := site(address)
	r.mu.Lock()
	defer r.mu.Unlock()
	b, known := r.left[key]
	if !known {
		if len(r.left) >= maxSites {
			r.forget(now)
		}
		if len(r.left) >= maxSites {
			return false
		}
		b = bucket{r.rate.Burst, now}
	}
	b.tokens = min(r.rate.Burst, b.tokens+max(0, now.Sub(b.at).Seconds())*r.rate.PerSecond)
	b.at = now
	ok := b.tokens >= 1
	if ok {
		b.tokens--
	}
	r.left[key] = b
	return ok
}

// forget drops the addresses whose bucket is full again.
func (r *rates) forget(now time.Time) {
	for key, b := range r.left {
		if b.tokens+now.Sub(b.at).Seconds()*r.rate.PerSecond >= r.rate.Burst {
			delete(r.left, key)
		}
	}
}

// budget bounds the bytes of bodies that are in memory, so that slow senders of
// large ones cannot fill it.
type budget struct {
	mu    sync.Mutex
	total int64
	used  int64
	by    map[netip.Prefix]int64
}

func newBudget(total int64) *budget { return &budget{total: total, by: map[netip.Prefix]int64{}} }

// take reserves n bytes for an address, or reports false.
func (b *budget) take(address string, n int64) bool {
	key := site(address)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.total || b.by[key]+n > max(b.total/16, n) {
		return false
	}
	b.used += n
	b.by[key] += n
	return true
}

func (b *budget) give(address string, n int64) {
	key := site(address)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.by[key] -= n; b.by[key] <= 0 {
		delete(b.by, key)
	}
}

// crowd bounds open connections: one that is too many is closed at once.
type crowd struct {
	net.Listener
	free chan struct{}
}

func newCrowd(l net.Listener, n int) *crowd {
	return &crowd{l, make(chan struct{}, n)}
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case c.free <- struct{}{}:
			return &member{Conn: conn, leave: sync.OnceFunc(func() { <-c.free })}, nil
		default:
			conn.Close()
		}
	}
}

type member struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (m *member) Close() error {
	defer m.leave()
	return m.Conn.Close()
}
