package e2e

import (
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/trust"
)

// TestUpdateSecureBoot: on enforcing firmware a release of the fleet becomes
// good; one whose boot file was signed by somebody else, although the fleet
// signed its manifest, is refused by the firmware, and the machine says so.
func TestUpdateSecureBoot(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "")
	foreign := f.file("foreign")
	must(t, "keys", "init", foreign, "--test", "--name", "foreign")
	set := f.release(t, "1.0.0", "")
	b := newBox(t, f, set, func(m *qemu.Machine) { enforce(t, m, set) })
	b.on()
	b.runs("1.0.0")
	before := b.starts()

	theirs := f.forged(t, f.build(t, recipe{version: "2.0.0", keys: foreign}), nil)
	b.refutes(t, bad{set: theirs, cause: slot.WrongSignature, chain: []string{"slot-b!", "slot-a"}, final: true})
	b.refuses(theirs, slot.WrongSignature.Text())
	b.update(f.release(t, "1.1.0", ""))
	b.blessed("1.1.0", slot.B)
	if got := b.starts(); len(got) != len(before)+2 {
		t.Errorf("the data partition knew %q and knows %q", before, got)
	}
}

// enforce gives a machine firmware that enforces the keys out of an image.
func enforce(t *testing.T, m *qemu.Machine, set *release.Set) {
	t.Helper()
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := trust.Parse(spec.Trust)
	if err != nil {
		t.Fatal(err)
	}
	k, _ := anchors.SecureBootKeys()
	fw, err := qemu.FindSecureFirmware(qemu.AMD64)
	if err != nil {
		t.Fatal(err)
	}
	m.Firmware, m.Vars = &fw, rig.Enrol(k, m.Vars)
}
