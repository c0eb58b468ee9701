package network

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/ingot-os/ingot/internal/appliance"
)

// Link is what a match sees of a network device.
type Link struct {
	Name   string // "eth0"
	MAC    string // permanent address where the driver tells it, lower case
	Driver string // "virtio_net"
	Path   string // "pci-0000:00:02.0"; "" for devices without a bus
	Index  int
}

// physical reports whether the link is a device of the machine: bridges,
// bonds, tunnels and the loopback have neither bus nor driver.
func (l Link) physical() bool { return l.Path != "" }

// Matches reports whether all fields of m that are set agree with the link. A
// match without any field takes every physical link. Names and bus paths are
// path.Match patterns; MAC addresses are compared without regard to case.
func Matches(m appliance.Match, l Link) bool {
	if m == (appliance.Match{}) {
		return l.physical()
	}
	return glob(m.Name, l.Name) && glob(m.Path, l.Path) && glob(m.Driver, l.Driver) &&
		(m.MAC == "" || strings.EqualFold(m.MAC, l.MAC))
}

// Claims reports whether interface i of a configuration takes a link: it
// matches, and no earlier interface does. VLANs share their link with others.
func Claims(all []appliance.Interface, i int, l Link) bool {
	if !Matches(all[i].Match, l) {
		return false
	}
	if all[i].VLAN != 0 {
		return true
	}
	return !slices.ContainsFunc(all[:i], func(c appliance.Interface) bool { return c.VLAN == 0 && Matches(c.Match, l) })
}

func glob(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

// links lists the machine's links in order of their index, without loopback.
func links(sysfs string) ([]Link, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var out []Link
	for _, l := range all {
		a := l.Attrs()
		if a.Flags&loopback != 0 {
			continue
		}
		out = append(out, describe(sysfs, a))
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Index < out[j].Index }) // slices.SortFunc of a struct is 20 KB of machine code
	return out, nil
}

func describe(sysfs string, a *netlink.LinkAttrs) Link {
	l := Link{Name: a.Name, MAC: a.HardwareAddr.String(), Index: a.Index}
	if a.PermHWAddr != nil {
		l.MAC = a.PermHWAddr.String() // a bond gives its members one address
	}
	device := filepath.Join(sysfs, "class/net", a.Name, "device")
	if d, err := os.Readlink(filepath.Join(device, "driver")); err == nil {
		l.Driver = filepath.Base(d)
	}
	l.Path = busPath(device)
	return l
}

// busPath names the nearest device on a bus with stable addresses. A virtio
// device's own number depends on the probe order, its PCI parent's does not.
func busPath(device string) string {
	dir, err := filepath.EvalSymlinks(device)
	if err != nil {
		return ""
	}
	for d := dir; d != "/" && d != "."; d = filepath.Dir(d) {
		sub, err := os.Readlink(filepath.Join(d, "subsystem"))
		if err != nil {
			continue
		}
		switch bus := filepath.Base(sub); bus {
		case "pci", "platform", "usb", "ccw", "vmbus", "xen":
			return bus + "-" + filepath.Base(d)
		}
	}
	return "other-" + filepath.Base(dir)
}
