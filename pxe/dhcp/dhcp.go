// Package dhcp is DHCPv4 (RFC 2131) for machines that boot from the network: reading
// and writing messages, and the policy that answers them. It has two modes: Proxy names
// a boot file beside an existing DHCP server (PXE 2.1 section 2.2.3), Full gives
// addresses, too.
//
//	m, err := dhcp.Parse(datagram)
//	p := dhcp.Packet{Message: m, Link: "eth0", Local: addr, Port: dhcp.ServerPort}
//	look := config.Look(p)                      // who asks; is there anything to decide?
//	out := state.Step(&config, p, answer, now)  // what a Decider has answered
//	datagram, left := out.Reply.Message.Append(nil, out.Reply.Limit)
//
// It is pure: package dhcpd has the sockets, the clock and the file of leases.
//
// Limits: Ethernet only; no BOOTP without option 53; no authentication (RFC 3118), which
// nobody's firmware has; an address is not probed before it is offered, see Config.
package dhcp

import (
	"fmt"
	"net/netip"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// The ports.
const (
	ServerPort = 67
	ClientPort = 68
	BootPort   = 4011 // of a boot server, PXE 2.1 section 2.2.3
)

// MaxSize is how many bytes of a datagram are read at most. Clients send less than
// 1500; a relay agent adds at most 257.
const MaxSize = 4096

const (
	headerSize  = 236
	fixedSize   = headerSize + 4 // with the magic cookie
	minimumSize = 300            // RFC 1542 section 2.1: shorter ones were dropped by relays
	snameAt     = 44
	fileAt      = 108
	opRequest   = 1
	opReply     = 2
	ethernet    = 1 // htype
	broadcast   = 0x8000
)

var cookie = [4]byte{99, 130, 83, 99}

// Type is the message type of option 53.
type Type byte

// The message types of RFC 2132 section 9.6.
const (
	Discover Type = 1
	Offer    Type = 2
	Request  Type = 3
	Decline  Type = 4
	Ack      Type = 5
	Nak      Type = 6
	Release  Type = 7
	Inform   Type = 8
)

var typeNames = [...]string{"no type", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"}

// String is the name without its DHCP.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Message is a DHCPv4 message (RFC 2131 section 2). An address that is all zero there is
// the zero Addr here.
type Message struct {
	Op       byte // 1 from a client, 2 from a server
	HType    byte // 1 is Ethernet
	HLen     byte // bytes of Hardware, at most 16
	Hops     byte
	XID      uint32
	Secs     uint16
	Flags    uint16     // 0x8000: answer by broadcast
	Client   netip.Addr // ciaddr: that the client has
	Your     netip.Addr // yiaddr: that it is given
	Next     netip.Addr // siaddr: where its boot file is
	Relay    netip.Addr // giaddr: the agent that forwarded it
	Hardware [16]byte   // chaddr
	SName    string     // without what follows a NUL
	File     string
	Options  Options
}

// Type is the message type, 0 when there is none.
func (m *Message) Type() Type {
	if v := m.Options.Get(optType); len(v) == 1 {
		return Type(v[0])
	}
	return 0
}

// MAC is the client's address, zero when it is none of Ethernet.
func (m *Message) MAC() netboot.MAC {
	if m.HType != ethernet || m.HLen != 6 {
		return netboot.MAC{}
	}
	return netboot.MAC(m.Hardware[:6])
}

// addr is an option that holds one address.
func (m *Message) addr(code byte) netip.Addr {
	if v := m.Options.Get(code); len(v) == 4 {
		return getAddr(v)
	}
	return netip.Addr{}
}

func getAddr(b []byte) netip.Addr {
	a := netip.AddrFrom4([4]byte(b))
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

func putAddr(b []byte, a netip.Addr) {
	if a.Is4() {
		v := a.As4()
		copy(b, v[:])
	}
}
