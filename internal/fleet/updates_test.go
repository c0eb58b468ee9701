package fleet

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
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

// TestCheckpoints: the log is taken into the database while changes come in, and
// begins anew: neither grows without end.
func TestCheckpoints(t *testing.T) {
	s, dir := newStore(t)
	enrol(t, s, "a", attest.Active)
	var all sync.WaitGroup
	work := make(chan int)
	for range 64 {
		all.Go(func() {
			for range work {
				err := s.Update(ctx, "a", func(c *Change) error {
					c.Record(&audit.Record{Kind: audit.KindFloor, Time: testNow})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for i := range 3 * checkpointEach {
		work <- i
	}
	close(work)
	all.Wait()
	if n := size(FileName); n < 300<<10 {
		t.Errorf("the database has %d bytes: nothing was taken in", n)
	}
	if n := size(FileName + "-wal"); n > 40<<20 {
		t.Errorf("the log has %d bytes", n)
	}
}

// TestMigrate: a state of the schema before is opened, and an attestation key is
// still one host's.
func TestMigrate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := connect(filepath.Join(dir, FileName), "rwc")
	if err != nil {
		t.Fatal(err)
	}
	body := `{"record":{"name":"a","state":"active","akName":"` + base64.StdEncoding.EncodeToString([]byte("ak of b")) + `","ekName":"YQ=="}}`
	for _, q := range append(slices.Clone(migrations[:2]), "PRAGMA user_version = 2",
		"INSERT INTO hosts (name, ek, state, heard, silent, revision, seq, head, body) VALUES ('a', x'61', 'active', 0, 0, 1, 0, x'', '"+body+"')") {
		if _, err := db.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if h, err := s.Host(ctx, "a"); err != nil || string(h.Record.AKName) != "ak of b" {
		t.Errorf("%+v, %v", h, err)
	}
	h := &Host{Host: attest.Host{Record: attest.Record{Name: "b", State: attest.Active, AKName: []byte("ak of b"), EKName: []byte("ek of b")}}}
	if err := s.Update(ctx, "b", func(c *Change) error { c.Host = h; return nil }); !errors.Is(err, ErrTaken) {
		t.Errorf("the key of another: %v", err)
	}
	if err := s.Update(ctx, "a", func(c *Change) error { c.Host.Record.AKName = []byte("new"); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(ctx, "b", func(c *Change) error { c.Host = h; return nil }); err != nil {
		t.Errorf("a key that is free now: %v", err)
	}
}
