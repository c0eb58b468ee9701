package fleet

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// TestUpdates: assignments and reports come back, over a restart too, go with
// the change that they are of, and are taken back.
func TestUpdates(t *testing.T) {
	s, dir := newStore(t)
	enrol(t, s, "a", attest.Active)
	enrol(t, s, "b", attest.Active)
	change := func(name string, fn func(*Change) error) {
		t.Helper()
		if err := s.Update(ctx, name, fn); err != nil {
			t.Fatal(err)
		}
	}
	a := &assign.Assignment{Release: strings.Repeat("0a", 32), Version: "1.1.0", Approved: true, Override: true, By: "alice", At: testNow}
	r := &Report{At: testNow.Add(time.Millisecond), Slots: updateapi.Slots{Running: "b", Good: "a", Candidate: "b", Phase: "TRYING", Cause: "hang", Why: []string{"x"},
		Slots: []updateapi.Slot{{Name: "a", Version: "1.0.0"}, {Name: "b", Version: "1.1.0"}}}}
	brief := Brief{Running: "b", Good: "a", Version: "1.0.0", Next: "1.1.0", Phase: "TRYING", Cause: "hang"}
	change("a", func(c *Change) error {
		if got, err := c.Assignment(); got != nil || err != nil {
			t.Errorf("before: %+v, %v", got, err)
		}
		if got, err := c.Report(); got != nil || err != nil {
			t.Errorf("before: %+v, %v", got, err)
		}
		c.Assign(a)
		c.Reported(r)
		if got, err := c.Assignment(); got != a || err != nil {
			t.Errorf("in the change: %+v, %v", got, err)
		}
		return nil
	})
	change("b", func(c *Change) error { c.Assign(a); return nil })
	stop := errors.New("no")
	if err := s.Update(ctx, "a", func(c *Change) error { c.Assign(nil); c.Reported(nil); return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if err := s.Update(ctx, "a", func(c *Change) error { c.Reported(nil); c.Assign(&assign.Assignment{Release: "x"}); return nil }); err == nil {
		t.Error("a release that is no digest")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := s.Assignment(ctx, "a"); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Report(ctx, "a"); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	want := map[string]Update{"a": {brief, r.At, a}, "b": {Assignment: a}}
	if got, err := s.Updates(ctx); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	change = func(name string, fn func(*Change) error) {
		t.Helper()
		if err := s.Update(ctx, name, fn); err != nil {
			t.Fatal(err)
		}
	}
	r.Slots.Phase, a.Approved = "IDLE", false
	change("a", func(c *Change) error {
		if got, err := c.Report(); err != nil || got.Brief() != brief {
			t.Errorf("%+v, %v", got, err)
		}
		c.Assign(a)
		c.Reported(r)
		return nil
	})
	if got, err := s.Updates(ctx); err != nil || got["a"].Phase != "IDLE" || got["a"].Assignment.Approved {
		t.Errorf("%+v, %v", got, err)
	}
	change("a", func(c *Change) error { c.Assign(nil); c.Reported(nil); return nil })
	if got, err := s.Updates(ctx); err != nil || len(got) != 1 || got["b"].Assignment == nil {
		t.Errorf("%+v, %v", got, err)
	}
}
