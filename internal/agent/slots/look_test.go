package slots

import (
	"os"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// TestLooksSeldom: who asks for the slots again and again has the firmware's
// variables read once, and after an event anew.
func TestLooksSeldom(t *testing.T) {
	r := newRack(t)
	r.power()
	if len(r.k.Slots().Entries) == 0 {
		t.Fatal("no entries")
	}
	if err := os.RemoveAll(r.at("vars")); err != nil {
		t.Fatal(err)
	}
	if len(r.k.Slots().Entries) == 0 {
		t.Error("read again at once")
	}
	if err := r.k.Handle(slot.Event{Kind: slot.Adopt}); err != nil {
		t.Fatal(err)
	}
	if got := r.k.Slots().Entries; len(got) != 0 {
		t.Errorf("after an event: %q", got)
	}
}

// TestOneReporter: an update client that begins anew takes the place of the one
// before.
func TestOneReporter(t *testing.T) {
	r := newRack(t)
	r.power()
	r.k.OnReport(func(updateapi.Slots) { t.Error("the client before is told") })
	told := 0
	r.k.OnReport(func(updateapi.Slots) { told++ })
	r.give(slot.Event{Kind: slot.Drifted, Slot: slot.A})
	if told == 0 {
		t.Error("nobody is told")
	}
}
