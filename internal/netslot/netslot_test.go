package netslot

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
)

var (
	v1 = slot.Content{Version: "1.0", Image: slot.Digest{1}, Epoch: 1}
	v2 = slot.Content{Version: "2.0", Image: slot.Digest{2}, Epoch: 2}
)

// memory is a Store with transactions, as a database has them.
type memory struct {
	mu      sync.Mutex
	entries map[string]Entry
}

func (m *memory) Change(host string, f func(*Entry) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[host]
	if err := f(&e); err != nil {
		return err
	}
	m.entries[host] = e
	return nil
}

// asked says what Serve would serve, on a copy.
func (m *memory) asked(s *Server) (slot.Content, error) {
	m.mu.Lock()
	e := m.entries["web-1"]
	m.mu.Unlock()
	again := &Server{Store: &memory{entries: map[string]Entry{"web-1": e}}, Rules: s.Rules, Ready: s.Ready}
	out, err := again.Serve("web-1")
	return out.Content, err
}

func inMemory() *memory { return &memory{entries: map[string]Entry{}} }

func server(t *testing.T, s Store) *Server {
	t.Helper()
	out := &Server{Store: s}
	if err := out.Enrol("web-1", v1); err != nil {
		t.Fatal(err)
	}
	return out
}

func must(t *testing.T, out Outcome, err error) Outcome {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTrial: the candidate is served once, the good release until it is blessed.
func TestTrial(t *testing.T) {
	store := inMemory()
	s := server(t, store)
	serve := func(want string) Outcome {
		t.Helper()
		out, err := s.Serve("web-1")
		if must(t, out, err); out.Content.Version != want {
			t.Fatalf("serves %s, want %s: %v", out.Content.Version, want, out.State.Why())
		}
		return out
	}
	handle := func(e slot.Event) Outcome {
		t.Helper()
		out, err := s.Handle("web-1", e)
		return must(t, out, err)
	}
	serve("1.0")
	handle(slot.Event{Kind: slot.Stage, Release: v2})
	serve("1.0")
	if _, err := s.Booted("web-1", v1.Image, nil); err != nil {
		t.Fatal(err)
	}
	if out := handle(slot.Event{Kind: slot.Approve}); !out.Reset {
		t.Errorf("an armed machine is not told to start again: %+v", out)
	}
	for range 3 { // probes burn nothing
		if c, err := store.asked(s); err != nil || c.Version != "2.0" {
			t.Fatalf("a copy serves %s, %v", c.Version, err)
		}
	}
	serve("2.0")
	serve("1.0") // it asks again: the first try was lost
	if out, err := s.Booted("web-1", v1.Image, nil); must(t, out, err).State.Phase != slot.Failed {
		t.Errorf("a lost try leaves %s", out.State.Phase)
	}
	handle(slot.Event{Kind: slot.Approve})
	serve("2.0")
	must2 := func(out Outcome, err error) Outcome { t.Helper(); return must(t, out, err) }
	must2(s.Booted("web-1", v2.Image, nil))
	s.hosts = nil // the server is started anew in the trial
	must2(s.Health("web-1", true, slot.NoCause, "", time.Second))
	if out := must2(s.Health("web-1", true, slot.NoCause, "", 2*time.Minute)); out.State.Phase != slot.Blessed {
		t.Errorf("a healthy trial is %s", out.State.Phase)
	}
	serve("2.0")
}

// TestNotReady: what the server cannot serve is not served, and does not stop it
// from serving the other.
func TestNotReady(t *testing.T) {
	s := server(t, inMemory())
	s.Ready = func(c slot.Content) error {
		if c.Version == "2.0" {
			return errors.New("a byte differs")
		}
		return nil
	}
	out, err := s.Handle("web-1", slot.Event{Kind: slot.Stage, Release: v2})
	if must(t, out, err).State.Phase == slot.Staged {
		t.Error("a release that is not there was staged")
	}
	if out, err := s.Serve("web-1"); err != nil || out.Content.Version != "1.0" {
		t.Errorf("serves %s, %v", out.Content.Version, err)
	}
	s.Ready = func(slot.Content) error { return errors.New("the disk is gone") }
	if _, err := s.Serve("web-1"); err == nil || !strings.Contains(err.Error(), "web-1") {
		t.Errorf("Serve = %v", err)
	}
}

func TestRefusals(t *testing.T) {
	store := inMemory()
	s := server(t, store)
	if err := s.Enrol("web-1", v2); err == nil {
		t.Error("a machine was enrolled twice")
	}
	if _, err := s.Serve("web-2"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Serve of an unknown machine = %v", err)
	}
	if _, err := s.Booted("web-1", slot.Digest{9}, nil); err == nil || !strings.Contains(err.Error(), "in no slot") {
		t.Errorf("Booted of another image = %v", err)
	}
	if _, err := s.Handle("web-1", slot.Event{Kind: slot.Booted}); err == nil {
		t.Error("a boot was told by Handle")
	}
	for name, e := range map[string]Entry{"broken": {Journal: []byte("{")}, "cut": {Journal: store.entries["web-1"].Journal[:9]}, "list": {Journal: store.entries["web-1"].Journal, Rejected: []byte("x")}} {
		store.entries[name] = e
		if _, err := s.Serve(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("what is kept of %s was taken: %v", name, err)
		}
	}
}

// TestManyAtOnce: events of one machine come one after the other.
func TestManyAtOnce(t *testing.T) {
	s := server(t, inMemory())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				if _, err := s.Serve("web-1"); err != nil {
					t.Error(err)
				}
				if _, err := s.Handle("web-1", slot.Event{Kind: slot.Stage, Release: v2}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
