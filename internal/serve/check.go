package serve

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/strictyaml"
	"github.com/ingot-os/ingot/pxe/dhcp"
)

// Bounds of leases: firmware that loads a large image slowly must keep its
// address meanwhile, and clients count in seconds of 32 bits.
const (
	minLease = 2 * time.Minute
	maxLease = 720 * time.Hour
)

// checker collects what is wrong with a configuration as a whole.
type checker struct {
	doc  *strictyaml.Document
	errs strictyaml.Errors
}

func (k *checker) add(path, hint, format string, args ...any) {
	k.errs = append(k.errs, k.doc.Errorf(path, hint, format, args...))
}

// check applies the rules that need more than one value.
func (c *Config) check() strictyaml.Errors {
	k := &checker{doc: c.doc}
	k.listeners(c)
	k.subnets(c)
	k.subnets6(c)
	if d := c.Attest.Interval; d != 0 && time.Duration(d) < time.Second {
		k.add("attest.interval", "write 1s or more", "attest.interval is %s: at least one second", d)
	}
	k.trial(&c.Trial)
	if c.HTTPS.Prefer && !c.HTTPS.On {
		k.add("https.prefer", "add on: true to https", "https.prefer has no meaning while HTTPS is off")
	}
	if c.Address.IsValid() && !c.Address.Is4() {
		k.add("address", "IPv6 clients are told the address of the link by itself", "address is %s: not an IPv4 address", c.Address)
	}
	if c.TFTP.Off && c.HTTP.Off && !c.HTTPS.On && c.DHCP.Mode != ModeOff {
		k.add("dhcp", "leave tftp or http on, or write dhcp: {mode: off}", "DHCP would name files that nothing serves: tftp, http and https are all off")
	}
	return k.errs
}

// trial wants times that can be met: a machine reports once in an interval.
func (k *checker) trial(t *Trial) {
	for _, x := range []struct {
		key string
		d   appliance.Duration
	}{{"trial.health", t.Health}, {"trial.limit", t.Limit}, {"trial.window", t.Window}} {
		if x.d != 0 && time.Duration(x.d) < time.Second {
			k.add(x.key, "write 1s or more", "%s is %s: at least one second", x.key, x.d)
		}
	}
	health, limit := t.Health.Or(slotHealth), t.Limit.Or(slotLimit)
	if limit < health {
		k.add("trial.limit", "write more than trial.health", "trial.limit is %s, shorter than the %s for which the machine must be healthy", appliance.Duration(limit), appliance.Duration(health))
	}
}

// Defaults of package boot/slot.
const slotHealth, slotLimit = time.Minute, 10 * time.Minute

// listeners finds two on one port.
func (k *checker) listeners(c *Config) {
	taken := map[int]string{}
	for _, l := range []struct {
		key, listen, def string
		off              bool
	}{
		{"http.listen", c.HTTP.Listen, ":80", c.HTTP.Off},
		{"https.listen", c.HTTPS.Listen, ":443", !c.HTTPS.On},
		{"attest.listen", c.Attest.Listen, ":9444", c.Attest.Off},
		{"metrics.listen", c.Metrics.Listen, "localhost:9445", c.Metrics.Off},
	} {
		if l.off {
			continue
		}
		_, port, err := splitListen(cmp.Or(l.listen, l.def))
		switch {
		case err != nil:
			continue // the table has said so
		case port > 65535:
			k.add(l.key, "ports are 1 to 65535", "%s is %q: no such port", l.key, l.listen)
		case port == 0: // any free one: for tests
		case taken[port] != "":
			k.add(l.key, "give one of them another port", "%s is on port %d, as %s is", l.key, port, taken[port])
		default:
			taken[port] = l.key
		}
	}
}

