package agent

import (
	"testing"
	"time"
)

// TestCrashIsNotFed: a crash that does not come to its end ends by the watchdog,
// whatever lock the goroutine that crashed holds.
func TestCrashIsNotFed(t *testing.T) {
	m := testMachine(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashing.Store(true)
	answer := make(chan string, 1)
	go func() { answer <- m.alive() }()
	select {
	case why := <-answer:
		if why == "" {
			t.Error("a machine that crashes is fed")
		}
	case <-time.After(10 * time.Second):
		t.Error("no answer")
	}
}

// TestEndsBy: the end comes although init stands still, and a stop has the time of
// its services and no longer.
func TestEndsBy(t *testing.T) {
	ended := make(chan struct{})
	endBy(time.Millisecond, func() { close(ended) })
	<-ended // where the sync would wait
	m := testMachine(t)
	if got, want := stopTime(m.super), m.super.stopLimit()+stopGrace; got != want || stopTime(nil) != stopGrace {
		t.Errorf("%s, %s; want %s, %s", got, stopTime(nil), want, stopGrace)
	}
}
