package serve

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/ui"
)

// Link is a network interface on which machines are answered.
type Link struct {
	Name     string         `json:"name"`
	Index    int            `json:"-"`
	MTU      int            `json:"mtu"`
	Prefixes []netip.Prefix `json:"addresses"` // its own, with their subnets; IPv4 first
	loopback bool
}

// Addr4 is the first IPv4 address of the link; zero when it has none.
func (l Link) Addr4() netip.Addr {
	for _, p := range l.Prefixes {
		if p.Addr().Is4() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// serves reports whether the link has an address in one of the subnets.
func (l Link) serves(subnets []netip.Prefix) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
		return slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Contains(p.Addr()) })
	})
}

// links finds the links that a configuration is about.
func (c *Config) links() ([]Link, error) {
	if c.DHCP.Mode == ModeOff && c.DHCP6.Mode == ModeOff {
		return nil, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var found []Link
	for _, i := range all {
		if l := link(i); len(l.Prefixes) > 0 {
			found = append(found, l)
		}
	}
	if len(c.Interfaces) > 0 {
		return c.named(all, found)
	}
	return c.suitable(all, found)
}

func link(i net.Interface) Link {
	l := Link{Name: i.Name, Index: i.Index, MTU: i.MTU, loopback: i.Flags&net.FlagLoopback != 0}
	list, _ := i.Addrs() // a link that has just gone has none
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(n.IP)
		ones, _ := n.Mask.Size()
		l.Prefixes = append(l.Prefixes, netip.PrefixFrom(addr.Unmap(), ones))
	}
	slices.SortStableFunc(l.Prefixes, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	return l
}

// named are the links that the operator has named.
func (c *Config) named(all []net.Interface, found []Link) (list []Link, err error) {
	for n, name := range c.Interfaces {
		i := slices.IndexFunc(all, func(x net.Interface) bool { return x.Name == name })
		j := slices.IndexFunc(found, func(x Link) bool { return x.Name == name })
		at := fmt.Sprintf("interfaces[%d]", n)
		switch {
		case i < 0:
			return nil, c.wrong(at, "interface", "this machine has "+names(all), "no interface is called %s", name)
		case all[i].Flags&net.FlagUp == 0:
			return nil, c.wrong(at, "interface", "ip link set "+name+" up", "interface %s is down", name)
		case c.DHCP.Mode != ModeOff && (j < 0 || !found[j].Addr4().IsValid()):
			return nil, c.wrong(at, "interface", "ip addr add ADDRESS/LENGTH dev "+name, "interface %s has no IPv4 address", name)
		case j < 0:
			return nil, c.wrong(at, "interface", "ip -6 addr add ADDRESS/LENGTH dev "+name, "interface %s has no address", name)
		}
		list = append(list, found[j])
	}
	return list, nil
}

// names are the links of this machine, with what keeps machines from being answered there.
func names(all []net.Interface) string {
	var list []string
	for _, i := range all {
		switch {
		case i.Flags&net.FlagLoopback != 0:
		case i.Flags&net.FlagUp == 0:
			list = append(list, i.Name+" (down)")
		case !link(i).Addr4().IsValid():
			list = append(list, i.Name+" (no IPv4 address)")
		default:
			list = append(list, i.Name)
		}
	}
	if len(list) == 0 {
		return "no link but its loopback"
	}
	return strings.Join(list, ", ")
}

// suitable are the links on which machines may be when nobody has named one:
// for full DHCP those in its subnets, else all of Ethernet that have an address.
func (c *Config) suitable(all []net.Interface, found []Link) (list []Link, err error) {
	var subnets []netip.Prefix
	for _, s := range c.DHCP.Subnets {
		subnets = append(subnets, s.Subnet.Prefix)
	}
	for _, s := range c.DHCP6.Subnets {
		subnets = append(subnets, s.Subnet.Prefix)
	}
	for _, l := range found {
		i := all[slices.IndexFunc(all, func(x net.Interface) bool { return x.Index == l.Index })]
		fits := i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 && len(i.HardwareAddr) == 6
		if c.DHCP.Mode == ModeFull || c.DHCP6.Mode == ModeFull {
			fits = fits && l.serves(subnets)
		} else {
			fits = fits && (l.Addr4().IsValid() || c.DHCP.Mode == ModeOff)
		}
		if fits {
			list = append(list, l)
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	if c.DHCP.Mode == ModeFull || c.DHCP6.Mode == ModeFull {
		return nil, c.wrong("dhcp", "interface", "give the interface to the machines an address in the subnet, or name it with interfaces", "no interface of this machine is in a subnet of dhcp")
	}
	return nil, c.wrong("interfaces", "interface", "connect one, or name it: this machine has "+names(all), "no interface of Ethernet is up and has an IPv4 address")
}

// flags are those that a configuration without a file has.
var flags = map[string]bool{"release": true, "interface": true, "dhcp": true, "keys": true, "state": true}

// wrong is an error about a key, at its line when there is a file, or about the
// flag of it.
func (c *Config) wrong(path, flag, hint, format string, args ...any) error {
	if c.doc != nil {
		e := c.doc.Errorf(path, "", format, args...)
		return &ui.Error{Err: e, Hint: hint}
	}
	if flags[flag] {
		flag = "--" + flag
	}
	return &ui.Error{Err: fmt.Errorf(flag+": "+format, args...), Hint: hint}
}
