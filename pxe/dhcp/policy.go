package dhcp

import (
	"net/netip"
	"slices"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// network is a Subnet with what is looked up at each message.
type network struct {
	*Subnet
	byMAC  map[netboot.MAC]Reservation
	byPort map[Port]Reservation
	kept   map[netip.Addr]bool // reserved, for anybody
}

// Policy is a configuration that has been checked.
type Policy struct {
	Config
	networks []*network
}

// Compile checks a configuration.
func Compile(c Config) (*Policy, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	p := &Policy{Config: c}
	p.Mode = c.mode()
	for i := range c.Subnets {
		n := &network{&c.Subnets[i], map[netboot.MAC]Reservation{}, map[Port]Reservation{}, map[netip.Addr]bool{}}
		for _, r := range n.Reservations {
			n.kept[r.Addr] = true
			if r.MAC.IsZero() {
				n.byPort[r.Port] = r
			} else {
				n.byMAC[r.MAC] = r
			}
		}
		p.networks = append(p.networks, n)
	}
	return p, nil
}

// Pooled is how many addresses the pools have together.
func (p *Policy) Pooled() (n int) {
	for _, x := range p.networks {
		n += x.total()
	}
	return n
}

// at is the network that an address is of.
func (p *Policy) at(a netip.Addr) *network {
	for _, n := range p.networks {
		if n.Prefix.Contains(a) {
			return n
		}
	}
	return nil
}

// reserved is the reservation of a client: the machine's own before that of its port, and
// of ports the one that is named most closely. An id that a client lacks is no id: "" of a
// reservation is "may be anything".
func (n *network) reserved(c netboot.Client, port bool) (Reservation, bool) {
	r, ok := n.byMAC[c.MAC]
	if ok || !port {
		return r, ok
	}
	at := Port{string(c.CircuitID), string(c.RemoteID)}
	for _, p := range []Port{at, {Circuit: at.Circuit}, {Remote: at.Remote}} {
		if r, ok := n.byPort[p]; ok { // none is of Port{}
			return r, true
		}
	}
	return Reservation{}, false
}

// usable reports whether a client may have an address, whoever has it now: its own
// reserved one, or one of the pools that is nobody's. Those of the server itself, on
// whatever link, are nobody else's.
func (n *network) usable(a netip.Addr, w want) bool {
	if w.own(a) {
		return false
	}
	if r, ok := n.reserved(w.client, w.port); ok && r.Addr == a {
		return true
	}
	return n.pooled(a) && !n.kept[a] && !slices.Contains(n.Router, a)
}

// pooled reports whether an address is in a pool.
func (s *Subnet) pooled(a netip.Addr) bool {
	return slices.ContainsFunc(s.Pools, func(r Range) bool { return !a.Less(r.From) && !r.To.Less(a) })
}

// total is how many addresses the pools have.
func (s *Subnet) total() (n int) {
	for _, r := range s.Pools {
		n += r.size()
	}
	return n
}

func (r Range) size() int { return int(number(r.To)-number(r.From)) + 1 }

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// last is the broadcast address.
func last(p netip.Prefix) netip.Addr {
	return address(number(p.Addr()) | 1<<(32-p.Bits()) - 1)
}

// mask is the subnet mask.
func mask(p netip.Prefix) netip.Addr { return address(^uint32(0) << (32 - p.Bits())) }