func (k *checker) subnets(c *Config) {
	switch {
	case c.DHCP.Mode == ModeFull && len(c.DHCP.Subnets) == 0:
		k.add("dhcp", "add subnets with subnet and pools: which addresses may machines get?", "dhcp.mode is full, and there is no subnet")
	case c.DHCP.Mode != ModeFull && len(c.DHCP.Subnets) > 0:
		k.add("dhcp.subnets", "write mode: full if this server is to give addresses", "dhcp.subnets has no meaning with mode %s", cmp.Or(c.DHCP.Mode, ModeProxy))
	}
	for i, r := range c.DHCP.Relays {
		if !r.Is4() {
			k.add(fmt.Sprintf("dhcp.relays[%d]", i), "relays of DHCPv6 are under dhcp6", "dhcp.relays[%d] is %s: not an IPv4 address", i, r)
		}
	}
	seen := map[any]string{} // where a machine, a port, an address is reserved
	for i, s := range c.DHCP.Subnets {
		at := fmt.Sprintf("dhcp.subnets[%d]", i)
		if s.Subnet.IsValid() && !s.Subnet.Addr().Is4() {
			k.add(at+".subnet", "IPv6 is under dhcp6", "%s.subnet is %s: not an IPv4 subnet", at, s.Subnet)
			continue
		}
		for j, other := range c.DHCP.Subnets[:i] {
			if s.Subnet.IsValid() && other.Subnet.IsValid() && s.Subnet.Overlaps(other.Subnet.Prefix) {
				k.add(at+".subnet", "", "%s.subnet is %s, which overlaps dhcp.subnets[%d], %s", at, s.Subnet, j, other.Subnet)
			}
		}
		k.subnet(at, s)
		if len(s.Pools) == 0 && len(s.Reservations) == 0 && c.DHCP.Reservations == "" {
			k.add(at, "add pools: [FIRST-LAST]", "%s has neither pools nor reservations: nobody would get an address", at)
		}
		for j, r := range s.Reservations {
			k.reservation(fmt.Sprintf("%s.reservations[%d]", at, j), s, r, seen)
		}
	}
}

func (k *checker) subnet(at string, s Subnet) {
	k.lease(at+".lease", s.Lease)
	for j, p := range s.Pools {
		path := fmt.Sprintf("%s.pools[%d]", at, j)
		k.pool(path, p, s.Subnet)
		for _, other := range s.Pools[:j] {
			if other.Contains(p.First) || p.Contains(other.First) {
				k.add(path, "", "%s is %s, which overlaps %s", path, p, other)
			}
		}
	}
	if s.Router.IsValid() {
		k.inside(at+".router", s.Router.Addr, s.Subnet)
	}
	for j, p := range s.Pools {
		if p.Contains(s.Router.Addr) {
			k.add(fmt.Sprintf("%s.pools[%d]", at, j), "leave the router's address out of the pool", "%s.pools[%d] is %s, which has the router %s in it", at, j, p, s.Router)
		}
	}
	for name, list := range map[string][]Addr{"dns": s.DNS, "ntp": s.NTP} {
		for j, a := range list {
			if a.IsValid() && !a.Is4() {
				k.add(fmt.Sprintf("%s.%s[%d]", at, name, j), "DHCPv4 carries IPv4 addresses only", "%s.%s[%d] is %s: not an IPv4 address", at, name, j, a)
			}
		}
	}
}

func (k *checker) lease(path string, d appliance.Duration) {
	if d != 0 && (time.Duration(d) < minLease || time.Duration(d) > maxLease) {
		k.add(path, fmt.Sprintf("between %s and %s", appliance.Duration(minLease), appliance.Duration(maxLease)), "%s is %s, out of range", path, d)
	}
}

func (k *checker) pool(path string, p Range, s Prefix) {
	if !p.First.IsValid() || !s.IsValid() {
		return
	}
	for _, a := range []netip.Addr{p.First, p.Last} {
		if !k.inside(path, a, s) {
			return
		}
	}
}

