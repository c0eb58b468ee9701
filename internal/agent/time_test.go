package agent

import (
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/clock"
	"github.com/ingot-os/ingot/internal/agent/listener"
)

// TestTimeOfNTPIsNotSigned: an answer of NTP, which anybody may have forged, does
// not keep the server's time from being taken, and is compared with it later.
func TestTimeOfNTPIsNotSigned(t *testing.T) {
	m := testMachine(t)
	now := time.Date(2031, 5, 1, 0, 0, 0, 0, time.UTC)
	m.reportTime(clock.Answer{Server: "forged"}, nil)
	if m.timeKnown() {
		t.Fatal("the time is known by NTP alone")
	}
	for _, c := range []struct {
		told time.Time
		set  bool
	}{
		{now.Add(time.Minute), false}, // NTP is more exact
		{now.Add(time.Hour), true},
		{now.Add(-time.Hour), true},
		{now.Add(-time.Minute), false},
	} {
		if got := m.recordTime(c.told, now); got != c.set {
			t.Errorf("told %s at %s: sets the clock: %t", c.told, now, got)
		}
		if signed, ok := m.signedTime(); !ok || !m.timeKnown() || signed.Sub(c.told).Abs() > time.Minute/2 {
			t.Errorf("signed time %s, want that of the last challenge, %s", signed, c.told)
		}
	}
}

// TestFirstTimeSetsTheClock: a clock that nobody has set is set at once.
func TestFirstTimeSetsTheClock(t *testing.T) {
	m := testMachine(t)
	m.update(func(s *listener.Status) { s.Clock.Source = "rtc" })
	now := time.Date(2031, 5, 1, 0, 0, 0, 0, time.UTC)
	if !m.recordTime(now.Add(time.Second), now) || m.recordTime(now.Add(time.Second), now) {
		t.Error("it is set by the first word of the server alone")
	}
}
