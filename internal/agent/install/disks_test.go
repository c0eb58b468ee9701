package install

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/appliance"
)

func TestChoose(t *testing.T) {
	small := Disk{Node: "/dev/vda", Path: "pci-0000:00:04.0", Size: 10 * mib, SectorSize: 512, Serial: "A1"}
	large := Disk{Node: "/dev/vdb", Path: "pci-0000:00:05.0", Size: 100 * mib, SectorSize: 512, Serial: "B2", Model: "FAST"}
	stick := Disk{Node: "/dev/sda", Path: "pci-0000:00:06.0", Size: 100 * mib, SectorSize: 512, Removable: true}
	locked := Disk{Node: "/dev/sdb", Path: "pci-0000:00:07.0", Size: 100 * mib, SectorSize: 512, ReadOnly: true}
	odd := Disk{Node: "/dev/sdc", Size: 100 * mib, SectorSize: 520}
	usb := Disk{Node: "/dev/sdd", Path: "pci-0000:00:14.0-scsi-0:0:0", Serial: "U1", Model: "CASE", Size: 100 * mib, SectorSize: 512, Loose: true}
	wwid := Disk{Node: "/dev/y", WWID: "naa.5002538e40a0a1b2", Size: 100 * mib, SectorSize: 512}
	name := func(namespace string) Disk {
		return Disk{Node: "/dev/n", Serial: "N1", WWID: "eui.0025385b71b0a1b2", Namespace: namespace, Size: 100 * mib, SectorSize: 512}
	}
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
		{"USB, which is not named", []Disk{usb}, appliance.Target{Model: "CASE"}, "USB or SD card"},
		{"beside USB", []Disk{large, usb}, appliance.Target{}, "/dev/vdb"},
		{"USB by serial", []Disk{large, usb}, appliance.Target{Serial: "U1"}, "/dev/sdd"},
		{"USB by place", []Disk{large, usb}, appliance.Target{Path: "pci-0000:00:14.0-scsi-0:0:0"}, "/dev/sdd"},
		{"a serial with a 3 before it", []Disk{{Node: "/dev/x", Serial: "5", Size: 100 * mib, SectorSize: 512}}, appliance.Target{Serial: "ata-FAST_X35"}, "no disk"},
		{"a serial behind scsi-3", []Disk{{Node: "/dev/x", Serial: "5000", Size: 100 * mib, SectorSize: 512}}, appliance.Target{Serial: "scsi-35000"}, "no disk"},
		{"scsi-3 and a WWID", []Disk{large, wwid}, appliance.Target{Serial: "scsi-35002538e40a0a1b2"}, "/dev/y"},
		{"a WWID elsewhere behind a 3", []Disk{wwid}, appliance.Target{Serial: "ata-A35002538e40a0a1b2"}, "no disk"},
		{"NVMe with a namespace", []Disk{large, name("1")}, appliance.Target{Serial: "nvme-FAST_N1_1"}, "/dev/n"},
		{"NVMe with another namespace", []Disk{name("2")}, appliance.Target{Serial: "nvme-FAST_N1_1"}, "no disk"},
		{"NVMe by WWID", []Disk{large, name("1")}, appliance.Target{Serial: "nvme-eui.0025385b71b0a1b2"}, "/dev/n"},
	} {
		d, err := Choose(c.disks, c.to, 20*mib)
		if node := strings.HasPrefix(c.want, "/dev/"); node && (err != nil || d.Node != c.want) || !node && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %s, %v; want %s", c.name, d.Node, err, c.want)
		}
	}
}

// TestNoDisk: that there is none is told from all other reasons, for one may come.
func TestNoDisk(t *testing.T) {
	d := Disk{Size: 100 * mib, SectorSize: 512}
	if _, err := Choose(nil, appliance.Target{}, 1); !errors.Is(err, ErrNoDisk) {
		t.Error(err)
	}
	if _, err := Choose([]Disk{d, d}, appliance.Target{}, 1); err == nil || errors.Is(err, ErrNoDisk) {
		t.Error(err)
	}
}

// sysfs is a tree like /sys.
type sysfs struct {
	t   *testing.T
	dir string
}

