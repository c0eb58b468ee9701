package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/internal/agent/nvram"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition/gpt"
)

// TestInstallEntries: a disk that is being installed has both slots, the selector's spare
// copy and the recipe's programs in BootOrder, where the policy has them, and starts next.
func TestInstallEntries(t *testing.T) {
	table := gpt.Table{SectorSize: 4096}
	for i, role := range []string{partESP, partSlotA, partSlotB} {
		table.Partitions = append(table.Partitions, gpt.Partition{Index: i + 1, Name: role, GUID: gpt.GUID{byte(i + 1)}, Start: int64(i+1) << 20, Size: 1 << 20})
	}
	for policy, want := range map[string][]uint16{"": {0x10, 0x11, 0x12, 0x13, 0, 1}, "disk-first": {0x10, 0x11, 0x12, 0x13, 0, 1},
		"net-first": {1, 0x10, 0x11, 0x12, 0x13, 0}, "external": {0, 1, 0x10, 0x11, 0x12, 0x13}} {
		m := &Machine{vars: nvram.Store{Dir: t.TempDir()}, spec: appliance.Spec{Name: "hello", Arch: "amd64",
			Boot: appliance.Boot{Policy: policy, Entries: []appliance.BootEntry{{Title: "Memory test", EFI: `\EFI\memtest.efi`}}}}}
		network, err := efivar.LoadOption{Attributes: efivar.Active, Description: "PXE", Paths: []efivar.DevicePath{{{Type: 3, SubType: 11, Data: make([]byte, 33)}}}}.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"Boot0001": network, efivar.BootOrder: efivar.MarshalOrder(0, 1)} {
			if err := m.vars.Set(name, efivar.Global, efivar.BootAttributes, b); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.installEntries(table); err != nil {
			t.Fatal(err)
		}
		b, err := m.vars.Get(efivar.BootOrder, efivar.Global)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := efivar.ParseOrder(b); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: BootOrder is %04X, %v; want %04X", policy, got, err, want)
		}
		got := strings.Join(m.vars.Snapshot(), "\n")
		for _, line := range []string{"BootNext: [0010]", "Boot0010: hello slot-a", "Boot0012: hello spare", `\EFI\INGOT\BOOTX64.EFI`, "Boot0013: Memory test"} {
			if !strings.Contains(got, line) {
				t.Errorf("%q: no %q in\n%s", policy, line, got)
			}
		}
		if !strings.Contains(strings.ToUpper(got), "0X200,0X100") {
			t.Errorf("%q: slot a is not named in sectors of the disk:\n%s", policy, got)
		}
	}
	m := &Machine{vars: nvram.Store{Dir: t.TempDir()}}
	if err := m.installEntries(gpt.Table{SectorSize: 512}); err == nil {
		t.Error("boot entries of a disk without slots")
	}
}
