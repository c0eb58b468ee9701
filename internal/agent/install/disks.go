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
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
)

// Disk is a whole disk of the machine.
type Disk struct {
	Node       string // "/dev/vda"
	Path       string // place on the bus: "pci-0000:00:04.0", and behind a SCSI or ATA controller "pci-0000:00:1f.2-scsi-0:0:0"
	Serial     string // or WWID; empty: it says none
	Model      string
	Size       int64 // bytes
	SectorSize int   // logical, in bytes
	Removable  bool
	ReadOnly   bool
}

// String names the disk for people.
func (d Disk) String() string {
	s := fmt.Sprintf("%s (%d MiB", d.Node, d.Size>>20)
	for _, t := range []string{d.Model, d.Serial, d.Path} {
		if t != "" {
			s += ", " + t
		}
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
		d := Disk{Node: filepath.Join(dev, filepath.Base(dir)), Path: place(device), Removable: read("removable") == "1", ReadOnly: read("ro") == "1"}
		sectors, _ := strconv.ParseInt(read("size"), 10, 64) // of 512 bytes, always
		d.Size = sectors * 512
		d.SectorSize, _ = strconv.Atoi(read("queue/logical_block_size"))
		d.Model = read("device/model")
		for _, name := range []string{"serial", "device/serial", "wwid", "device/wwid"} {
			if d.Serial == "" {
				d.Serial = read(name)
			}
		}
		if d.Size > 0 && !strings.HasPrefix(filepath.Base(dir), "sr") {
			out = append(out, d)
		}
	}
	return out
}

// word reads one text of sysfs; of bytes that are not printable ASCII none is left.
func word(file string) string {
	b, _ := os.ReadFile(file)
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
		if hasShape(elem, "xxxx:xx:xx.x") {
			out = "pci-" + elem
		} else if out != "" && strings.Count(elem, ":") == 3 && strings.Trim(elem, "0123456789:") == "" {
			out += "-scsi-" + target
		}
	}
	return out
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

// Choose gives the one disk that a recipe means and that has room. Removable disks
// do not count.
func Choose(disks []Disk, to appliance.Target, need int64) (Disk, error) {
	var left []Disk
	var seen []string
	for _, d := range disks {
		seen = append(seen, d.String())
		if !d.Removable && !d.ReadOnly && d.Size >= max(need, to.MinSize) && (to.MaxSize == 0 || d.Size <= to.MaxSize) &&
			matches(to.Path, d.Path) && matches(to.Serial, d.Serial) && matches(to.Model, d.Model) {
			left = append(left, d)
		}
	}
	list := "the machine has none"
	if len(seen) > 0 {
		list = "the machine has " + strings.Join(seen, ", ")
	}
	switch len(left) {
	case 0:
		return Disk{}, fmt.Errorf("no disk with at least %d MiB is what install.to says: %s", max(need, to.MinSize)>>20, list)
	case 1:
		if s := left[0].SectorSize; s != 512 && s != 4096 {
			return Disk{}, fmt.Errorf("%s has sectors of %d bytes", left[0], s)
		}
		return left[0], nil
	}
	return Disk{}, errors.New("more than one disk is what install.to says, and none of them is written: " + list)
}

func matches(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, text)
	return err == nil && ok
}
