package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/appliance"
)

// device returns the link that carries the addresses: the match itself, a bond
// of all matches, or a VLAN on top of either.
func (m *Manager) device(c appliance.Interface, found []Link) (netlink.Link, error) {
	link, err := netlink.LinkByIndex(found[0].Index)
	if err != nil {
		return nil, fmt.Errorf("open link %s: %w", found[0].Name, err)
	}
	if c.Bond != nil {
		if link, err = m.bond(*c.Bond, found); err != nil {
			return nil, err
		}
	}
	if c.VLAN == 0 {
		return link, nil
	}
	return m.vlan(link, c.VLAN)
}

func (m *Manager) bond(b appliance.Bond, members []Link) (netlink.Link, error) {
	// Ignored: built in, or LinkAdd says what is missing. The module's own
	// first bond is not wanted and is not used.
	_ = m.Load("bonding")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = b.Name
	bond := netlink.NewLinkBond(attrs)
	bond.Mode = netlink.StringToBondMode(b.Mode)
	bond.Miimon = 100 // ms; without it a dead member is never noticed
	if err := netlink.LinkAdd(bond); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("add bond %s: %w", b.Name, err)
	}
	link, err := netlink.LinkByName(b.Name)
	if err != nil {
		return nil, fmt.Errorf("add bond %s: %w", b.Name, err)
	}
	for _, l := range members {
		member, err := netlink.LinkByIndex(l.Index)
		if err != nil {
			return nil, fmt.Errorf("add %s to bond %s: %w", l.Name, b.Name, err)
		}
		// A member must be down while it joins.
		err = errors.Join(netlink.LinkSetDown(member), netlink.LinkSetMasterByIndex(member, link.Attrs().Index))
		if err != nil {
			return nil, fmt.Errorf("add %s to bond %s: %w", l.Name, b.Name, err)
		}
	}
	return link, netlink.LinkSetUp(link)
}

func (m *Manager) vlan(parent netlink.Link, id int) (netlink.Link, error) {
	_ = m.Load("8021q") // as for bonding
	if err := netlink.LinkSetUp(parent); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", parent.Attrs().Name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("%s.%d", parent.Attrs().Name, id)
	attrs.ParentIndex = parent.Attrs().Index
	err := netlink.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("add vlan %s: %w", attrs.Name, err)
	}
	return netlink.LinkByName(attrs.Name)
}

// sysctls decides before the link is up whether the kernel believes routers.
func (m *Manager) sysctls(link netlink.Link, ra bool) error {
	v := "0"
	if ra {
		v = "2" // also when a service turns on forwarding
	}
	dir := filepath.Join("/proc/sys/net/ipv6/conf", link.Attrs().Name)
	err := os.WriteFile(filepath.Join(dir, "accept_ra"), []byte(v), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without IPv6
	}
	return err
}

func (m *Manager) static(i int, c appliance.Interface, link netlink.Link) error {
	for _, a := range c.Address {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("parse address %q: %w", a, err)
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a, link.Attrs().Name, err)
		}
	}
	if c.Gateway != "" {
		if err := addGateway(link, net.ParseIP(c.Gateway)); err != nil {
			return err
		}
	}
	m.set(i, func(s *Status) { s.Addresses, s.Gateway, s.DNS = c.Address, c.Gateway, c.DNS })
	return m.writeResolv()
}

func addGateway(link netlink.Link, gw net.IP) error {
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw}
	err := netlink.RouteReplace(r)
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		// The gateway is outside every subnet of the link, as some clouds have
		// it (RFC 3442 examples): reach it on-link.
		r.Flags = int(netlink.FLAG_ONLINK)
		err = netlink.RouteReplace(r)
	}
	if err != nil {
		return fmt.Errorf("add default route via %s on %s: %w", gw, link.Attrs().Name, err)
	}
	return nil
}
