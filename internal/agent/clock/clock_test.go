package clock

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestFloor(t *testing.T) {
	if got := Floor(100, 50).Unix(); got != 100 {
		t.Errorf("Floor(100, 50) = %d", got)
	}
	if got := Floor(100, 150).Unix(); got != 150 {
		t.Errorf("Floor(100, 150) = %d", got)
	}
	if raised, err := Raise(time.Unix(0, 0)); raised || err != nil {
		t.Errorf("Raise to 1970 = %v, %v; want nothing done", raised, err)
	}
}

func TestOnceTakesTheFirstUsableAnswer(t *testing.T) {
	now := time.Now()
	answers := map[string]Answer{
		"past":  {Server: "past", Offset: -48 * time.Hour},
		"good":  {Server: "good", Offset: time.Second},
		"other": {Server: "other", Offset: time.Hour},
	}
	var moved []time.Duration
	c := &Client{
		Servers: []string{"dead", "past", "good", "other"}, Floor: now.Add(-24 * time.Hour),
		Query: func(s string) (Answer, error) {
			if a, ok := answers[s]; ok {
				return a, nil
			}
			return Answer{}, errors.New("ask " + s + ": no answer")
		},
		Adjust: func(d time.Duration) error { moved = append(moved, d); return nil },
	}
	if a, err := c.Once(); err != nil || a.Server != "good" || len(moved) != 1 || moved[0] != time.Second {
		t.Errorf("Once() = %+v, %v; moved %v", a, err, moved)
	}
	c.Servers = []string{"dead", "past"}
	_, err := c.Once()
	if err == nil || !strings.Contains(err.Error(), "no answer") || !strings.Contains(err.Error(), "before the floor") || len(moved) != 1 {
		t.Errorf("Once() = %v, moved %v; want both reasons and no move", err, moved)
	}
	c.Servers = nil
	if _, err := c.Once(); err == nil {
		t.Error("Once() without servers succeeds")
	}
}

func TestRunReportsAndEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	reports := 0
	c := &Client{Servers: []string{"x"}, Query: func(string) (Answer, error) { return Answer{Server: "x"}, nil },
		Adjust: func(time.Duration) error { return nil },
		Report: func(a Answer, err error) {
			reports++
			if a.Server != "x" || err != nil {
				t.Errorf("report %+v, %v", a, err)
			}
			cancel()
		}}
	c.Run(ctx)
	if reports != 1 {
		t.Errorf("%d reports, want 1", reports)
	}
}

// TestNearSignedTime: what a server with a certificate has told bounds what NTP,
// which anybody can answer, may say.
func TestNearSignedTime(t *testing.T) {
	for _, c := range []struct {
		offset time.Duration
		signed bool
		ok     bool
	}{{5 * time.Minute, true, true}, {-5 * time.Minute, true, true}, {time.Hour, true, false}, {-time.Hour, true, false}, {time.Hour, false, true}} {
		moved := false
		cl := &Client{Servers: []string{"a"}, Signed: func() (time.Time, bool) { return time.Now(), c.signed },
			Query:  func(string) (Answer, error) { return Answer{Server: "a", Offset: c.offset}, nil },
			Adjust: func(time.Duration) error { moved = true; return nil }}
		if _, err := cl.Once(); (err == nil) != c.ok || moved != c.ok {
			t.Errorf("%s, signed %t: %v, moved %t", c.offset, c.signed, err, moved)
		}
	}
}
