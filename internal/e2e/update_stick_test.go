package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
)

// TestUpdateFromStick: a machine without any network takes a release from a
// stick, once.
func TestUpdateFromStick(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "update: {=update: {usb: true, ;driver: virtio_net=mac: \"02:00:00:00:00:99\";modules: [virtio]=kernel: {package: linux-image-amd64}\nmodules: [virtio, usb];slot: 64M=slot: 96M")
	b := newBox(t, f, f.release(t, "1.0.0", ""), nil)
	stick := filepath.Join(t.TempDir(), "stick")
	if err := errors.Join(os.WriteFile(stick, nil, 0o644), os.Truncate(stick, 64<<20)); err != nil {
		t.Fatal(err)
	}
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
