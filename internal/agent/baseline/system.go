package baseline

import (
	"cmp"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strings"
)

// System is where a machine is looked at. The zero value is this one.
type System struct {
	Root fs.FS // nil = /; sys and proc below it
	// Addrs are the addresses of all links; nil = the kernel's.
	Addrs func() ([]net.Addr, error)
	// Device is the path of the device behind a directory of /sys/class/net or
	// /sys/block, relative to Root; nil = as the kernel links it. "" = none.
	Device func(dir string) string
}

func (s System) root() fs.FS {
	if s.Root == nil {
		return os.DirFS("/")
	}
	return s.Root
}

// read returns a file without its newline; "" when there is none.
func (s System) read(name string) string {
	b, _ := fs.ReadFile(s.root(), name)
	return strings.TrimSpace(string(b))
}

func (s System) names(dir string) []string {
	entries, _ := fs.ReadDir(s.root(), dir)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// device is where hardware sits: the path of the bus without virtio's own
// number, which depends on the order of probes.
func (s System) device(dir string) string {
	find := s.Device
	if find == nil {
		find = func(dir string) string {
			to, err := os.Readlink("/" + dir)
			if err != nil {
				return ""
			}
			return path.Join(path.Dir(dir), to)
		}
	}
	at := find(dir)
	// A link's directory leads to .../0000:00:02.0/virtio0/net/eth0, that of a disk to
	// .../0000:00:03.0/nvme/nvme0/nvme0n1; what has no hardware is below virtual.
	if at == "" || strings.Contains(at, "/devices/virtual/") {
		return ""
	}
	return at
}

// place is the last address of a bus in a device path.
func place(device string) string {
	parts := strings.Split(device, "/")
	for _, p := range slices.Backward(parts) {
		if strings.ContainsRune(p, ':') {
			return p
		}
	}
	return device
}

// links are the network cards with a carrier.
func (s System) links() []Link {
	var out []Link
	for _, name := range s.names("sys/class/net") {
		dir := path.Join("sys/class/net", name)
		if at := s.device(dir); at != "" && s.read(dir+"/carrier") == "1" {
			out = append(out, Link{Path: place(at), Name: name})
		}
	}
	return out
}

// disks are the fixed disks: no CD drive, and nothing on USB, which comes and
// goes.
func (s System) disks() []Disk {
	var out []Disk
	for _, name := range s.names("sys/block") {
		dir := path.Join("sys/block", name)
		at := s.device(dir)
		if at == "" || s.read(dir+"/removable") == "1" || strings.Contains(at, "/usb") || strings.HasPrefix(name, "sr") {
			continue
		}
		id := cmp.Or(s.read(dir+"/wwid"), s.read(dir+"/device/wwid"), s.read(dir+"/serial"), s.read(dir+"/device/serial"), place(at))
		out = append(out, Disk{ID: id, Name: name})
	}
	return out
}

// addresses tells of which families there are addresses that reach further than
// a link.
func (s System) addresses() (v4, v6 bool) {
	find := s.Addrs
	if find == nil {
		find = net.InterfaceAddrs
	}
	all, _ := find()
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		if n.IP.To4() != nil {
			v4 = true
		} else {
			v6 = true
		}
	}
	return v4, v6
}

// routes tells whether there are default routes (Documentation of
// /proc/net/route and /proc/net/ipv6_route: net/ipv4/fib_trie.c, net/ipv6/route.c).
func (s System) routes() (v4, v6 bool) {
	for l := range strings.Lines(s.read("proc/net/route")) {
		f := strings.Fields(l) // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
		v4 = v4 || len(f) > 7 && f[1] == "00000000" && f[7] == "00000000"
	}
	for l := range strings.Lines(s.read("proc/net/ipv6_route")) {
		f := strings.Fields(l) // destination length source length next-hop metric refcnt use flags device
		// Every host has a rejecting default route on lo.
		v6 = v6 || len(f) > 9 && f[1] == "00" && strings.Trim(f[0], "0") == "" && f[9] != "lo"
	}
	return v4, v6
}
