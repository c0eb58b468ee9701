package verifier

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ingot-os/ingot/internal/audit"
)

// Limits bound what clients can cause. Zero values are replaced by defaults.
type Limits struct {
	Connections int           // open at once; 20,000, and 1/16 of it for an address
	Bodies      int64         // bytes of requests in memory at once; 256 MiB, and 1/16 of it for an address
	Timeout     time.Duration // of a handshake, of a request, of an answer; 20 s
	EnrolRate   Rate          // of an address; bursts of 200, then 20 in a second
	AskRate     Rate          // for challenges, of an address; bursts of 2000, then 200 in a second
	HostRate    Rate          // verdicts on a host; bursts of 30, then 4 in an interval
	HostBytes   Rate          // of logs, and all else in evidence, that a host has not sent before; bursts of 16 MiB, then 64 MiB in a day
	ReportRate  Rate          // reports of a host on its slots; bursts of 60, then 2 in an interval
	Stall       time.Duration // that a client of a transfer may take nothing; 2 min
	Transfers   int           // parts of releases that are being sent at once; 512, of which two to a host
	Encoders    int           // of these, with zstd, at once; 8
}

// Rate is how often something may be done.
type Rate struct {
	Burst     float64 // at once
	PerSecond float64 // later
}

func (l *Limits) defaults(interval time.Duration) {
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
	set(&l.EnrolRate, Rate{200, 20})
	set(&l.AskRate, Rate{2000, 200})
	set(&l.HostRate, Rate{30, 4 / interval.Seconds()})
	set(&l.ReportRate, Rate{60, 2 / interval.Seconds()})
	if l.Stall <= 0 {
		l.Stall = 2 * time.Minute
	}
	if l.Transfers <= 0 {
		l.Transfers = 512
	}
	if l.Encoders <= 0 {
		l.Encoders = 8
	}
	set(&l.HostBytes, Rate{16 << 20, (64 << 20) / (24 * time.Hour).Seconds()})
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

// maxKeys bounds the addresses, or hosts, that are remembered.
const maxKeys = 50_000

// rates is a token bucket for each key: an address, or a host.
type rates[K comparable] struct {
	rate Rate
	mu   sync.Mutex
	left map[K]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newRates[K comparable](r Rate) *rates[K] { return &rates[K]{rate: r, left: map[K]bucket{}} }

// allow takes n tokens of a key.
func (r *rates[K]) allow(key K, n float64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, known := r.left[key]
	if !known {
		if len(r.left) >= maxKeys {
			r.forget(now)
		}
		if len(r.left) >= maxKeys {
			return false
		}
		b = bucket{r.rate.Burst, now}
	}
	b.tokens = min(r.rate.Burst, b.tokens+max(0, now.Sub(b.at).Seconds())*r.rate.PerSecond)
	b.at = now
	ok := b.tokens >= n
	if ok {
		b.tokens -= n
	}
	r.left[key] = b
	return ok
}

// forget drops the keys whose bucket is full again.
func (r *rates[K]) forget(now time.Time) {
	for key, b := range r.left {
		if b.tokens+now.Sub(b.at).Seconds()*r.rate.PerSecond >= r.rate.Burst {
			delete(r.left, key)
		}
	}
}

// appetite bounds what a host can have kept: one that is not what it was could
// fill the disk with quotes over new logs, or with anything else in evidence.
type appetite struct {
	verdicts, bytes *rates[string]
	mu              sync.Mutex
	kept            map[string][]audit.Digest // by host: the blobs of the newest verdict
}

func newAppetite(l *Limits) *appetite {
	return &appetite{verdicts: newRates[string](l.HostRate), bytes: newRates[string](l.HostBytes), kept: map[string][]audit.Digest{}}
}

// allow takes a verdict that is kept with these blobs; those of the one before
// are on the disk already.
func (a *appetite) allow(host string, blobs []audit.Blob, now time.Time) bool {
	a.mu.Lock()
	old := a.kept[host]
	a.mu.Unlock()
	var sums []audit.Digest
	var n int
	for _, b := range blobs {
		if sums = append(sums, b.Sum); !slices.Contains(old, b.Sum) {
			n += len(b.Data)
		}
	}
	if !a.verdicts.allow(host, 1, now) || n > 0 && !a.bytes.allow(host, float64(n), now) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.kept) >= maxKeys {
		clear(a.kept)
	}
	a.kept[host] = sums
	return true
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

// ofOne is how many transfers a host or an operator may have at once: the second
// is for one that has lost its connection and is back before that is noticed.
const ofOne = 2

// places bounds transfers, of all and of each host or operator.
type places struct {
	mu   sync.Mutex
	left int
	by   map[string]int
}

func newPlaces(n int) *places { return &places{left: n, by: map[string]int{}} }

// take takes a place, or reports false.
func (p *places) take(who string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left <= 0 || p.by[who] >= ofOne {
		return false
	}
	p.left--
	p.by[who]++
	return true
}

func (p *places) give(who string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left++
	if p.by[who]--; p.by[who] <= 0 {
		delete(p.by, who)
	}
}

// crowd bounds open connections, of all and of an address: one that is too many
// is closed at once.
type crowd struct {
	net.Listener
	places int
	mu     sync.Mutex
	open   int
	by     map[netip.Prefix]int
}

func newCrowd(l net.Listener, n int) *crowd {
	return &crowd{Listener: l, places: n, by: map[netip.Prefix]int{}}
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if from := site(conn.RemoteAddr().String()); c.enter(from) {
			return &member{Conn: conn, leave: sync.OnceFunc(func() { c.leave(from) })}, nil
		}
		conn.Close()
	}
}

// enter takes a place; an address has 1/16 of them.
func (c *crowd) enter(from netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.places || c.by[from] >= max(c.places/16, 1) {
		return false
	}
	c.open++
	c.by[from]++
	return true
}

func (c *crowd) leave(from netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.by[from]--; c.by[from] <= 0 {
		delete(c.by, from)
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
