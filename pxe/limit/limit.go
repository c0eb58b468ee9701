// Package limit bounds how often one client is answered. It is for the DHCP servers,
// whose clients are addresses that anybody can write into a datagram.
//
//	var c limit.Clients[netip.Addr]
//	if !c.Allow(from, now) { ... } // no answer
package limit

import (
	"sync"
	"time"
)

// Firmware that boots sends five to ten messages in a minute. One that is in a loop is
// answered this often, and no more, so that it does not take the place of others; so is
// an address that somebody else writes into his datagrams.
const (
	PerWindow  = 30
	Window     = 10 * time.Second
	maxLimited = 1 << 14 // clients that are counted at once
)

// Clients counts messages of each client in a window of time: PerWindow in Window. The
// zero value is ready. Its methods may be called concurrently.
//
// It has room for 16384 clients. When more are seen in a window it forgets all and counts
// anew: whoever makes up addresses passes, and what bounds him is the queue behind.
type Clients[Client comparable] struct {
	mu    sync.Mutex
	since time.Time
	seen  map[Client]int
}

// Allow counts a message that came now, and reports whether it is to be answered. A clock
// that was set back begins another window.
func (l *Clients[Client]) Allow(c Client, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil || now.Sub(l.since) >= Window || now.Before(l.since) || len(l.seen) >= maxLimited {
		l.seen, l.since = map[Client]int{}, now
	}
	l.seen[c]++
	return l.seen[c] <= PerWindow
}
