package slotdisk

import (
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/nvram"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition"
)

// A version reads the data format that it writes, whether or not it says so.
func TestRebuiltAccepts(t *testing.T) {
	r := rebuilt(slot.A, slot.Good, [2]found{{spec: &appliance.Spec{Data: appliance.Data{Schema: 3}}}, {}})
	if c := r.Slots[0]; c.Schema != 3 || c.Accepts != 3 {
		t.Errorf("writes %d, reads up to %d", c.Schema, c.Accepts)
	}
}

// The stub's own word counts before that of a boot loader in front of it.
func TestRunning(t *testing.T) {
	l, err := partition.Plan(partition.Spec{Name: "hello", ESP: 34 * mib, Slot: 34 * mib})
	if err != nil {
		t.Fatal(err)
	}
	d := &Disk{Layout: l}
	v := &Variables{store: nvram.Store{Dir: t.TempDir()}}
	say := func(name, role string) {
		p, _ := l.Part(role)
		b := []byte{6, 0, 0, 0}
		for _, u := range utf16.Encode([]rune(p.GUID.String() + "\x00")) {
			b = append(b, byte(u), byte(u>>8))
		}
		if err := os.WriteFile(filepath.Join(v.store.Dir, efivar.FileName(name, efivar.Loader)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	say("LoaderDevicePartUUID", "esp")
	if x := d.running(v); x != slot.None {
		t.Errorf("from the ESP: %s", x)
	}
	say("StubDevicePartUUID", "slot-b")
	if x := d.running(v); x != slot.B {
		t.Errorf("from slot b: %s", x)
	}
}
