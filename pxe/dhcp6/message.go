// Package dhcp6 is DHCPv6 (RFC 8415) as far as machines boot by it: the bytes of its
// messages, the boot options of RFC 5970, and the policy of a server as a function from a
// message to its answer. It writes router advertisements (RFC 4861), too, since firmware
// asks for an address only when one tells it to.
//
// Left out: prefix delegation, temporary addresses, authentication, reconfiguration,
// leasequery. A client that asks for those gets an answer without them.
//
//	p, err := dhcp6.ParsePacket(datagram)           // relays unwrapped, at most 8
//	c := dhcp6.Client(p, source)                    // who asks, for netboot.Decider
//	out := server.Answer(p, source, decision, now)  // nil: nothing is sent
//	n, err := conn.WriteTo(out.AppendBinary(nil), source)
package dhcp6

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Ports of DHCPv6 (RFC 8415 section 7.2), and the one on which firmware asks a boot
// server that is beside another DHCP server.
const (
	ClientPort = 546
	ServerPort = 547
	PXEPort    = 4011
)

// MaxRelays bounds how deep Relay-forward messages are nested. RFC 8415 section 7.6 has
// relays stop at a hop count of 8.
const MaxRelays = 8

// MaxSize bounds a datagram in bytes: as much as UDP over IPv6 without jumbograms carries.
const MaxSize = 65535

// maxOptions bounds the options of one message. Firmware sends 10.
const maxOptions = 256

// Type is a message type (RFC 8415 section 7.3).
type Type uint8

// The message types.
const (
	Solicit            Type = 1
	Advertise          Type = 2
	Request            Type = 3
	Confirm            Type = 4
	Renew              Type = 5
	Rebind             Type = 6
	Reply              Type = 7
	Release            Type = 8
	Decline            Type = 9
	Reconfigure        Type = 10
	InformationRequest Type = 11
	RelayForward       Type = 12
	RelayReply         Type = 13
)

var typeNames = [...]string{Solicit: "Solicit", Advertise: "Advertise", Request: "Request", Confirm: "Confirm", Renew: "Renew",
	Rebind: "Rebind", Reply: "Reply", Release: "Release", Decline: "Decline", Reconfigure: "Reconfigure",
	InformationRequest: "Information-request", RelayForward: "Relay-forward", RelayReply: "Relay-reply"}

// String is the type's name in RFC 8415.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("message type %d", uint8(t))
}

// Code is the code of an option.
type Code uint16

// The options that have a meaning here.
const (
	OptClientID    Code = 1   // RFC 8415 section 21.2
	OptServerID    Code = 2   // 21.3
	OptIANA        Code = 3   // 21.4
	OptIATA        Code = 4   // 21.5
	OptIAAddr      Code = 5   // 21.6
	OptRequest     Code = 6   // 21.7: the options a client wants
	OptPreference  Code = 7   // 21.8
	OptElapsed     Code = 8   // 21.9
	OptRelayMsg    Code = 9   // 21.10
	OptUnicast     Code = 12  // 21.12
	OptStatus      Code = 13  // 21.13
	OptRapidCommit Code = 14  // 21.14
	OptUserClass   Code = 15  // 21.15
	OptVendorClass Code = 16  // 21.16
	OptVendor      Code = 17  // 21.17
	OptInterfaceID Code = 18  // 21.18
	OptDNS         Code = 23  // RFC 3646 section 3
	OptIAPD        Code = 25  // RFC 8415 section 21.21
	OptRemoteID    Code = 37  // RFC 4649
	OptRefresh     Code = 32  // RFC 8415 section 21.23
	OptBootURL     Code = 59  // RFC 5970 section 3.1
	OptBootParam   Code = 60  // 3.2
	OptArch        Code = 61  // 3.3
	OptNII         Code = 62  // 3.4
	OptLinkLayer   Code = 79  // RFC 6939: a relay says the client's hardware address
	OptSolMaxRT    Code = 82  // RFC 8415 section 21.24
	OptRelayPort   Code = 135 // RFC 8357: the relay does not listen on 547
)

// Option is one option as it is on the wire.
type Option struct {
	Code Code
	Data []byte
}

// Options are options in the order of the message.
type Options []Option

// Get returns the data of the first option with a code.
func (o Options) Get(code Code) ([]byte, bool) {
	for _, opt := range o {
		if opt.Code == code {
			return opt.Data, true
		}
	}
	return nil, false
}

// Has reports whether an option is there.
func (o Options) Has(code Code) bool { _, ok := o.Get(code); return ok }

// AppendBinary appends the options' bytes to b.
func (o Options) AppendBinary(b []byte) []byte {
	for _, opt := range o {
		b = binary.BigEndian.AppendUint16(b, uint16(opt.Code))
		b = binary.BigEndian.AppendUint16(b, uint16(len(opt.Data)))
		b = append(b, opt.Data...)
	}
	return b
}

// Message is what client and server say to each other (RFC 8415 section 8).
type Message struct {
	Type          Type
	TransactionID [3]byte
	Options       Options
}

