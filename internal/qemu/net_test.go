package qemu

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/ingot-os/ingot/internal/netlab"
)

// TestMachinesWithoutADiskAskTheNetwork: OVMF with its own driver and with
// QEMU's iPXE ROM, and an old BIOS, ask for an address with the MAC address and
// the UUID that the machine was given.
func TestMachinesWithoutADiskAskTheNetwork(t *testing.T) {
	const uuid = "6c0f7e1e-7d7a-4b0c-9a57-1f2e3d4c5b6a"
	for _, c := range []struct {
		name string
		arch uint16
		with func(*Machine)
	}{
		{"OVMF", 7, func(*Machine) {}},
		{"OVMF with iPXE", 7, func(m *Machine) { m.Net.ROM = true }},
		{"BIOS", 0, func(m *Machine) { m.BIOS, m.Net.ROM = true, true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			needMachine(t, AMD64)
			space := netlab.New(t, "link")
			cable := space.Tap("tap0", "")
			questions := make(chan *dhcpv4.DHCPv4, 100)
			space.Capture("tap0", func(f netlab.Frame) {
				if p := netlab.Parse(f.Data); p.Destination.Port() == 67 {
					if q, err := dhcpv4.FromBytes(p.Payload); err == nil {
						questions <- q
					}
				}
			})
			m := Machine{Arch: AMD64, Accel: AccelTCG, WorkDir: t.TempDir(), Memory: 256, CPUs: 1, UUID: uuid, SerialNumber: "E-1",
				Options: map[string][]byte{"opt/org.tianocore/IPv6PXESupport": []byte("n")},
				Net:     &Net{Open: cable.Open, MAC: "52:54:00:77:00:01", First: true}}
			c.with(&m)
			vm := startVM(t, m)
			select {
			case q := <-questions:
				id := q.Options.Get(dhcpv4.OptionClientMachineIdentifier)
				// The first three fields of a UUID are little-endian there.
				if want := "\x00\x1e\x7e\x0f\x6c\x7a\x7d\x0c\x4b\x9a\x57\x1f\x2e\x3d\x4c\x5b\x6a"; string(id) != want {
					t.Errorf("UUID %x", id)
				}
				if q.ClientHWAddr.String() != "52:54:00:77:00:01" || !slices.ContainsFunc(q.ClientArch(), func(a iana.Arch) bool { return uint16(a) == c.arch }) {
					t.Errorf("it says %s", q.Summary())
				}
			case <-time.After(90 * time.Second):
				t.Fatalf("no question; console:\n%s", vm.Console())
			}
			if names := strings.Join(vm.Machine.optionNames(), " "); names != "opt/org.tianocore/IPv6PXESupport" {
				t.Errorf("options %s", names)
			}
		})
	}
}
