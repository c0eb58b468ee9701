package agent

import (
	"encoding/binary"
	"time"

	"github.com/ingot-os/ingot/internal/agent/clock"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/partition/state"
)

// setClock raises the clock to the image's epoch, before anything looks at it.
func (m *Machine) setClock() {
	m.raiseClock(clock.Floor(m.spec.Epoch, 0))
}

func (m *Machine) raiseClock(floor time.Time) {
	m.floor = floor
	raised, err := clock.Raise(floor)
	if err != nil {
		m.problem("%v", err)
	}
	m.update(func(s *listener.Status) {
		s.Clock.Floor = floor.Format(time.RFC3339)
		if raised || s.Clock.Source == "" {
			s.Clock.Source = map[bool]string{true: "floor", false: "rtc"}[raised]
		}
	})
}

// readFloor takes the floor that the state partition keeps, when it is higher:
// 8 bytes, little endian, seconds since 1970.
func (m *Machine) readFloor() {
	b, _, err := m.loadState(state.Clock)
	if err != nil || len(b) != 8 {
		return
	}
	stored := int64(binary.LittleEndian.Uint64(b))
	if stored > m.floor.Unix() {
		m.raiseClock(clock.Floor(m.spec.Epoch, stored))
	}
}

// keepFloor stores the image's epoch as the floor when it is higher than the
// kept one: once per version, not per boot (S16).
func (m *Machine) keepFloor() {
	b, _, err := m.loadState(state.Clock)
	if err == nil && len(b) == 8 && int64(binary.LittleEndian.Uint64(b)) >= m.spec.Epoch {
		return
	}
	if m.disk == nil {
		return
	}
	if err := m.storeState(state.Clock, binary.LittleEndian.AppendUint64(nil, uint64(m.spec.Epoch))); err != nil {
		m.problem("keep the clock floor: %v", err)
	}
}

// keepClock runs NTP when servers are configured.
func (m *Machine) keepClock() {
	servers := m.spec.NTP
	if len(m.machine.NTP) > 0 {
		servers = m.machine.NTP
	}
	if len(servers) == 0 {
		m.log.Printf("no time servers are configured, the time comes from the %s", m.timeSource())
		return
	}
	c := &clock.Client{Servers: servers, Floor: m.floor, Signed: m.signedTime, Report: m.reportTime}
	c.Run(m.ctx)
}

// signedTime is what the attestation server has told, moved on by the time since.
func (m *Machine) signedTime() (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.signed.Add(uptime() - m.signedAt), !m.signed.IsZero()
}

// timeSource names where the time comes from when no server tells it.
func (m *Machine) timeSource() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.Clock.Source == "floor" {
		return "floor " + m.status.Clock.Floor + ": the hardware's clock was before it"
	}
	return "hardware's clock"
}

func (m *Machine) reportTime(a clock.Answer, err error) {
	if err != nil {
		m.log.Printf("ntp: %v", err)
		m.update(func(s *listener.Status) { s.Clock.Error = err.Error() })
		return
	}
	m.log.Printf("ntp: %s, off by %s", a.Server, a.Offset)
	m.update(func(s *listener.Status) {
		s.Clock.Source, s.Clock.Server, s.Clock.Offset, s.Clock.Error = "ntp", a.Server, a.Offset.Seconds(), ""
	})
}
