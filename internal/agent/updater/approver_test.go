package updater

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// approvedBy is the line of the explanation about who approved; it is never the 21st.
func (b *bench) approvedBy() string {
	b.t.Helper()
	why := b.updater.Slots().Why
	if len(why) > maxWhy {
		b.t.Errorf("%d lines: %q", len(why), why)
	}
	i := slices.IndexFunc(why, func(l string) bool { return strings.HasPrefix(l, "approved: ") })
	if i < 0 {
		return ""
	}
	return why[i]
}

// becomesGood is the trial of what was armed, with a good end.
func (b *bench) becomesGood(x slot.Slot) {
	b.t.Helper()
	<-b.keeper.reset
	b.keeper.boot(x)
	for _, at := range []int{1, 3600} {
		if err := b.keeper.Handle(slot.Event{Kind: slot.Checked, OK: true, Uptime: time.Duration(at) * time.Second}); err != nil {
			b.t.Fatal(err)
		}
	}
	if s := b.keeper.State(); s.Good != x {
		b.t.Fatalf("%s is good, in phase %s", s.Good, s.Phase)
	}
	b.start()
}

// third is what comes after fresh.
func third() rel {
	r := fresh
	r.version, r.slot, r.root = "3.0", image(7, mib, 24*mib), image(8, mib, 8*mib)
	return r
}

// TestWhoApproved: the explanation names who approved what is tried, and once it is good who
// approved that, also when the next update is under way.
func TestWhoApproved(t *testing.T) {
	b := newBench(t)
	if got := b.approvedBy(); got != "" {
		t.Errorf("of a disk that was flashed: %q", got)
	}
	b.stage(fresh)
	if got := b.approvedBy(); got != "" {
		t.Errorf("nobody has approved it yet: %q", got)
	}
	if _, err := b.updater.Approve(`operator "ann@desk"`); err != nil {
		t.Fatal(err)
	}
	const ann = `approved: version 2.0, by operator "ann@desk"`
	if got := b.approvedBy(); got != ann {
		t.Errorf("approved: %q", got)
	}
	b.becomesGood(slot.B)
	if got := b.approvedBy(); got != ann {
		t.Errorf("good: %q", got)
	}
	next := third()
	f := attested(b, next)
	f.answer.Approved = false
	f.rounds(t, 1)
	if s := b.keeper.State(); s.Phase != slot.Staged || b.approvedBy() != ann {
		t.Errorf("%s: %q", s.Phase, b.approvedBy())
	}
	f.answer.Approved = true
	f.rounds(t, 1)
	if got := b.approvedBy(); got != "approved: version 3.0, by the server" {
		t.Errorf("by the server: %q", got)
	}
	<-b.keeper.reset
	b.keeper.boot(slot.B) // the trial was lost
	b.start()
	b.keeper.mu.Lock()
	b.keeper.state.Phase, b.keeper.state.Candidate = slot.Idle, slot.None
	b.keeper.mu.Unlock()
	if got := b.approvedBy(); got != ann {
		t.Errorf("when the update was given up: %q", got)
	}
}

// TestApprovedOffers: an offer is approved by whoever made it, and a stick by itself.
func TestApprovedOffers(t *testing.T) {
	b := newBench(t)
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer()), Approve: true, By: `operator "bob"`}); err != nil {
		t.Fatal(err)
	}
	b.stage(fresh)
	if got := b.approvedBy(); got != `approved: version 2.0, by operator "bob"` {
		t.Errorf("an offer: %q", got)
	}
	b = newBench(t)
	s := b.port()
	b.plug(s, "sda1", "pci0/usb1/1-1", stickOf(t, b.bundleOf(newer(), signer())))
	s.look()
	<-b.keeper.reset
	if got := b.approvedBy(); got != "approved: version 2.0, by the stick sda1" {
		t.Errorf("a stick: %q", got)
	}
}

// TestRejectedApproval: who approved what was rejected is still told, and no approval of the
// next try once it is off the list.
func TestRejectedApproval(t *testing.T) {
	b := newBench(t)
	b.stage(fresh)
	if _, err := b.updater.Approve("ann"); err != nil {
		t.Fatal(err)
	}
	<-b.keeper.reset
	b.keeper.boot(slot.A)
	b.keeper.mu.Lock()
	b.keeper.state.Phase, b.keeper.state.Rejections = slot.Rejected, []slot.Rejection{{Version: "2.0", Cause: slot.Panic}}
	b.keeper.mu.Unlock()
	b.start()
	b.updater.owesTry()
	if got := b.approvedBy(); got != "approved: version 2.0, by ann" {
		t.Errorf("rejected: %q", got)
	}
	if _, err := b.updater.Override(updateapi.Override{Version: "2.0"}); err != nil {
		t.Fatal(err)
	}
	if got := b.approvedBy(); got != "" {
		t.Errorf("off the list: %q", got)
	}
}
