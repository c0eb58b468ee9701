package netslot

import (
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
)

// TestReturn: a try that was not the machine's own is there again; one that was
// seen is not.
func TestReturn(t *testing.T) {
	s := server(t, inMemory())
	do := func(out Outcome, err error) Outcome { t.Helper(); return must(t, out, err) }
	do(s.Handle("web-1", slot.Event{Kind: slot.Stage, Release: v2}))
	do(s.Handle("web-1", slot.Event{Kind: slot.Approve}))
	for range 20 { // forged, again and again
		if out := do(s.Serve("web-1")); out.Content.Version != "2.0" {
			t.Fatalf("serves %s", out.Content.Version)
		}
		if out := do(s.Return("web-1")); out.State.Launched || out.State.TriesLeft != 3 {
			t.Fatalf("after Return: %+v", out.State)
		}
	}
	if out := do(s.Disarm("web-1")); out.State.Phase != slot.Staged || out.State.Arms != 0 {
		t.Errorf("after Disarm: %s, %d arms", out.State.Phase, out.State.Arms)
	}
	do(s.Handle("web-1", slot.Event{Kind: slot.Approve}))
	do(s.Serve("web-1"))
	do(s.Booted("web-1", v2.Image, nil))
	if out := do(s.Return("web-1")); out.State.Phase != slot.Trying {
		t.Errorf("a try that was seen is %s after Return", out.State.Phase)
	}
	if out := do(s.Disarm("web-1")); out.State.Phase != slot.Trying {
		t.Errorf("a try that was seen is %s after Disarm", out.State.Phase)
	}
	if _, err := s.Return("web-9"); err == nil {
		t.Error("a try of an unknown machine was given back")
	}
}
