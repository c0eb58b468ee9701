package dhcp

import (
	"fmt"
	"net/netip"
	"slices"
)

var everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Packet is a message and how it came.
type Packet struct {
	Message Message
	From    netip.AddrPort
	To      netip.Addr // that it was sent to: the server's, or a broadcast address
	Port    uint16     // of the server that heard it: ServerPort or BootPort
	Link    string     // interface that heard it
	Local   netip.Addr // the server's address on Link, by which it calls itself
	// Own are all addresses of the server: a client may name any of them.
	Own []netip.Addr
	// Nets are the networks of Link.
	Nets []netip.Prefix
}

// near reports whether an address is of the link that heard the message.
func (q *Packet) near(a netip.Addr) bool {
	return slices.ContainsFunc(q.Nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (q *Packet) relayed() bool { return q.Message.Relay.IsValid() && q.Port != BootPort }

func (q *Packet) isOwn(a netip.Addr) bool { return a == q.Local || slices.Contains(q.Own, a) }

// broadcast reports whether a message went to everybody on the link.
func (q *Packet) broadcast() bool { return !q.isOwn(q.To) }

// checkRelay refuses a giaddr that no relay agent of this server has: an answer goes there, so
// whoever forges it could send offers to any machine, or take addresses of any subnet.
func (p *Policy) checkRelay(q *Packet) error {
	g := q.Message.Relay
	if !q.relayed() {
		return nil
	}
	if q.isOwn(g) {
		return fmt.Errorf("relay agent %s is an address of this server", g)
	}
	if slices.ContainsFunc(p.Relays, func(r netip.Prefix) bool { return r.Contains(g) }) {
		return nil
	}
	if len(p.Relays) == 0 && p.Mode == Full {
		if n := p.at(g); n != nil && n.host(g) {
			return nil
		}
	}
	return fmt.Errorf("relay agent %s (giaddr) is not one of this server's; from %s", g, q.From)
}

// network is the subnet whose addresses a client gets: what the relay agent names (RFC 3527
// before RFC 3011), or where the agent is; for a unicast renewal where the client is; else
// the own link's. A client that has no relay agent cannot choose.
func (p *Policy) network(q *Packet) *network {
	m := &q.Message
	if q.relayed() {
		if v := sub(m.Options.Get(optRelayInfo), relayLink, false); len(v) == 4 {
			return p.at(getAddr(v))
		}
		if a := m.addr(optSubnetSelect); a.IsValid() {
			return p.at(a)
		}
		return p.at(m.Relay)
	}
	if m.Client.IsValid() && !q.broadcast() {
		return p.at(m.Client)
	}
	return p.at(q.Local)
}

// destination is where an answer goes (RFC 2131 section 4.1). Deviation: to a client
// without an address it is broadcast, whatever its flag says: unicast would need a raw
// socket, or the right to write the ARP table.
func (q *Packet) destination(r *Message) netip.AddrPort {
	switch {
	case q.Port == BootPort && q.From.Addr().Is4() && !q.From.Addr().IsUnspecified():
		return q.From
	case q.relayed():
		return netip.AddrPortFrom(q.Message.Relay, ServerPort)
	case r.Client.IsValid() && r.Type() != Nak:
		return netip.AddrPortFrom(r.Client, ClientPort)
	}
	return netip.AddrPortFrom(everybody, ClientPort)
}

// reply begins an answer: what RFC 2131 table 3 copies, and what the client or its relay
// agent wants back as it was (RFC 6842, 4578 section 2.3, 3046 section 2.2). A switch that is
// trusted finds the port by it and takes it away again; from others it is the client's word.
func (q *Packet) reply(t Type, trusted bool) *Message {
	m := &q.Message
	r := &Message{Op: opReply, HType: m.HType, HLen: m.HLen, XID: m.XID, Flags: m.Flags, Relay: m.Relay, Hardware: m.Hardware}
	r.Options.Set(optType, []byte{byte(t)})
	r.Options.setAddrs(optServer, q.Local)
	for _, code := range []byte{optClientID, optUUID, optRelayInfo} {
		if v := m.Options.Get(code); v != nil && (code != optRelayInfo || q.relayed() || trusted) {
			r.Options.Set(code, v)
		}
	}
	return r
}