func (s sysfs) put(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// disk has 100 MiB and is at a device.
func (s sysfs) disk(name, device string) {
	s.t.Helper()
	s.put("block/"+name+"/size", "204800")
	s.put("block/"+name+"/removable", "0")
	s.put("block/"+name+"/ro", "0")
	s.put("block/"+name+"/queue/logical_block_size", "512")
	s.put(device+"/model", "QEMU \x01DISK   ")
	if err := os.Symlink(filepath.Join(s.dir, device), filepath.Join(s.dir, "block", name, "device")); err != nil {
		s.t.Fatal(err)
	}
}

func (s sysfs) list() string {
	var got []string
	for _, d := range Disks(s.dir, "/dev") {
		got = append(got, d.String()+d.Driver)
	}
	return strings.Join(got, "\n")
}

// TestDisks reads a sysfs as Linux 6.12 has it for a virtio disk, a SATA disk, and a
// loop device.
func TestDisks(t *testing.T) {
	s := sysfs{t, t.TempDir()}
	s.disk("vda", "devices/pci0000:00/0000:00:04.0/virtio1")
	s.disk("sda", "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0")
	s.disk("nv0", "devices/pci0000:00/0000:00:02.0/0000:01:00.0/nvme/nvme0")
	s.put("block/vda/serial", "S-1")
	s.put("block/nv0/nsid", "1")
	s.put("block/nv0/wwid", "eui.0025385b71b0a1b2")
	s.put("devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/vpd_pg80", "\x00\x80\x00\x08   ABC-7")
	s.put("devices/pci0000:00/0000:00:1f.2/ata1/ata_port/ata1/port_no", "3")
	s.put("block/loop0/size", "100")
	want := "/dev/nv0 (100 MiB, QEMU DISK, eui.0025385b71b0a1b2, pci-0000:01:00.0)pci-0000:01:00.0-nvme-1\n/dev/sda (100 MiB, QEMU DISK, ABC-7, pci-0000:00:1f.2-scsi-0:0:0)pci-0000:00:1f.2-ata-3\n/dev/vda (100 MiB, QEMU DISK, S-1, pci-0000:00:04.0)"
	if text := s.list(); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// TestMultipathDisks: an NVMe disk with two paths is one disk, in the place of the first
// of them. Its own device is the subsystem, which is nowhere (Linux 6.12, nvme_core.multipath).
func TestMultipathDisks(t *testing.T) {
	s := sysfs{t, t.TempDir()}
	s.disk("nvme0n1", "devices/virtual/nvme-subsystem/nvme-subsys0")
	for name, device := range map[string]string{"nvme0c0n1": "0000:05:00.0/nvme/nvme0", "nvme0c1n1": "0000:03:00.0/nvme/nvme1", "nvme0c0n2": "0000:01:00.0/nvme/nvme0"} {
		s.disk(name, "devices/pci0000:00/"+device)
		s.put("block/"+name+"/hidden", "1")
	}
	s.put("block/nvme0n1/hidden", "0")
	s.put("block/nvme0n1/nsid", "1")
	s.put("devices/virtual/nvme-subsystem/nvme-subsys0/serial", "N-7")
	want := "/dev/nvme0n1 (100 MiB, QEMU DISK, N-7, pci-0000:03:00.0)pci-0000:03:00.0-nvme-1"
	if text := s.list(); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// TestPlaces: PCI domains beyond four digits, which Intel's VMD makes, and disks that are
// carried about.
func TestPlaces(t *testing.T) {
	s := sysfs{t, t.TempDir()}
	s.disk("nvme1n1", "devices/pci0000:00/0000:00:0e.0/pci10000:00/10000:00:01.0/10000:04:00.0/nvme/nvme1")
	s.disk("mmcblk0", "devices/pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:0001")
	s.put("devices/pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:0001/type", "MMC")
	s.disk("mmcblk1", "devices/platform/fe310000.mmc/mmc_host/mmc1/mmc1:aaaa")
	s.put("devices/platform/fe310000.mmc/mmc_host/mmc1/mmc1:aaaa/type", "SD")
	s.disk("sda", "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0")
	s.put("devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/type", "0")
	want := "/dev/mmcblk0 (100 MiB, QEMU DISK, pci-0000:00:1a.0)\n/dev/mmcblk1 (100 MiB, QEMU DISK, USB or SD card)\n" +
		"/dev/nvme1n1 (100 MiB, QEMU DISK, pci-10000:04:00.0)\n/dev/sda (100 MiB, QEMU DISK, pci-0000:00:14.0-scsi-0:0:0, USB or SD card)"
	if text := s.list(); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	for text, want := range map[string]bool{"0000:00:1f.2": true, "12345678:00:1f.2": true, "123456789:00:1f.2": false, "000:00:1f.2": false, "pci10000:00": false, "0000:00:1f": false} {
		if isPCI(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}
