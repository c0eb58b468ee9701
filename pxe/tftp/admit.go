package tftp

import (
	"net/netip"
	"time"
)

// maxSources bounds the memory about source addresses. They can be forged, so when all
// of them are busy another one is let through unmetered: Transfers and Waiting bound
// what it can do.
const maxSources = 1 << 16

// meter bounds what one source address does: a token bucket for its requests, a count
// of its transfers. It has no clock of its own.
type meter struct {
	limits  Limits
	sources map[netip.Addr]*source
	swept   time.Time
}

type source struct {
	tokens float64
	at     time.Time
	active int
}

// prefix is what counts as one source: a host of IPv6 has a whole /64 of addresses.
func prefix(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		p, err := a.WithZone("").Prefix(64)
		if err == nil && !a.IsLinkLocalUnicast() {
			return p.Addr()
		}
	}
	return a
}

// take spends the token of a request, and counts its transfer until give.
func (m *meter) take(a netip.Addr, now time.Time) bool {
	a = prefix(a)
	s := m.sources[a]
	if s == nil {
		if len(m.sources) >= maxSources && now.Sub(m.swept) >= time.Second {
			m.sweep(now)
		}
		if len(m.sources) >= maxSources {
			return true
		}
		s = &source{tokens: float64(m.limits.Burst), at: now}
		m.sources[a] = s
	}
	s.refill(m.limits, now)
	if s.tokens < 1 || s.active >= m.limits.PerSource {
		return false
	}
	s.tokens--
	s.active++
	return true
}

// give ends a transfer.
func (m *meter) give(a netip.Addr) {
	if s := m.sources[prefix(a)]; s != nil && s.active > 0 {
		s.active--
	}
}

func (s *source) refill(l Limits, now time.Time) {
	s.tokens = min(float64(l.Burst), s.tokens+now.Sub(s.at).Seconds()*float64(l.Rate))
	s.at = now
}

// sweep forgets sources that have all their tokens again.
func (m *meter) sweep(now time.Time) {
	m.swept = now
	for a, s := range m.sources {
		if s.refill(m.limits, now); s.active == 0 && s.tokens >= float64(m.limits.Burst) {
			delete(m.sources, a)
		}
	}
}
