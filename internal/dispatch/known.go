package dispatch

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// directory are the machines that have attested, by all that they are found by.
type directory struct {
	machines map[netboot.MAC]fleet.Machine
	hosts    map[string][]netboot.MAC // in order
	uuids    map[string][]netboot.MAC
}

// put takes a machine in the place of the one with its address.
func (d *directory) put(m fleet.Machine) {
	if d.machines == nil {
		d.machines, d.hosts, d.uuids = map[netboot.MAC]fleet.Machine{}, map[string][]netboot.MAC{}, map[string][]netboot.MAC{}
	}
	d.remove(m.MAC)
	d.machines[m.MAC] = m
	enter(d.hosts, m.Host, m.MAC)
	enter(d.uuids, m.UUID, m.MAC)
}

// remove forgets a machine.
func (d *directory) remove(mac netboot.MAC) {
	old, ok := d.machines[mac]
	if !ok {
		return
	}
	drop(d.hosts, old.Host, mac)
	drop(d.uuids, old.UUID, mac)
	delete(d.machines, mac)
}

func enter(index map[string][]netboot.MAC, key string, mac netboot.MAC) {
	if key == "" {
		return
	}
	list := index[key]
	at, found := slices.BinarySearchFunc(list, mac, compareMAC)
	if !found {
		index[key] = slices.Insert(list, at, mac)
	}
}

func drop(index map[string][]netboot.MAC, key string, mac netboot.MAC) {
	list := slices.DeleteFunc(index[key], func(m netboot.MAC) bool { return m == mac })
	if index[key] = list; len(list) == 0 {
		delete(index, key)
	}
}

func compareMAC(a, b netboot.MAC) int { return strings.Compare(string(a[:]), string(b[:])) }

// find resolves a client: by its MAC address, else by a UUID that machines of one
// host alone have. A quarantine of any of those counts.
func (d *directory) find(c netboot.Client) (out fleet.Machine) {
	if m, ok := d.machines[c.MAC]; ok {
		return m
	}
	if !bootrule.Identifies(c.UUID) {
		return fleet.Machine{}
	}
	for i, mac := range d.uuids[c.UUID] {
		m := d.machines[mac]
		if i > 0 && m.Host != out.Host {
			return fleet.Machine{}
		}
		m.Quarantine = cmp.Or(out.Quarantine, m.Quarantine)
		out = m
	}
	return out
}

// of are the machines of a host, in order.
func (d *directory) of(host string) (out []fleet.Machine) {
	for _, mac := range d.hosts[host] {
		out = append(out, d.machines[mac])
	}
	return out
}
