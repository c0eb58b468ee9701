// Package install decides about putting a release on a disk of a machine that was
// booted over the network: which disk, whether it may be written, and in which order, so
// that power may go at any moment and leaves a disk that is not installed, or one that is.
//
//	d, err := install.Choose(install.Disks("/sys", "/dev"), target, size)
//	err = install.Allow(content, install.Policy{Wipe: wipe, Force: force})
//	p, err := install.NewPlan(manifest, d)
//	err = p.Begin(f); ...; err = p.Finish(f)
//
// The bytes of the partitions are written in between, by who knows where they come
// from.
package install

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
)

// Disk is a whole disk of the machine.
type Disk struct {
	Node       string // "/dev/vda"
	Path       string // place on the bus: "pci-0000:00:04.0", and behind a SCSI or ATA controller "pci-0000:00:1f.2-scsi-0:0:0"
	Serial     string // empty: it says none
	WWID       string // "naa.5002538e40a0a1b2", "eui.0025385b71b0a1b2"; empty: it says none
	Driver     string // the same place in udev's words, where these differ: "pci-0000:01:00.0-nvme-1"
	Namespace  string // of an NVMe disk: "1"
	Model      string
	Size       int64 // bytes
	SectorSize int   // logical, in bytes
	Removable  bool
	Loose      bool // on USB, or an SD card: carried about, whatever the disk says of itself
	ReadOnly   bool
}

// String names the disk for people.
func (d Disk) String() string {
	s := fmt.Sprintf("%s (%d MiB", d.Node, d.Size>>20)
	for _, t := range []string{d.Model, cmp.Or(d.Serial, d.WWID), d.Path} {
		if t != "" {
			s += ", " + t
		}
	}
	if d.Loose {
		s += ", USB or SD card"
	}
	return s + ")"
}

// Disks are those that the kernel has now, by their names.
func Disks(sysfs, dev string) []Disk {
	var out []Disk
	dirs, _ := filepath.Glob(filepath.Join(sysfs, "block/*"))
	for _, dir := range dirs {
		device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if err != nil {
			continue // loop, dm, md: nothing with a place in the machine
		}
		read := func(name string) string { return word(filepath.Join(dir, name)) }
		if read("hidden") == "1" {
			continue // a path to a disk (NVMe multipath): it has no node
		}
		d := Disk{Node: filepath.Join(dev, filepath.Base(dir)), Path: place(device), Removable: read("removable") == "1", ReadOnly: read("ro") == "1"}
		if through, at := pathDevice(dir); d.Path == "" && at != "" {
			device, d.Path = through, at
		}
		sectors, _ := strconv.ParseInt(read("size"), 10, 64) // of 512 bytes, always
		d.Size = sectors * 512
		d.SectorSize, _ = strconv.Atoi(read("queue/logical_block_size"))
		d.Model, d.Namespace, d.Loose = read("device/model"), read("nsid"), isLoose(device, read("device/type"))
		d.Driver = driver(device, d.Path, d.Namespace)
		d.Serial, d.WWID = cmp.Or(read("serial"), read("device/serial"), unitSerial(filepath.Join(dir, "device/vpd_pg80"))), cmp.Or(read("wwid"), read("device/wwid"))
		if d.Size > 0 && !strings.HasPrefix(filepath.Base(dir), "sr") {
			out = append(out, d)
		}
	}
	return out
}

// isLoose says that a disk is one that people carry about. The flag "removable" does not
// tell: it is for media that leave their drive, and 0 for disks in USB cases, for many
// sticks and for SD cards. The type is that of an MMC device: "SD", or "MMC" for what is
// soldered.
func isLoose(device, kind string) bool {
	for elem := range strings.SplitSeq(device, "/") {
		if bus, ok := strings.CutPrefix(elem, "usb"); ok && bus != "" && strings.Trim(bus, "0123456789") == "" {
			return true
		}
	}
	return kind == "SD"
}

// pathDevice is the device behind a disk that has no place itself, as nvme0n1 when the
// kernel sees a controller that more than one path may lead to (NVMe multipath): the
// hidden disk nvme0c1n1 is its path through controller 1. Of several it is the one that
// comes first on the bus.
func pathDevice(dir string) (device, at string) {
	subsystem, namespace, ok := strings.Cut(strings.TrimPrefix(filepath.Base(dir), "nvme"), "n")
	if !ok || !strings.HasPrefix(filepath.Base(dir), "nvme") {
		return "", ""
	}
	dirs, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "nvme"+subsystem+"c*n"+namespace))
	for _, d := range dirs {
		x, err := filepath.EvalSymlinks(filepath.Join(d, "device"))
		if p := place(x); err == nil && p != "" && (at == "" || p < at) {
			device, at = x, p
		}
	}
	return device, at
}

// word reads one text of sysfs.
func word(file string) string {
	b, _ := os.ReadFile(file)
	return printable(b)
}

// unitSerial reads the serial number of a SCSI or ATA disk: a page of vital product data
// with four bytes before the text (SPC-4 section 7.8.17).
func unitSerial(file string) string {
	b, _ := os.ReadFile(file)
	return printable(b[min(4, len(b)):])
}

// printable leaves none of the bytes that are not printable ASCII.
func printable(b []byte) string {
	text := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b)))
	return text[:min(len(text), 128)]
}

