package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition"
)

// TestPatrol: a byte of the slot that a machine runs changes on its disk. The
// machine finds that while it runs, and the journal and `ingot why` have it; the
// service stays up.
func TestPatrol(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "soak: 5s=soak: 5s, patrol: 3s")
	b := newBox(t, f, f.release(t, "1.0.0", ""), nil)
	b.on()
	b.runs("1.0.0")
	for end := time.Now().Add(time.Minute); b.journal().Slots[0].Image == (slot.Digest{}); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the digest of slot a is not known")
		}
	}
	b.withDisk(func(disk *os.File) {
		p := part(t, disk, partition.SlotA)
		last := []byte{1}
		if _, err := disk.WriteAt(last, p.Start+p.Size-1); err != nil {
			t.Fatal(err)
		}
	})
	b.sees(`slots: slot a is damaged: its bytes are not those that were written`)
	if c := b.journal().Slots[0]; c.Condition != slot.Damaged {
		t.Errorf("the journal says %+v", c)
	}
	if why := b.why(); !strings.Contains(why, "damaged: slot a, version 1.0.0") {
		t.Errorf("ingot why: %s", why)
	}
	if body := b.get(8080, "/"); body != "version 1.0.0\n" {
		t.Errorf("the service says %q", body)
	}
}