// inside reports whether a host of a subnet can have an address.
func (k *checker) inside(path string, a netip.Addr, s Prefix) bool {
	if !s.IsValid() {
		return true
	}
	switch {
	case !s.Contains(a):
		k.add(path, fmt.Sprintf("addresses of %s are %s to %s", s, s.Addr().Next(), lastAddr(s.Prefix).Prev()), "%s: %s is outside the subnet %s", path, a, s)
	case a.Is4() && s.Bits() < 31 && (a == s.Addr() || a == lastAddr(s.Prefix)):
		k.add(path, fmt.Sprintf("use addresses from %s to %s", s.Addr().Next(), lastAddr(s.Prefix).Prev()), "%s: %s is the network or broadcast address of %s", path, a, s)
	default:
		return true
	}
	return false
}

// lastAddr is the highest address of a subnet.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (k *checker) reservation(at string, s Subnet, r Reservation, seen map[any]string) {
	if r.MAC.IsZero() && r.port() == (dhcp.Port{}) || !r.Address.IsValid() {
		return // the table has said so
	}
	if k.inside(at+".address", r.Address.Addr, s.Subnet) && r.Address == s.Router {
		k.add(at+".address", "", "%s.address is %s, the router's", at, r.Address)
	}
	if other := seen[r.Address.Addr]; other != "" {
		k.add(at+".address", "", "%s.address is %s, which %s has, too", at, r.Address, other)
	}
	seen[r.Address.Addr] = at
	// A machine has one address in each subnet, and may be in several.
	who, name, word := any(r.port()), "circuit", r.port().String()
	switch {
	case !r.MAC.IsZero():
		who, name, word = r.MAC.MAC, "mac", r.MAC.String()
	case r.Circuit == "":
		name = "remote"
	}
	key := fmt.Sprint(s.Subnet, " ", who)
	if other := seen[key]; other != "" {
		k.add(at+"."+name, "", "%s.%s is %s, which %s has, too", at, name, word, other)
	}
	seen[key] = at
}

func (k *checker) subnets6(c *Config) {
	switch {
	case c.DHCP6.Mode == ModeFull && len(c.DHCP6.Subnets) == 0:
		k.add("dhcp6", "add subnets with subnet and pool", "dhcp6.mode is full, and there is no subnet")
	case c.DHCP6.Mode != ModeFull && len(c.DHCP6.Subnets) > 0:
		k.add("dhcp6.subnets", "write mode: full if this server is to give addresses", "dhcp6.subnets has no meaning with mode %s", cmp.Or(c.DHCP6.Mode, ModeOff))
	}
	for i, r := range c.DHCP6.Relays {
		if !r.Is6() {
			k.add(fmt.Sprintf("dhcp6.relays[%d]", i), "relays of IPv4 are under dhcp", "dhcp6.relays[%d] is %s: not an IPv6 address", i, r)
		}
	}
	for i, s := range c.DHCP6.Subnets {
		at := fmt.Sprintf("dhcp6.subnets[%d]", i)
		if s.Subnet.IsValid() && !s.Subnet.Addr().Is6() {
			k.add(at+".subnet", "IPv4 is under dhcp", "%s.subnet is %s: not an IPv6 subnet", at, s.Subnet)
			continue
		}
		for j, other := range c.DHCP6.Subnets[:i] {
			if s.Subnet.IsValid() && other.Subnet.IsValid() && s.Subnet.Overlaps(other.Subnet.Prefix) {
				k.add(at+".subnet", "", "%s.subnet is %s, which overlaps dhcp6.subnets[%d], %s", at, s.Subnet, j, other.Subnet)
			}
		}
		k.pool(at+".pool", s.Pool, s.Subnet)
		k.lease(at+".lease", s.Lease)
		for j, a := range s.DNS {
			if a.IsValid() && !a.Is6() {
				k.add(fmt.Sprintf("%s.dns[%d]", at, j), "DHCPv6 carries IPv6 addresses only", "%s.dns[%d] is %s: not an IPv6 address", at, j, a)
			}
		}
	}
}
