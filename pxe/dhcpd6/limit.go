package dhcpd6

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Firmware that boots sends about five messages in a minute. One that is in a loop is
// answered this often, and no more; so is an address that somebody else writes into his
// datagrams.
const (
	perWindow  = 30
	window     = 10 * time.Second
	maxLimited = 1 << 14 // addresses that are counted at once
)

// limiter counts messages of each address in a window of time.
type limiter struct {
	mu    sync.Mutex
	since time.Time
	seen  map[netip.Addr]int
}

// allow reports whether a message is to be answered. When more addresses are seen than are
// counted, whoever makes them up passes, and the socket's buffer is the limit.
func (l *limiter) allow(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil || now.Sub(l.since) >= window || now.Before(l.since) || len(l.seen) >= maxLimited {
		l.seen, l.since = map[netip.Addr]int{}, now
	}
	l.seen[a]++
	return l.seen[a] <= perWindow
}

// Stats counts datagrams since the start.
type Stats struct {
	Received  uint64
	Malformed uint64 // not DHCPv6
	Refused   uint64 // from where no client and no relay is
	Limited   uint64 // too many of one address
	Foreign   uint64 // for other servers, or of clients that are not served
	Answered  uint64
	Failed    uint64 // answers that could not be sent
}

type counters struct {
	received, malformed, refused, limited, foreign, answered, failed atomic.Uint64
}

// Stats are the counters as they are now.
func (s *Server) Stats() Stats {
	c := &s.count
	return Stats{c.received.Load(), c.malformed.Load(), c.refused.Load(), c.limited.Load(), c.foreign.Load(), c.answered.Load(), c.failed.Load()}
}

// temporary are errors of a socket that goes on: a link that is down for a while, memory
// that is short.
func temporary(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EINTR, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
