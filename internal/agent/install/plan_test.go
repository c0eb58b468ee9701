package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/gpt"
)

// TestPlanRefuses: what could not be written is found before a disk is touched.
func TestPlanRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(parts []release.Partition) // esp, slot-a, slot-b, ...
		want  string
	}{
		{"no digest", func(p []release.Partition) { p[0].SHA256 = "" }, "no digest of esp"},
		{"half a digest", func(p []release.Partition) { p[1].SHA256 = "5e5e" }, "no digest of slot-a"},
		{"an unknown role", func(p []release.Partition) { p[0].Role = "swap" }, `no partition "swap"`},
		{"another second slot", func(p []release.Partition) { p[2].SHA256 = strings.Repeat("00", 32) }, "slot-b is not what slot-a is"},
		{"a second slot alone", func(p []release.Partition) { p[1].Role, p[2].Role = p[2].Role, p[1].Role }, "slot-b is not what slot-a is"},
	} {
		m := manifest(t)
		c.spoil(m.Disk.Partitions)
		if _, err := NewPlan(m, Disk{Size: m.Disk.Size, SectorSize: 512}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestTwin: no second disk with the GUIDs of one that is there. A table that is only in
// its backup copy counts: the start from a disk reads that, too.
func TestTwin(t *testing.T) {
	m := manifest(t)
	target := Disk{Node: "/dev/target", Size: m.Disk.Size, SectorSize: 512}
	p, err := NewPlan(m, target)
	if err != nil {
		t.Fatal(err)
	}
	other := func(change func(*gpt.Table)) Disk {
		table := p.Table
		table.Partitions = append([]gpt.Partition{}, table.Partitions...)
		change(&table)
		d := &disk{b: make([]byte, m.Disk.Size), left: -1}
		if err := table.Write(d); err != nil {
			t.Fatal(err)
		}
		if table.Disk == p.Table.Disk {
			clear(d.b[:mib]) // the primary table is lost
		}
		file := filepath.Join(t.TempDir(), "sdb")
		if err := os.WriteFile(file, d.b, 0o600); err != nil {
			t.Fatal(err)
		}
		return Disk{Node: file, Size: m.Disk.Size, Removable: true}
	}
	rekey := func(t *gpt.Table, from int) {
		t.Disk = gpt.GUID{1}
		for i := from; i < len(t.Partitions); i++ {
			t.Partitions[i].GUID = gpt.GUID{2, byte(i)}
		}
	}
	for _, c := range []struct {
		name  string
		other Disk
		want  string
	}{
		{"the same release", other(func(*gpt.Table) {}), "the disk GUID " + p.Table.Disk.String()},
		{"one partition of it", other(func(t *gpt.Table) { rekey(t, 1) }), "the partition GUID " + p.Table.Partitions[0].GUID.String()},
		{"it with other GUIDs", other(func(t *gpt.Table) { rekey(t, 0) }), ""},
		{"a disk that cannot be read", Disk{Node: "/dev/no/such", Size: mib}, ""},
	} {
		err := p.Twin(target, []Disk{target, c.other})
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "detach it")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	ways := []Disk{{Node: target.Node, WWID: "naa.5"}, {Node: "/dev/no/such", WWID: "naa.5"}}
	if err := p.Twin(ways[0], ways); err == nil || !strings.Contains(err.Error(), "one disk by two ways (WWID naa.5)") {
		t.Errorf("a second way to the target: %v", err)
	}
	again := other(func(*gpt.Table) {})
	if err := p.Twin(again, []Disk{again}); err != nil {
		t.Errorf("the disk itself: %v", err)
	}
}
