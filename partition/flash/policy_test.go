package flash

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	const image = 722 * mib
	stick := Device{Path: "/dev/sdb", Name: "sdb", Kind: Disk, Size: 8 << 30, SectorSize: 512, Removable: true}
	ssd := Device{Path: "/dev/disk/by-id/x", Name: "nvme0n1", Kind: Disk, Size: 1 << 40, SectorSize: 4096}
	file := Device{Path: "vm.img", Name: "vm.img", Kind: File, Size: 8 << 30}
	with := func(d Device, change func(*Device)) Device { change(&d); return d }
	use := func(u ...Use) func(*Device) { return func(d *Device) { d.Uses = u } }
	tests := []struct {
		name    string
		device  Device
		confirm string
		want    []Reason
		msg     string
	}{
		{"removable", stick, "", nil, ""},
		{"file", file, "", nil, ""},
		{"fixed, not confirmed", ssd, "", []Reason{NotRemovable}, "nvme0n1 is not removable"},
		{"fixed, path confirmed", ssd, "/dev/disk/by-id/x", nil, ""},
		{"fixed, kernel name confirmed", ssd, "nvme0n1", nil, ""},
		{"fixed, another confirmed", ssd, "nvme1n1", []Reason{NotRemovable}, ""},
		{"fixed, only a prefix confirmed", ssd, "nvme0n", []Reason{NotRemovable}, ""},
		{"empty name is not confirmed by nothing", with(ssd, func(d *Device) { d.Name = "" }), "", []Reason{NotRemovable}, ""},
		{"exactly as large", with(stick, func(d *Device) { d.Size = image }), "", nil, ""},
		{"one sector short", with(stick, func(d *Device) { d.Size = image - 512 }), "", []Reason{TooSmall}, "has 757071360 bytes, the image needs 757071872"},
		{"empty card reader", with(stick, func(d *Device) { d.Size = 0 }), "", []Reason{TooSmall}, ""},
		{"file too small", with(file, func(d *Device) { d.Size = 5 }), "", []Reason{TooSmall}, ""},
		{"read-only", with(stick, func(d *Device) { d.ReadOnly = true }), "", []Reason{ReadOnly}, "sdb is read-only"},
		{"file read-only", with(file, func(d *Device) { d.ReadOnly = true }), "", []Reason{ReadOnly}, ""},
		{"partition", with(stick, func(d *Device) { d.Kind, d.Name, d.Parent = Partition, "sdb1", "sdb" }), "", []Reason{NotWhole}, "sdb1 is a partition"},
		{"partition mounted", with(stick, use(Use{"mount", "sdb1", "/media/me/STICK"})), "", []Reason{Mounted}, "sdb1 is mounted on /media/me/STICK"},
		{"two mounts", with(stick, use(Use{"mount", "sdb1", "/a"}, Use{"mount", "sdb2", "/b"})), "", []Reason{Mounted, Mounted}, "/b"},
		{"root", with(ssd, use(Use{"mount", "nvme0n1p2", "/"})), "nvme0n1", []Reason{System}, "nvme0n1p2 holds / of the running system"},
		{"boot on removable", with(stick, use(Use{"mount", "sdb1", "/boot"})), "", []Reason{System}, "holds /boot"},
		{"efi", with(ssd, use(Use{"mount", "nvme0n1p1", "/boot/efi"})), "nvme0n1", []Reason{System}, ""},
		{"root under encryption and volumes", with(ssd, use(Use{"mount", "dm-1", "/"}, Use{"holder", "nvme0n1p3", "dm-0 (luks)"})), "nvme0n1", []Reason{System}, ""},
		{"root and its other mounts", with(ssd, use(Use{"mount", "nvme0n1p2", "/srv"}, Use{"mount", "nvme0n1p2", "/"})), "nvme0n1", []Reason{System}, ""},
		{"swap", with(ssd, use(Use{"swap", "nvme0n1p3", ""})), "nvme0n1", []Reason{Swap}, "swap space in use"},
		{"device mapper", with(stick, use(Use{"holder", "sdb2", "dm-0 (vault)"})), "", []Reason{Held}, "sdb2 is held by dm-0 (vault)"},
		{"raid", with(ssd, use(Use{"holder", "nvme0n1", "md127"})), "nvme0n1", []Reason{Held}, ""},
		{"sectors of 520", with(stick, func(d *Device) { d.SectorSize = 520 }), "", []Reason{BadSector}, "sectors of 520"},
		{"everything at once", Device{Path: "/dev/sda1", Name: "sda1", Kind: Partition, SectorSize: 2048, ReadOnly: true, Uses: []Use{{"swap", "sda1", ""}, {"holder", "sda1", "md0"}}}, "",
			[]Reason{NotWhole, Swap, Held, ReadOnly, BadSector, TooSmall, NotRemovable}, "sda1"},
	}
	for _, tt := range tests {
		err := Check(tt.device, image, Confirm{Device: tt.confirm})
		var got []Reason
		var refused *RefusedError
		if errors.As(err, &refused) {
			for _, r := range refused.Refusals {
				got = append(got, r.Reason)
			}
		}
		if !slices.Equal(got, tt.want) || (err == nil) != (len(tt.want) == 0) {
			t.Errorf("%s: Check = %v, want %v", tt.name, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), tt.msg) {
			t.Errorf("%s: %q does not say %q", tt.name, err, tt.msg)
		}
		for _, r := range tt.want {
			if !Refused(err, r) {
				t.Errorf("%s: Refused(%s) is false", tt.name, r)
			}
		}
	}
	for name, change := range map[string]func(*Device){
		"kernel name": func(d *Device) { d.Name = "nvme1n1" }, "serial number": func(d *Device) { d.ID = "eui.2" }, "model": func(d *Device) { d.Model = "B" },
		"size": func(d *Device) { d.Size *= 2 }, "removable": func(d *Device) { d.Removable = true },
	} {
		seen := with(ssd, func(d *Device) { d.ID, d.Model = "eui.1", "A" })
		now := with(seen, change)
		if err := Check(now, image, Confirm{Device: now.Name, Seen: &seen}); !Refused(err, Exchanged) || !strings.Contains(err.Error(), "another device than was confirmed: its "+name+" was ") {
			t.Errorf("another %s than was confirmed: %v", name, err)
		}
		if err := Check(seen, image, Confirm{Device: seen.Name, Seen: &seen}); err != nil {
			t.Errorf("the same device: %v", err)
		}
	}
	err := Check(ssd, image, Confirm{}).(*RefusedError)
	if h := err.Hint(); h != "confirm its exact name: /dev/disk/by-id/x" {
		t.Errorf("Hint = %q", h)
	}
	busy := ssd
	busy.Uses = []Use{{"mount", "sdb1", "/mnt/a"}, {"mount", "sdb2", "/mnt/b"}}
	err = Check(busy, image, Confirm{}).(*RefusedError)
	if h := err.Hint(); h != "unmount it first; confirm its exact name: /dev/disk/by-id/x" {
		t.Errorf("Hint of three refusals = %q", h)
	}
	if Refused(errors.New("other"), Mounted) || Refused(nil, Mounted) {
		t.Error("Refused is true for another error")
	}
}
