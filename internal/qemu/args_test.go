package qemu

import (
	"slices"
	"testing"
)

// TestEvidenceDevices: each amd64 machine can tell how its guest ended, and the
// devices for that come behind those that a guest works with.
func TestEvidenceDevices(t *testing.T) {
	m := Machine{Arch: AMD64, Image: "x", Firmware: &Firmware{Code: "code"}, Accel: AccelTCG}
	if err := m.defaults(); err != nil {
		t.Fatal(err)
	}
	a := m.arguments(handles{disk: 3, vars: 4, erst: 5, qmp: 6, serial: 7, smoke: 8})
	at := func(device string) int { return slices.Index(a, device) }
	card, erst, dog := at("virtio-net-pci,netdev=net,romfile="), at("acpi-erst,memdev=erst"), at("i6300esb")
	if card < 0 || erst < card || dog < erst || at("pvpanic-pci") < 0 || at("panic=none,watchdog=reset") < 0 {
		t.Errorf("network card at %d, ERST %d, watchdog %d: %q", card, erst, dog, a)
	}
	m.Arch = ARM64
	if slices.Contains(m.arguments(handles{}), "i6300esb") {
		t.Error("arm64 has a watchdog that Debian's kernel has no driver for")
	}
}
