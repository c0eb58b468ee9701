package dhcpd6

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// link is an interface that machines are answered on.
type link struct {
	name  string
	index int
	mac   netboot.MAC
	at    *atomic.Pointer[[]netip.Addr]
}

func findLinks(names []string) (out []link, err error) {
	for _, name := range names {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("listen for DHCPv6: interface %s: %w", name, err)
		}
		l := link{name: name, index: i.Index, at: &atomic.Pointer[[]netip.Addr]{}}
		copy(l.mac[:], i.HardwareAddr)
		if l.look(); len(l.addrs()) == 0 {
			return nil, fmt.Errorf("listen for DHCPv6: interface %s has no IPv6 address", name)
		}
		out = append(out, l)
	}
	return out, nil
}

// addrs are its addresses as they were when it was last looked at: asking the kernel for
// each datagram would cost more than all the rest.
func (l link) addrs() []netip.Addr {
	if list := l.at.Load(); list != nil {
		return *list
	}
	return nil
}

// look asks for the addresses: they may come and go while the server runs. An interface
// that has gone keeps what it had.
func (l link) look() {
	i, err := net.InterfaceByName(l.name)
	if err != nil || i.Index != l.index {
		return
	}
	list, err := i.Addrs()
	if err != nil {
		return
	}
	var out []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok && a.Is6() && !a.Is4In6() {
				out = append(out, a)
			}
		}
	}
	l.at.Store(&out)
}

// own is the address that clients of the link reach the server at: one inside the
// client's own network before any other, the lowest of several, never a link-local one.
func own(addrs []netip.Addr, pools []netip.Prefix) netip.Addr {
	var found netip.Addr
	for _, a := range slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare) { // the kernel has the newest first
		if a.IsLinkLocalUnicast() || a.IsLoopback() {
			continue
		}
		if slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return a
		}
		if !found.IsValid() {
			found = a
		}
	}
	return found
}
