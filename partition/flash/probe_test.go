package flash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeHost writes files under a directory; a value that starts with "->" is a link.
func fakeHost(t *testing.T, files map[string]string) prober {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return prober{sys: filepath.Join(root, "sys"), proc: filepath.Join(root, "proc")}
}

// laptop has a system on LUKS on an NVMe partition with LVM inside, a raid
// member, and a stick.
var laptop = map[string]string{
	"sys/dev/block/259:0": "->../../devices/nvme/nvme0n1",
	"sys/dev/block/259:1": "->../../devices/nvme/nvme0n1/nvme0n1p1",
	"sys/dev/block/8:16":  "->../../devices/usb/sdb",
	"sys/dev/block/8:32":  "->../../devices/ata/sdc",
	"sys/dev/block/179:0": "->../../devices/mmc/mmcblk0",

	"sys/devices/nvme/nvme0n1/dev": "259:0\n", "sys/devices/nvme/nvme0n1/size": "2000409264\n", "sys/devices/nvme/nvme0n1/ro": "0\n",
	"sys/devices/nvme/nvme0n1/removable": "0\n", "sys/devices/nvme/nvme0n1/queue/logical_block_size": "4096\n",
	"sys/devices/nvme/nvme0n1/device/model": "Fast  SSD 1TB       \n", "sys/devices/nvme/nvme0n1/wwid": "eui.0025385b\n",
	"sys/devices/nvme/nvme0n1/nvme0n1p1/dev": "259:1\n", "sys/devices/nvme/nvme0n1/nvme0n1p1/partition": "1\n", "sys/devices/nvme/nvme0n1/nvme0n1p1/size": "2048\n",
	"sys/devices/nvme/nvme0n1/nvme0n1p1/ro":  "0\n",
	"sys/devices/nvme/nvme0n1/nvme0n1p2/dev": "259:2\n", "sys/devices/nvme/nvme0n1/nvme0n1p2/partition": "2\n",
	"sys/devices/nvme/nvme0n1/nvme0n1p2/holders/dm-0": "->../../../../virtual/dm-0",
	"sys/class/block/dm-0":                            "->../../devices/virtual/dm-0", "sys/class/block/dm-1": "->../../devices/virtual/dm-1", "sys/class/block/dm-2": "->../../devices/virtual/dm-2",
	"sys/devices/virtual/dm-0/dev": "253:0\n", "sys/devices/virtual/dm-0/dm/name": "luks\n",
	"sys/devices/virtual/dm-0/holders/dm-1": "->../../dm-1", "sys/devices/virtual/dm-0/holders/dm-2": "->../../dm-2",
	"sys/devices/virtual/dm-1/dev": "253:1\n", "sys/devices/virtual/dm-1/dm/name": "vg-root\n",
	"sys/devices/virtual/dm-2/dev": "253:2\n", "sys/devices/virtual/dm-2/dm/name": "vg-swap\n",

	"sys/devices/usb/sdb/dev": "8:16\n", "sys/devices/usb/sdb/size": "15728640\n", "sys/devices/usb/sdb/ro": "1\n", "sys/devices/usb/sdb/removable": "1\n",
	"sys/devices/usb/sdb/queue/logical_block_size": "512\n", "sys/devices/usb/sdb/device/vendor": "SanDisk \n", "sys/devices/usb/sdb/device/model": "Ultra   \n",
	"sys/devices/usb/sdb/sdb1/dev": "8:17\n", "sys/devices/usb/sdb/sdb1/partition": "1\n",

	"sys/devices/ata/sdc/dev": "8:32\n", "sys/devices/ata/sdc/size": "100000\n", "sys/devices/ata/sdc/queue/logical_block_size": "512\n",
	"sys/devices/ata/sdc/holders/md127": "->../../../virtual/md127", "sys/class/block/md127": "->../../devices/virtual/md127",
	"sys/devices/virtual/md127/dev": "9:127\n", "sys/devices/ata/sdc/device/wwid": "naa.5000\n",

	"sys/devices/mmc/mmcblk0/dev": "179:0\n", "sys/devices/mmc/mmcblk0/size": "100000\n", "sys/devices/mmc/mmcblk0/queue/logical_block_size": "512\n",
	"sys/devices/mmc/mmcblk0/device/name": "SC32G\n", "sys/devices/mmc/mmcblk0/device/cid": "035344\n",

	"proc/self/mountinfo": `22 1 253:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw
23 22 0:5 / /dev rw - devtmpfs udev rw
24 22 259:1 / /boot/efi rw - vfat /dev/nvme0n1p1 rw
25 22 8:17 / /media/me/USB\040STICK rw - vfat /dev/sdb1 rw
26 22 8:17 / /media/me/USB\040STICK rw - vfat /dev/sdb1 rw
27 22 0:44 /sub /mnt/pool rw - btrfs /dev/md127 rw
short line
`,
	"proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/dm-2 partition 100 0 -2\n/swapfile file 100 0 -3\n",
}

