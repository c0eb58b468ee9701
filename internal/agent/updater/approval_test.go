package updater

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// stage writes a release and does not approve it.
func (b *bench) stage(r rel) {
	b.t.Helper()
	for _, part := range []string{"root", "slot"} {
		if _, err := b.send(r, part, "identity"); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestOverrideIsNoApproval: a version that was approved and then rejected waits
// for another approval when it is taken off the list.
func TestOverrideIsNoApproval(t *testing.T) {
	for _, seen := range []bool{false, true} {
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
		if seen && b.updater.owesTry() {
			t.Error("a rejected version is owed a try")
		}
		if seen && parseKept(b.keeper.Progress()).Approved {
			t.Error("the approval of a rejected version is kept")
		}
		p, err := b.updater.Override(updateapi.Override{Version: "2.0"})
		if err != nil || p.Phase != "STAGED" {
			t.Fatalf("%+v, %v", p, err)
		}
		if b.updater.owesTry() {
			t.Error("it is tried without an approval")
		}
	}
}

// TestNothingComesBetween: what was approved is not exchanged before the reset.
func TestNothingComesBetween(t *testing.T) {
	b := newBench(t)
	b.stage(fresh)
	b.updater.grace = time.Hour
	if _, err := b.updater.Approve("ann"); err != nil {
		t.Fatal(err)
	}
	third := fresh
	third.version, third.slot = "3.0", image(7, mib, 24*mib)
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: third.manifest(t, signer())}); code(err) != updateapi.Busy {
		t.Errorf("another offer: %v", err)
	}
	if _, err := b.updater.Write("root", 0, "identity", strings.NewReader("x")); code(err) != updateapi.Busy {
		t.Errorf("a body: %v", err)
	}
	b.staged(fresh)
}

// TestAnotherCandidate: an order ends when its candidate has been exchanged, and
// the server's approval is for what it assigned.
func TestAnotherCandidate(t *testing.T) {
	b := newBench(t)
	b.stage(fresh)
	other := old.content()
	if _, err := b.updater.approve(other, "ann"); code(err) != updateapi.Busy {
		t.Errorf("%v", err)
	}
	b.updater.remember(true, func(c slot.Content) bool { return same(c, other) })
	if parseKept(b.keeper.Progress()).Approved {
		t.Error("another version's approval is kept")
	}
	b.updater.grace = 200 * time.Millisecond
	if _, err := b.updater.Approve("ann"); err != nil {
		t.Fatal(err)
	}
	b.keeper.mu.Lock()
	b.keeper.state.Slots[1].Image[0] ^= 1
	b.keeper.mu.Unlock()
	for range 500 {
		b.updater.mu.Lock()
		waits := b.updater.resets
		b.updater.mu.Unlock()
		if !waits {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := b.keeper.State(); s.Phase != slot.Staged || b.keeper.resets != 0 {
		t.Errorf("%v: what nobody approved is tried", s.Phase)
	}
}

// TestRestoreOfTheUnknown: a slot of which the journal knew nothing is known once
// it was restored; what failed here before does not come that way.
func TestRestoreOfTheUnknown(t *testing.T) {
	b := newBench(t)
	b.keeper.journal.Slots[0] = slot.Content{Condition: slot.Damaged}
	b.keeper.boot(slot.None)
	b.keeper.state.Rejections = []slot.Rejection{{Version: "2.0", Cause: slot.Panic}}
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer())}); code(err) != updateapi.IsRejected {
		t.Errorf("a rejected version: %v", err)
	}
	b.stage(old)
	<-b.keeper.reset
	want := old.content()
	want.Condition = slot.Good
	if s := b.keeper.State(); s.Of(slot.A) != want {
		t.Errorf("%+v, want %+v", s.Of(slot.A), want)
	}
}

// TestDiskPanics: a panic below package slot is an error of the transfer.
func TestDiskPanics(t *testing.T) {
	b := newBench(t)
	b.offer(fresh)
	b.updater.tap = func(string, int64, []byte) { panic("a bad index") }
	if _, err := b.updater.Write("root", 0, "identity", bytes.NewReader(used(fresh.root))); code(err) != updateapi.Failed || !strings.Contains(err.Error(), "a bad index") {
		t.Errorf("%v", err)
	}
}

// TestReadError: after an error nothing is read of what comes behind it.
func TestReadError(t *testing.T) {
	a := &ahead{ready: make(chan filled, 1), free: make(chan []byte, depth)}
	a.ready <- filled{b: []byte("not read"), err: io.ErrUnexpectedEOF}
	for range 2 {
		if n, err := a.read(make([]byte, 3)); n != 0 || err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}
