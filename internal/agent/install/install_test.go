package install

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// manifest is that of a release with a layout of package partition.
func manifest(t *testing.T) *release.Manifest {
	t.Helper()
	l, err := partition.Plan(partition.Spec{Name: "hello", SectorSize: 512, ESP: 34 * mib, Slot: 8 * mib, Root: 2 * mib, State: state.Size, Data: mib})
	if err != nil {
		t.Fatal(err)
	}
	m := &release.Manifest{Name: "hello", Disk: release.Disk{SectorSize: 512, Size: l.Size, GUID: l.Disk.String()}}
	for _, p := range l.Parts {
		m.Disk.Partitions = append(m.Disk.Partitions, release.Partition{Index: p.Index, Role: p.Role, Type: p.Type.String(), GUID: p.GUID.String(), Start: p.Start, Size: p.Size})
	}
	return m
}

// disk is a disk in memory that loses power after some writes.
type disk struct {
	b    []byte
	left int // writes; -1: any number
}

var errPower = fmt.Errorf("no power")

func (d *disk) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(d.b).ReadAt(b, off) }

func (d *disk) WriteAt(b []byte, off int64) (int, error) {
	if d.left == 0 {
		return 0, errPower
	}
	d.left--
	return copy(d.b[off:], b), nil
}

func (d *disk) Sync() error { return nil }