// place is the last PCI device of a path of sysfs, and the SCSI target behind it. The
// number of the SCSI host is not in it: it changes from boot to boot.
func place(device string) string {
	out := ""
	for elem := range strings.SplitSeq(device, "/") {
		_, target, _ := strings.Cut(elem, ":")
		if isPCI(elem) {
			out = "pci-" + elem
		} else if out != "" && strings.Count(elem, ":") == 3 && strings.Trim(elem, "0123456789:") == "" {
			out += "-scsi-" + target
		}
	}
	return out
}

// driver is the place as udev says it: with the port of an ATA disk, or the namespace of
// an NVMe disk.
func driver(device, place, namespace string) string {
	bus, _, _ := strings.Cut(place, "-scsi-")
	if bus != "" && namespace != "" {
		return bus + "-nvme-" + namespace
	}
	for dir := device; bus != "" && strings.Contains(dir, "/ata"); dir = filepath.Dir(dir) {
		if port := word(filepath.Join(dir, "ata_port", filepath.Base(dir), "port_no")); port != "" {
			return bus + "-ata-" + port
		}
	}
	return ""
}

// isPCI knows the address of a PCI device. A domain has four digits, and more where a
// controller makes its own (Intel VMD: 10000:04:00.0).
func isPCI(text string) bool {
	domain, rest, _ := strings.Cut(text, ":")
	return len(domain) >= 4 && len(domain) <= 8 && hasShape(domain, "xxxxxxxx"[:len(domain)]) && hasShape(rest, "xx:xx.x")
}

// hasShape compares a text with a pattern in which x is a hexadecimal digit.
func hasShape(text, pattern string) bool {
	if len(text) != len(pattern) {
		return false
	}
	for i, c := range []byte(pattern) {
		if c != 'x' && text[i] != c || c == 'x' && !strings.Contains("0123456789abcdef", text[i:i+1]) {
			return false
		}
	}
	return true
}

// ErrNoDisk is wrapped by Choose when no disk is the one: it may come yet.
var ErrNoDisk = errors.New("no disk is what install.to says")

// Choose gives the one disk that a recipe means and that has room. Removable disks
// do not count, and those on USB and SD cards only when they are named.
func Choose(disks []Disk, to appliance.Target, need int64) (Disk, error) {
	var left []Disk
	var seen []string
	for _, d := range disks {
		seen = append(seen, d.String())
		named := to.Path != "" || to.Serial != ""
		if !d.Removable && !d.ReadOnly && (named || !d.Loose) && d.Size >= max(need, to.MinSize) && (to.MaxSize == 0 || d.Size <= to.MaxSize) &&
			d.isAt(to.Path) && d.isNamed(to.Serial) && matches(to.Model, d.Model) {
			left = append(left, d)
		}
	}
	list := "the machine has none"
	if len(seen) > 0 {
		list = "the machine has " + strings.Join(seen, ", ")
	}
	switch len(left) {
	case 0:
		return Disk{}, fmt.Errorf("%w and has at least %d MiB: %s", ErrNoDisk, max(need, to.MinSize)>>20, list)
	case 1:
		if s := left[0].SectorSize; s != 512 && s != 4096 {
			return Disk{}, fmt.Errorf("%s has sectors of %d bytes", left[0], s)
		}
		return left[0], nil
	}
	return Disk{}, errors.New("more than one disk is what install.to says, and none of them is written: " + list)
}

// isAt compares the place. udev writes the driver behind it (pci-0000:01:00.0-nvme-1,
// pci-0000:00:1f.2-ata-1), or before it (virtio-pci-0000:00:04.0).
func (d Disk) isAt(pattern string) bool {
	pattern = strings.TrimPrefix(strings.TrimPrefix(pattern, appliance.ByPath), "virtio-")
	return matches(pattern, d.Path) || d.Driver != "" && matches(pattern, d.Driver)
}

// isNamed compares serial number and WWID, and names of udev's, which end with one of them.
func (d Disk) isNamed(pattern string) bool {
	if pattern == "" {
		return true
	}
	name, udev := strings.CutPrefix(pattern, appliance.ByID)
	for _, kind := range []string{"ata-", "nvme-", "scsi-", "virtio-", "wwn-"} {
		udev = udev || strings.HasPrefix(name, kind)
	}
	for _, id := range []string{d.Serial, d.WWID} {
		if id = strings.ReplaceAll(id, " ", "_"); id != "" && (matches(name, id) || udev && d.isUdev(name, id)) {
			return true
		}
	}
	_, number, _ := strings.Cut(d.WWID, ".")
	return number != "" && (matches(name, number) || slices.Contains([]string{"wwn-0x" + number, "scsi-3" + number, "nvme-eui." + number}, name))
}

// isUdev knows names of udev's with a serial number or a whole WWID: ata-MODEL_SERIAL,
// scsi-SMODEL_SERIAL, virtio-SERIAL, nvme-eui.WWID, and nvme-MODEL_SERIAL, behind which
// newer ones have the namespace (nvme-MODEL_SERIAL_1).
func (d Disk) isUdev(name, id string) bool {
	names := []string{name}
	if d.Namespace != "" && strings.HasPrefix(name, "nvme-") {
		names = append(names, strings.TrimSuffix(name, "_"+d.Namespace))
	}
	return slices.ContainsFunc(names, func(n string) bool {
		head, ends := strings.CutSuffix(n, id)
		return ends && head != "" && strings.Contains("_-", head[len(head)-1:])
	})
}

func matches(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, text)
	return err == nil && ok
}
