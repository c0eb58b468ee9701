package machine

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

// CheckNetwork applies the rules that need more than one value: addresses,
// gateways inside their subnet, links matched twice. at is the path of the
// list in the document: recipes and machine files share these rules.
func CheckNetwork(doc *strictyaml.Document, at string, links []appliance.Interface) strictyaml.Errors {
	n := &network{doc: doc}
	for i := range links {
		n.link(fmt.Sprintf("%s[%d]", at, i), &links[i])
	}
	n.overlaps(at, links)
	return n.errs
}

type network struct {
	doc  *strictyaml.Document
	errs strictyaml.Errors
}

func (n *network) add(path, hint, format string, args ...any) {
	n.errs = append(n.errs, n.doc.Errorf(path, hint, format, args...))
}

func (n *network) link(at string, l *appliance.Interface) {
	var nets []netip.Prefix
	for i, a := range l.Address {
		if p, ok := n.prefix(fmt.Sprintf("%s.address[%d]", at, i), a); ok {
			nets = append(nets, p)
		}
	}
	n.gateway(at, l, nets)
	for i, d := range l.DNS {
		n.dns(fmt.Sprintf("%s.dns[%d]", at, i), d)
	}
	if !l.DHCP && !l.RA && len(l.Address) == 0 && l.Bond == nil && l.VLAN == 0 {
		n.add(at, "add dhcp: true or address: [192.0.2.10/24]", "%s configures nothing: no dhcp, ra or address", at)
	}
	n.mtu(at, l)
	n.match(at, l)
}

// prefix checks one address with its prefix length.
func (n *network) prefix(at, text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		n.add(at, fmt.Sprintf("write %s/%d, or the length of your subnet", text, map[bool]int{true: 24, false: 64}[a.Is4()]), "%s is %q: an address without prefix length", at, text)
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		n.add(at, `want "192.0.2.10/24" or "2001:db8::10/64"`, "%s is %q: not an address with prefix length", at, text)
	case p.Bits() == 0:
		n.add(at, "use the prefix length of the subnet, such as /24", "%s is %q: a prefix length of 0 covers the whole internet", at, text)
	case p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().IsLoopback():
		n.add(at, "use the machine's own unicast address", "%s is %q: not an address a link can have", at, text)
	case p.Addr().Is4() && p.Bits() < 31 && (p.Addr() == p.Masked().Addr() || p.Addr() == lastAddr(p)):
		n.add(at, fmt.Sprintf("use an address between %s and %s", p.Masked().Addr().Next(), lastAddr(p).Prev()), "%s is %q: the network or broadcast address of its subnet", at, text)
	default:
		return p, true
	}
	return p, false
}

// lastAddr is the broadcast address of an IPv4 prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

func (n *network) gateway(at string, l *appliance.Interface, nets []netip.Prefix) {
	if l.Gateway == "" {
		return
	}
	at += ".gateway"
	gw, err := netip.ParseAddr(l.Gateway)
	if err != nil {
		n.add(at, `want an address such as "192.0.2.1"`, "%s is %q: not an address", at, l.Gateway)
		return
	}
	if len(l.Address) == 0 {
		n.add(at, "add address:, or remove gateway: and let DHCP provide it", "%s is given without a static address", at)
		return
	}
	if gw.Is6() && gw.IsLinkLocalUnicast() {
		return // a router's usual IPv6 address, on every link
	}
	for _, p := range nets {
		if p.Addr() == gw {
			n.add(at, "use the router's address", "%s is %s: the machine's own address", at, gw)
			return
		}
		if p.Contains(gw) {
			return
		}
	}
	if len(nets) == len(l.Address) {
		n.add(at, fmt.Sprintf("the gateway must be reachable from %s: check the address and its prefix length", strings.Join(l.Address, ", ")), "%s is %s: outside every subnet of this link", at, gw)
	}
}

func (n *network) dns(at, text string) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		n.add(at, `want an address such as "192.0.2.53": a name cannot be resolved before there is a resolver`, "%s is %q: not an address", at, text)
	case a.IsUnspecified() || a.IsMulticast():
		n.add(at, "use the resolver's unicast address", "%s is %q: no resolver can answer there", at, text)
	}
}