func (d *disk) look(t *testing.T) Content {
	t.Helper()
	c, err := Look(d, int64(len(d.b)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tables says whether firmware would find a partition table: a protective MBR, and one
// good copy.
func (d *disk) table() bool {
	_, _, err := gpt.Read(d, int64(len(d.b)))
	return err == nil && d.b[510] == 0x55 && d.b[511] == 0xaa
}

// TestPlan: what was written is the layout of package partition, for disks of both kinds
// of sectors, and at no cut before the last write does a firmware find a table.
func TestPlan(t *testing.T) {
	m := manifest(t)
	for _, sector := range []int{512, 4096} {
		for cut := 0; ; cut++ {
			size := m.Disk.Size + 5*mib
			d := &disk{b: bytes.Repeat([]byte("x"), int(size)), left: cut} // foreign, to be wiped
			copy(d.b[510:], []byte{0x55, 0xaa})
			p, err := NewPlan(m, Disk{Node: "/dev/x", Size: size, SectorSize: sector})
			if err != nil {
				t.Fatal(err)
			}
			if err = p.Begin(d); err == nil {
				err = p.Finish(d)
			}
			if err == nil {
				l, err := partition.Read(d, size)
				if err != nil || !d.table() {
					t.Fatalf("sectors of %d: %v", sector, err)
				}
				if data, _ := l.Part(partition.Data); data.Size != 6*mib || l.SectorSize != sector {
					t.Errorf("data has %d MiB, sectors %d bytes", data.Size/mib, l.SectorSize)
				}
				if end := d.b[size-mib : p.back[0].Offset]; len(bytes.Trim(end, "\x00")) > 0 { // RAID says there what it is
					t.Errorf("sectors of %d: what was at the end of the disk is still there", sector)
				}
				break
			}
			if d.table() {
				t.Fatalf("sectors of %d: after %d writes there is a partition table", sector, cut)
			}
			if c := d.look(t); cut > 0 && c != Unfinished {
				t.Errorf("sectors of %d: after %d writes the disk holds %s", sector, cut, c)
			}
		}
	}
}

// TestContent tells apart what is on a disk, and who may let it go.
func TestContent(t *testing.T) {
	m := manifest(t)
	size := m.Disk.Size
	installed := func() *disk {
		d := &disk{b: make([]byte, size), left: -1}
		p, err := NewPlan(m, Disk{Size: size, SectorSize: 512})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Begin(d); err != nil {
			t.Fatal(err)
		}
		if err := p.Finish(d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	journal := func(d *disk) (start int64) {
		for _, p := range m.Disk.Partitions {
			if p.Role == partition.State {
				start = p.Start
			}
		}
		b, err := slot.Record{Good: slot.A, Slots: [2]slot.Content{{Version: "1.0", Condition: slot.Good}}}.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		region := section{d, start}
		if err := state.Store(region, state.Journal, b); err != nil {
			t.Fatal(err)
		}
		return start
	}
	for _, c := range []struct {
		name string
		make func() *disk
		want Content
		// without anything, with wipe, with force
		plain, wipe, force bool
	}{
		{"zeros", func() *disk { return &disk{b: make([]byte, size)} }, Blank, true, true, true},
		{"never ran", installed, Unused, true, true, true},
		{"has run", func() *disk { d := installed(); journal(d); return d }, Installed, false, false, true},
		{"damaged journal", func() *disk { d := installed(); s := journal(d); d.b[s+70] ^= 1; d.b[s+70+mib] ^= 1; return d }, Installed, false, false, true},
		{"primary table lost", func() *disk { d := installed(); journal(d); clear(d.b[512:4096]); return d }, Installed, false, false, true},
		{"something at the start", func() *disk { d := &disk{b: make([]byte, size)}; d.b[1024+0x38] = 0x53; return d }, Foreign, false, true, false},
		{"something at the end", func() *disk { d := &disk{b: make([]byte, size)}; d.b[size-4096] = 1; return d }, Foreign, false, true, false},
		{"another table", func() *disk {
			d := &disk{b: make([]byte, size), left: -1}
			gpt.Table{SectorSize: 512, Size: size, Disk: gpt.GUID{1}, Partitions: []gpt.Partition{{Index: 1, Name: "root", Type: gpt.TypeESP, GUID: gpt.GUID{2}, Start: mib, Size: mib}}}.Write(d)
			return d
		}, Foreign, false, true, false},
	} {
		got := c.make().look(t)
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		for _, p := range []struct {
			policy Policy
			want   bool
		}{{Policy{}, c.plain}, {Policy{Wipe: true}, c.wipe}, {Policy{Force: true}, c.force}} {
			if err := Allow(got, p.policy); (err == nil) != p.want {
				t.Errorf("%s with %+v: %v", c.name, p.policy, err)
			}
		}
	}
	if typeState != partition.TypeState || stateName != partition.State {
		t.Error("the type or name of the state partition is another one in package partition")
	}
}

// section is a part of a disk.
type section struct {
	d    *disk
	base int64
}

func (s section) ReadAt(b []byte, off int64) (int, error)  { return s.d.ReadAt(b, s.base+off) }
func (s section) WriteAt(b []byte, off int64) (int, error) { return s.d.WriteAt(b, s.base+off) }
func (s section) Sync() error                              { return nil }

func TestChoose(t *testing.T) {
	small := Disk{Node: "/dev/vda", Path: "pci-0000:00:04.0", Size: 10 * mib, SectorSize: 512, Serial: "A1"}
	large := Disk{Node: "/dev/vdb", Path: "pci-0000:00:05.0", Size: 100 * mib, SectorSize: 512, Serial: "B2", Model: "FAST"}
	stick := Disk{Node: "/dev/sda", Path: "pci-0000:00:06.0", Size: 100 * mib, SectorSize: 512, Removable: true}
	locked := Disk{Node: "/dev/sdb", Path: "pci-0000:00:07.0", Size: 100 * mib, SectorSize: 512, ReadOnly: true}
	odd := Disk{Node: "/dev/sdc", Size: 100 * mib, SectorSize: 520}
	for _, c := range []struct {
		name  string
		disks []Disk
		to    appliance.Target
		want  string // node, or a part of the error
	}{
		{"the only one with room", []Disk{small, large, stick, locked}, appliance.Target{}, "/dev/vdb"},
		{"two with room", []Disk{large, large, stick}, appliance.Target{}, "more than one disk"},
		{"by place", []Disk{large, {Node: "/dev/x", Path: "pci-0000:00:08.0", Size: 100 * mib, SectorSize: 4096}}, appliance.Target{Path: "pci-0000:00:05.*"}, "/dev/vdb"},
		{"by serial", []Disk{large, stick}, appliance.Target{Serial: "B?"}, "/dev/vdb"},
		{"by a name of udev's", []Disk{large, {Node: "/dev/x", Serial: "XB2", Size: 100 * mib, SectorSize: 512}}, appliance.Target{Serial: "/dev/disk/by-id/nvme-FAST_B2"}, "/dev/vdb"},
		{"by a part of a serial", []Disk{large}, appliance.Target{Serial: "2"}, "no disk"},
		{"by WWID", []Disk{large, {Node: "/dev/x", WWID: "naa.5002538e40a0a1b2", Size: 100 * mib, SectorSize: 512}}, appliance.Target{Serial: "wwn-0x5002538e40a0a1b2"}, "/dev/x"},
		{"by a serial that no disk says", []Disk{{Node: "/dev/x", Size: 100 * mib, SectorSize: 512}}, appliance.Target{Serial: "ata-X_"}, "no disk"},
		{"by udev's place", []Disk{large, {Node: "/dev/x", Path: "pci-0000:00:1f.2-scsi-0:0:0", Driver: "pci-0000:00:1f.2-ata-2", Size: 100 * mib, SectorSize: 512}}, appliance.Target{Path: "/dev/disk/by-path/pci-0000:00:1f.2-ata-2"}, "/dev/x"},
		{"by another model", []Disk{large}, appliance.Target{Model: "SLOW"}, "no disk"},
		{"too large", []Disk{large}, appliance.Target{MaxSize: 99 * mib}, "no disk"},
		{"too small", []Disk{large}, appliance.Target{MinSize: 101 * mib}, "at least 101 MiB"},
		{"removable", []Disk{stick}, appliance.Target{}, "no disk"},
		{"odd sectors", []Disk{odd}, appliance.Target{}, "sectors of 520"},
		{"none", nil, appliance.Target{}, "the machine has none"},
	} {
		d, err := Choose(c.disks, c.to, 20*mib)
		if err == nil && d.Node != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s, %v; want %s", c.name, d.Node, err, c.want)
		}
	}
}

// TestDisks reads a sysfs as Linux 6.12 has it for a virtio disk, a SATA disk, and a
// loop device.
func TestDisks(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, device := range map[string]string{
		"vda": "devices/pci0000:00/0000:00:04.0/virtio1",
		"sda": "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0",
		"nv0": "devices/pci0000:00/0000:00:02.0/0000:01:00.0/nvme/nvme0",
	} {
		put("block/"+name+"/size", "204800")
		put("block/"+name+"/removable", "0")
		put("block/"+name+"/ro", "0")
		put("block/"+name+"/queue/logical_block_size", "512")
		put(device+"/model", "QEMU \x01DISK   ")
		if err := os.Symlink(filepath.Join(dir, device), filepath.Join(dir, "block", name, "device")); err != nil {
			t.Fatal(err)
		}
	}
	put("block/vda/serial", "S-1")
	put("block/nv0/nsid", "1")
	put("block/nv0/wwid", "eui.0025385b71b0a1b2")
	put("devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/vpd_pg80", "\x00\x80\x00\x08   ABC-7")
	put("devices/pci0000:00/0000:00:1f.2/ata1/ata_port/ata1/port_no", "3")
	put("block/loop0/size", "100")
	var got []string
	for _, d := range Disks(dir, "/dev") {
		got = append(got, d.String()+d.Driver)
	}
	want := "/dev/nv0 (100 MiB, QEMU DISK, eui.0025385b71b0a1b2, pci-0000:01:00.0)pci-0000:01:00.0-nvme-1\n/dev/sda (100 MiB, QEMU DISK, ABC-7, pci-0000:00:1f.2-scsi-0:0:0)pci-0000:00:1f.2-ata-3\n/dev/vda (100 MiB, QEMU DISK, S-1, pci-0000:00:04.0)"
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
