package slots

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
)

// TestDeafFirmware: firmware that leaves BootNext where it is costs one reset more,
// once. The machine is updated all the same, and says by what means.
func TestDeafFirmware(t *testing.T) {
	r := newRack(t)
	r.power()
	r.deaf, r.chain = true, nil
	update(t, r, "2.0")
	want(t, r, "2.0", slot.Blessed)
	if got := strings.Join(r.chain, " "); got != "a=1.0 a=1.0 b=2.0" {
		t.Errorf("the boots are %s", got)
	}
	s := r.k.Slots()
	if s.Means != "selector" || s.Next != "" || len(s.Rejected) != 0 || !slices.Contains(s.Why, "chosen by: selector, because the firmware does not use BootNext") {
		t.Errorf("%+v", s)
	}
	stage(t, r, "3.0") // the firmware starts slot a for ever, so 2.0 goes there first
	update(t, r, "3.0")
	want(t, r, "3.0", slot.Blessed)
	if s := r.k.State(); s.Means != slot.Selector || len(s.Rejections) != 0 {
		t.Errorf("by %s, rejected %v", s.Means, s.Rejections)
	}
}

// TestDeafUnderSecureBoot: there the firmware alone may start a slot. The release
// waits, the machine does not reset for it again and again, and the next release
// asks the firmware once more.
func TestDeafUnderSecureBoot(t *testing.T) {
	r := newRack(t)
	r.refuse = errors.New("Secure Boot is on")
	r.power()
	r.deaf = true
	update(t, r, "2.0")
	want(t, r, "1.0", slot.Staged)
	if s := r.k.State(); s.TriesLeft != 3 || s.Arms != 0 || len(s.Rejections) != 0 {
		t.Errorf("%d tries left, %d starts, rejected %v", s.TriesLeft, s.Arms, s.Rejections)
	}
	before := len(r.chain)
	for range 3 {
		r.event(slot.Event{Kind: slot.Approve})
		stage(t, r, "2.0")
	}
	if len(r.chain) != before || !slices.ContainsFunc(r.log, func(l string) bool { return strings.Contains(l, "does not use BootNext; Secure Boot is on") }) {
		t.Errorf("the boots are %v\n%s", r.chain, strings.Join(r.log, "\n"))
	}
	r.deaf = false
	update(t, r, "3.0")
	want(t, r, "3.0", slot.Blessed)
	if s := r.k.State(); s.Means != slot.Firmware || s.Deaf {
		t.Errorf("by %s", s.Means)
	}
}
