package dhcpd

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// A machine that boots sends about ten messages in a minute. One that is in a loop is
// answered this often, and no more, so that it does not take the place of others.
const (
	perWindow  = 30
	window     = 10 * time.Second
	maxLimited = 1 << 14 // machines that are counted at once
)

// limiter counts messages of each machine in a window of time.
type limiter struct {
	mu    sync.Mutex
	since time.Time
	seen  map[netboot.MAC]int
}

// allow reports whether a message is to be answered. When more machines are seen than are
// counted, whoever makes up addresses passes, and the queues are the limit.
func (l *limiter) allow(m netboot.MAC, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil || now.Sub(l.since) >= window || now.Before(l.since) || len(l.seen) >= maxLimited {
		l.seen, l.since = map[netboot.MAC]int{}, now
	}
	l.seen[m]++
	return l.seen[m] <= perWindow
}

// alarmTime is how long one kind of alarm is told once.
const alarmTime = 10 * time.Second

// maxAlarms is how many kinds there are at once: those of the subnets, and a handful.
const maxAlarms = 1024

type alarms struct {
	mu   sync.Mutex
	told map[string]*alarm
}

type alarm struct {
	at   time.Time
	more int
}

// first reports whether an alarm is to be told, and how many were not since the last.
func (a *alarms) first(kind string, now time.Time) (more int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told == nil || len(a.told) >= maxAlarms {
		a.told = map[string]*alarm{}
	}
	x := a.told[kind]
	if x != nil && now.Sub(x.at) < alarmTime && !now.Before(x.at) {
		x.more++
		return 0, false
	}
	if x != nil {
		more = x.more
	}
	a.told[kind] = &alarm{at: now}
	return more, true
}

// temporary are errors of a socket that goes on: an ICMP message about an earlier answer, or
// a link that is down for a while.
func temporary(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EINTR, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
