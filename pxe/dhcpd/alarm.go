package dhcpd

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

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
