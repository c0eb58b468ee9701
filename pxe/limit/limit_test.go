package limit

import (
	"testing"
	"time"
)

// TestClients: each client has its own messages, a window ends, and the table is bounded.
func TestClients(t *testing.T) {
	var l Clients[int]
	start := time.Unix(1700000000, 0)
	allowed := func(client, times int, now time.Time) (n int) {
		for range times {
			if l.Allow(client, now) {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		name          string
		client, times int
		at            time.Duration
		want          int
	}{
		{"a loop", 1, 100, 0, PerWindow},
		{"the end of the window", 1, 100, Window - 1, 0},
		{"another client", 2, PerWindow, Window - 1, PerWindow},
		{"the next window", 1, 100, Window, PerWindow},
		{"a clock that was set back", 1, 100, Window - time.Hour, PerWindow},
	} {
		if got := allowed(tt.client, tt.times, start.Add(tt.at)); got != tt.want {
			t.Errorf("%s: %d of %d, want %d", tt.name, got, tt.times, tt.want)
		}
	}
	for client := range 3 * maxLimited {
		if !l.Allow(client, start.Add(Window)) {
			t.Fatalf("client %d, with its first message", client)
		}
		if len(l.seen) > maxLimited {
			t.Fatalf("%d clients are counted", len(l.seen))
		}
	}
}
