package e2e

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition"
)

// TestBothSlotsBadRestored: a machine of which no slot starts comes to the
// selector's spare copy, says what it waits for, takes the version that its journal
// names and no other, and runs it again (P21, S1).
func TestBothSlotsBadRestored(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "")
	old, next := f.release(t, "1.0.0", ""), f.release(t, "1.1.0", "")
	b := newBox(t, f, old, nil)
	b.on()
	b.runs("1.0.0")
	b.stage(next) // the journal gets the digests of both slots
	b.cut()
	b.withDisk(func(disk *os.File) {
		for _, role := range []string{partition.SlotA, partition.SlotB} {
			if _, err := part(t, disk, role).Window(disk).WriteAt(make([]byte, slot.HeaderSize), 0); err != nil {
				t.Fatal(err)
			}
		}
	})

	b.on()
	b.sees(`going on from the ESP`)
	b.sees(`ingot: tally 1\.0\.0 healthy after`)
	if got := b.chain(); !slices.Contains(got, "esp") || slices.Contains(got, "slot-a") || slices.Contains(got, "slot-b") {
		t.Errorf("the firmware started %q, want the ESP alone", got)
	}
	if !strings.Contains(string(b.vm.Console()), `"tally spare"`) {
		t.Error("the spare copy of the selector was not started")
	}
	why := b.operator("why")
	t.Logf("both slots bad:\n%s", why.out)
	for _, line := range []string{`runs: the selector, because the firmware started no slot`, `next reset: ends in the selector again: no slot can be started`, `damaged: slot a, version 1\.0\.0`} {
		if why.code != 0 || !regexp.MustCompile(line).MatchString(why.out) {
			t.Errorf("ingot why does not say %q (code %d):\n%s%s", line, why.code, why.out, why.stderr)
		}
	}
	if r := b.push(next); r.code == 0 || !strings.Contains(r.stderr, "must be restored first, with version 1.0.0") {
		t.Errorf("another version than the good one: code %d: %s", r.code, r.stderr)
	}

	b.update(old)
	b.runs("1.0.0")
	if got := b.chain(); got[len(got)-1] != "slot-a" {
		t.Errorf("the firmware started %q, want slot-a at last", got)
	}
	j := b.journal()
	if j.Good != slot.A || j.Of(slot.A).Condition != slot.Good || j.Means != slot.Firmware || len(b.starts()) < 3 {
		t.Errorf("the journal says %+v", j)
	}
	b.says("restored", `runs: slot a, version 1\.0\.0, because it is the last blessed slot`, slot.Staging)
	b.update(next) // and the machine is as able as before
	b.blessed("1.1.0", slot.B)
}
