package dhcpd6

import (
	"errors"
	"net/netip"
	"sync"
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