// mtu knows the floor of IPv6 (RFC 8200 section 5).
func (n *network) mtu(at string, l *appliance.Interface) {
	if l.MTU == 0 || l.MTU >= 1280 {
		return
	}
	six := l.RA
	for _, a := range l.Address {
		six = six || strings.Contains(a, ":")
	}
	if six {
		n.add(at+".mtu", "use 1280 or more", "%s.mtu is %d: IPv6 needs at least 1280", at, l.MTU)
	}
}

func (n *network) match(at string, l *appliance.Interface) {
	if _, err := path.Match(l.Match.Name, ""); err != nil {
		n.add(at+".match.name", "use * and ? and [a-z]", "%s.match.name is %q: not a pattern", at, l.Match.Name)
	}
	if _, err := path.Match(l.Match.Path, ""); err != nil {
		n.add(at+".match.path", "use * and ? and [a-z]", "%s.match.path is %q: not a pattern", at, l.Match.Path)
	}
	if l.Bond != nil && l.Match.MAC != "" {
		n.add(at+".match.mac", "match the members by driver, name pattern or path", "%s joins links into a bond but its match picks one MAC", at)
	}
	if l.Match.Name == "lo" {
		n.add(at+".match.name", "remove this entry: the loopback link is always up", "%s matches the loopback link", at)
	}
}

// overlaps finds entries of which the second can never get a link, and
// addresses given twice.
func (n *network) overlaps(at string, links []appliance.Interface) {
	byMatch, byAddr, byBond := map[string]int{}, map[string]int{}, map[string]int{}
	for i, l := range links {
		here := fmt.Sprintf("%s[%d]", at, i)
		key := fmt.Sprintf("%v/%d", appliance.Match{Name: l.Match.Name, MAC: strings.ToLower(l.Match.MAC), Driver: l.Match.Driver, Path: l.Match.Path}, l.VLAN)
		if first, ok := byMatch[key]; ok {
			n.add(here, "merge the two entries or give them different match: values", "%s matches the same links as %s[%d]", here, at, first)
		} else {
			byMatch[key] = i
		}
		for j, a := range l.Address {
			host, _, _ := strings.Cut(a, "/")
			if first, ok := byAddr[host]; ok {
				n.add(fmt.Sprintf("%s.address[%d]", here, j), "give each link its own address", "address %s is given twice, first in %s[%d]", host, at, first)
			} else {
				byAddr[host] = i
			}
		}
		if l.Bond == nil {
			continue
		}
		if first, ok := byBond[l.Bond.Name]; ok {
			n.add(here+".bond.name", "give each bond its own name", "bond %s is made twice, first in %s[%d]", l.Bond.Name, at, first)
		} else {
			byBond[l.Bond.Name] = i
		}
	}
}

// CheckServers checks a list of NTP servers: names or addresses, no ports.
func CheckServers(doc *strictyaml.Document, at string, servers []string) strictyaml.Errors {
	n := &network{doc: doc}
	seen := map[string]bool{}
	for i, s := range servers {
		here := fmt.Sprintf("%s[%d]", at, i)
		if _, err := netip.ParseAddr(s); err != nil && !isHost(s) {
			n.add(here, `want a name or address such as "pool.ntp.org"; the port is always 123`, "%s is %q: not a host", here, s)
		}
		if seen[s] {
			n.add(here, "remove one", "%s is given twice in %s", s, at)
		}
		seen[s] = true
	}
	return n.errs
}

// isHost accepts RFC 1123 names.
func isHost(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

// CheckServer checks the base address of a server at a path of the document.
// Only https is one: what a machine is told is as good as the server's key.
func CheckServer(doc *strictyaml.Document, at, server string) strictyaml.Errors {
	if server == "" {
		return nil
	}
	u, err := url.Parse(server)
	bad := ""
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https":
		bad = "not an https address"
	case u.User != nil:
		bad = "a password in a file that is shown in /v1/status"
	case u.RawQuery != "" || u.Fragment != "":
		bad = "a base address has no query or fragment"
	default:
		return nil
	}
	n := &network{doc: doc}
	n.add(at, `want "https://ingot.example.com"`, "%s is %q: %s", at, server, bad)
	return n.errs
}