// Relay is the header of a relay (RFC 8415 section 9) without the message in it.
type Relay struct {
	Hops    uint8
	Link    netip.Addr // of the link where the client is; may be unspecified
	Peer    netip.Addr // from whom the relay had the message
	Options Options    // all but the message
}

// Packet is a datagram: a message, and the relays it came through, or goes back
// through, the one nearest to the server first.
type Packet struct {
	Relays  []Relay
	Message Message
}

// FormatError says where a datagram cannot be read.
type FormatError struct {
	Off   int // bytes from its start
	Field string
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("read DHCPv6 message: byte %d: %s: %s", e.Off, e.Field, e.Msg)
}

// ParsePacket reads a datagram. The packet refers to b. Relay messages other than
// Relay-forward and Relay-reply, mixed ones and more than MaxRelays are an error.
func ParsePacket(b []byte) (Packet, error) {
	var p Packet
	var outer Type
	for off := 0; ; {
		if len(b) == 0 {
			return p, &FormatError{off, "message type", "missing"}
		}
		t := Type(b[0])
		if t != RelayForward && t != RelayReply {
			m, err := parseMessage(b, off)
			p.Message = m
			return p, err
		}
		switch {
		case len(p.Relays) == MaxRelays:
			return p, &FormatError{off, "relay", fmt.Sprintf("more than %d of them", MaxRelays)}
		case len(p.Relays) > 0 && t != outer:
			return p, &FormatError{off, "relay", fmt.Sprintf("%s in %s", t, outer)}
		}
		outer = t
		r, inner, at, err := parseRelay(b, off)
		if err != nil {
			return p, err
		}
		p.Relays = append(p.Relays, r)
		b, off = inner, at
	}
}

func parseMessage(b []byte, off int) (Message, error) {
	if len(b) < 4 {
		return Message{}, &FormatError{off, "transaction id", "cut off"}
	}
	o, err := parseOptions(b[4:], off+4)
	return Message{Type: Type(b[0]), TransactionID: [3]byte(b[1:4]), Options: o}, err
}

const relayHeader = 34 // type, hops, two addresses

func parseRelay(b []byte, off int) (r Relay, inner []byte, at int, err error) {
	if len(b) < relayHeader {
		return r, nil, 0, &FormatError{off, "relay header", "cut off"}
	}
	r.Hops, r.Link, r.Peer = b[1], netip.AddrFrom16([16]byte(b[2:18])), netip.AddrFrom16([16]byte(b[18:34]))
	all, err := parseOptions(b[relayHeader:], off+relayHeader)
	if err != nil {
		return r, nil, 0, err
	}
	next := off + relayHeader
	for _, o := range all {
		if o.Code != OptRelayMsg {
			r.Options = append(r.Options, o)
		} else if inner == nil {
			inner, at = o.Data, next+4
		}
		next += 4 + len(o.Data)
	}
	if inner == nil {
		return r, nil, 0, &FormatError{off, "relay message option", "missing"}
	}
	return r, inner, at, nil
}

// ParseOptions reads options that follow each other, as in a message or in an IA_NA.
func ParseOptions(b []byte) (Options, error) { return parseOptions(b, 0) }

func parseOptions(b []byte, off int) (Options, error) {
	var out Options
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, &FormatError{off, "option header", "cut off"}
		}
		code, n := Code(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
		if len(b)-4 < n {
			return nil, &FormatError{off, fmt.Sprintf("option %d", code), fmt.Sprintf("%d bytes, %d are left", n, len(b)-4)}
		}
		if len(out) == maxOptions {
			return nil, &FormatError{off, "options", fmt.Sprintf("more than %d", maxOptions)}
		}
		out = append(out, Option{code, b[4 : 4+n : 4+n]})
		b, off = b[4+n:], off+4+n
	}
	return out, nil
}

// AppendBinary appends the datagram to b: Relay-reply around a message that a server
// sends, Relay-forward around one of a client.
func (p Packet) AppendBinary(b []byte) []byte {
	msg := append([]byte{byte(p.Message.Type)}, p.Message.TransactionID[:]...)
	msg = p.Message.Options.AppendBinary(msg)
	outer := RelayForward
	if p.Message.Type == Advertise || p.Message.Type == Reply || p.Message.Type == Reconfigure {
		outer = RelayReply
	}
	for i := len(p.Relays) - 1; i >= 0; i-- {
		msg = p.Relays[i].wrap(outer, msg)
	}
	return append(b, msg...)
}

func (r Relay) wrap(t Type, msg []byte) []byte {
	link, peer := as16(r.Link), as16(r.Peer)
	out := append([]byte{byte(t), r.Hops}, link[:]...)
	out = append(out, peer[:]...)
	out = r.Options.AppendBinary(out)
	return Options{{OptRelayMsg, msg}}.AppendBinary(out)
}

// as16 is the address, the unspecified one for none.
func as16(a netip.Addr) [16]byte {
	if !a.IsValid() {
		return [16]byte{}
	}
	return a.As16()
}
