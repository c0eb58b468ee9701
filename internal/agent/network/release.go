package network

import "github.com/vishvananda/netlink"

// Release takes back the addresses that Run has put on links, after it has ended: for
// another manager. Bonds and VLANs stay.
func (m *Manager) Release() {
	for _, s := range m.Status() {
		link, err := netlink.LinkByName(s.Device)
		if err != nil {
			continue // gone, and its addresses with it
		}
		for _, text := range s.Addresses {
			if addr, err := netlink.ParseAddr(text); err == nil {
				_ = netlink.AddrDel(link, addr) // the kernel may have been first
			}
		}
	}
}
