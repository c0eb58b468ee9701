package depot

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSettle: reading begins when a change would get another time than the last
// one has; a clock that was set back is not waited for.
func TestSettle(t *testing.T) {
	stamp := func(at time.Time) *file { return &file{is: identity{ctime: unix.NsecToTimespec(at.UnixNano())}} }
	now := time.Now()
	if err := stamp(now).settle(context.Background()); err != nil || time.Since(now) < tick {
		t.Errorf("after %s: %v", time.Since(now), err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := stamp(time.Now().Add(tick / 2)).settle(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait: %v", err)
	}
	for _, at := range []time.Time{time.Now().Add(-time.Hour), time.Now().Add(time.Hour), {}} {
		if err := stamp(at).settle(gone); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}