func TestProbeBlock(t *testing.T) {
	p := fakeHost(t, laptop)
	tests := []struct {
		number string
		want   Device
	}{
		{"259:0", Device{
			Name: "nvme0n1", Kind: Disk, Size: 2000409264 * 512, SectorSize: 4096, Model: "Fast SSD 1TB", ID: "eui.0025385b",
			Uses: []Use{{"mount", "dm-1", "/"}, {"mount", "nvme0n1p1", "/boot/efi"}, {"swap", "dm-2", ""},
				{"holder", "nvme0n1p2", "dm-0 (luks)"}, {"holder", "dm-0", "dm-1 (vg-root)"}, {"holder", "dm-0", "dm-2 (vg-swap)"}},
		}},
		{"259:1", Device{
			Name: "nvme0n1p1", Kind: Partition, Parent: "nvme0n1", Size: mib, SectorSize: 4096, Model: "Fast SSD 1TB", ID: "eui.0025385b",
			Uses: []Use{{"mount", "nvme0n1p1", "/boot/efi"}},
		}},
		{"8:16", Device{
			Name: "sdb", Kind: Disk, Size: 15728640 * 512, SectorSize: 512, ReadOnly: true, Removable: true, Model: "SanDisk Ultra",
			Uses: []Use{{"mount", "sdb1", "/media/me/USB STICK"}},
		}},
		{"8:32", Device{
			Name: "sdc", Kind: Disk, Size: 100000 * 512, SectorSize: 512, ID: "naa.5000",
			Uses: []Use{{"mount", "md127", "/mnt/pool"}, {"holder", "sdc", "md127"}},
		}},
		{"179:0", Device{Name: "mmcblk0", Kind: Disk, Size: 100000 * 512, SectorSize: 512, Model: "SC32G", ID: "035344"}},
	}
	for _, tt := range tests {
		got, err := p.block(tt.number)
		if err != nil {
			t.Errorf("block(%s) = %v", tt.number, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("block(%s) (-want +got):\n%s", tt.number, d)
		}
	}
}

func TestProbeErrors(t *testing.T) {
	p := fakeHost(t, map[string]string{
		"sys/dev/block/1:1": "->../../devices/a", "sys/devices/a/size": "no number\n",
		"sys/dev/block/1:2": "->../../devices/b", "sys/devices/b/size": "8\n",
		"sys/dev/block/1:3": "->../../devices/c", "sys/devices/c/size": "8\n", "sys/devices/c/queue/logical_block_size": "512\n",
	})
	for number, want := range map[string]string{
		"9:9": "probe device 9:9", "1:1": "probe a: read size", "1:2": "probe b: read logical_block_size",
		"1:3": "read mounts", // without a list of mounts nothing may be written
	} {
		if _, err := p.block(number); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("block(%s) = %v, want %q", number, err, want)
		}
	}
	for _, path := range []string{"/dev/null", t.TempDir(), "/no/such/file"} {
		if _, err := Probe(path); err == nil {
			t.Errorf("Probe(%s) gives no error", path)
		}
	}
}

func TestProbeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm.img")
	if err := os.WriteFile(path, make([]byte, 12345), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Probe(path)
	want := Device{Path: path, Name: "vm.img", Kind: File, Size: 12345}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("Probe = %v, (-want +got):\n%s", err, d)
	}
}
