package e2e

import (
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
)

// TestUpdateFromStick: a machine without any network takes a release from a
// stick, once.
func TestUpdateFromStick(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "update: {=update: {usb: true, ;driver: virtio_net=driver: nonesuch;modules: [virtio]=modules: [virtio, usb]")
	b := newBox(t, f, f.release(t, "1.0.0", ""), nil)
	stick := filepath.Join(t.TempDir(), "stick")
	must(t, "update", "--image", f.release(t, "1.1.0", "").Dir, "--usb", stick)
	b.m.ExtraArgs = append(b.m.ExtraArgs, "-device", "qemu-xhci,id=usb", "-drive", "if=none,id=stick,format=raw,file="+stick,
		"-device", "usb-storage,bus=usb.0,drive=stick,removable=on")
	b.on()
	b.sees(`ingot: tally 1\.1\.0 healthy after`)
	r := b.rests(slot.Blessed, slot.Idle)
	if r.Good != slot.B || r.Of(slot.B).Version != "1.1.0" {
		t.Errorf("the journal says %+v", r)
	}
}
