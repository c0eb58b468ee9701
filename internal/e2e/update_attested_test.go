package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/rig"
)

// TestUpdateAttested: a machine follows the server's assignment, is trusted before
// and after it, and by the reference that was there before the reset; a release
// that the server does not know is not blessed, however healthy it is.
func TestUpdateAttested(t *testing.T) {
	needs(t, "amd64")
	l := &lab{port: freePort(t)}
	f := newFoundry(t, "update: {=update: {pull: true, bless: attested, tries: 1, ;interval: 1h=interval: 2s"+
		fmt.Sprintf(";arch: amd64=arch: amd64\nattest: {server: \"https://%s:%d\", interval: 2s}", host, l.port))
	l.keys, l.set = f.keys, f.release(t, "1.0.0", "")
	next, stranger := f.release(t, "1.1.0", ""), f.release(t, "2.0.0", "")
	l.serve(t, filepath.Join(t.TempDir(), "state"), "--release", next.Dir)

	const name = "edge-1"
	b := newBox(t, f, l.set, func(m *qemu.Machine) {
		m.TPM, m.State = true, rig.State([]byte("hostname: "+name+"\n"))
	})
	b.on()
	b.runs("1.0.0")
	b.m.State = nil // once: it would write in each start
	ek := l.until(t, name, "waiting", pending)
	l.hosts(t, ek.Name, "--approve")
	if s := l.until(t, name, "trusted", trusted); s.Last == nil || s.Last.Slot != "a" {
		t.Errorf("before the update: %+v", s)
	}

	l.hosts(t, name, "--assign", "1.1.0", "--approve-update")
	b.blessed("1.1.0", slot.B)
	after := l.until(t, name, "trusted from slot b", func(s standing) bool { return trusted(s) && s.Last != nil && s.Last.Slot == "b" })
	// The order of the two slots is another one since the bless.
	l.until(t, name, "trusted after the change of BootOrder", func(s standing) bool { return trusted(s) && s.Last != nil && s.Last.Seq > after.Last.Seq+1 })

	l.hosts(t, name, "--unassign")
	r := ingot(t, "update", b.address(9443), "--image", stranger.Dir, "--keys", f.keys, "--name", name)
	t.Logf("%s", r.stderr)
	if r.code != 1 {
		t.Errorf("ingot update of a release that the server does not know: code %d", r.code)
	}
	b.runs("1.1.0")
	if j := b.rests(slot.Rejected); j.Cause != slot.NotAttested || j.Good != slot.B {
		t.Errorf("the journal says %+v", j)
	}
	l.until(t, name, "trusted again", func(s standing) bool { return trusted(s) && s.Last != nil && s.Last.Slot == "b" })
}
