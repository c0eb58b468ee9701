package dhcp6

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Types of ICMPv6 messages (RFC 4861 sections 4.1 and 4.2).
const (
	ICMPRouterSolicitation  = 133
	ICMPRouterAdvertisement = 134
)

// Advertisement is a router advertisement (RFC 4861 section 4.2). Its sender needs not be
// a router: with a lifetime of 0 nobody sends packets by it, and it says no more than how
// addresses are had. Firmware asks by DHCPv6 for an address when Managed is set, for boot
// options alone when Other is.
type Advertisement struct {
	HopLimit uint8         // of packets that hosts send; 0: not said
	Managed  bool          // M: addresses by DHCPv6
	Other    bool          // O: everything else by DHCPv6
	Lifetime time.Duration // as a default router, whole seconds up to 65535; 0: it is none
	MAC      netboot.MAC   // of the sender; zero: not said
	MTU      uint32        // of the link in bytes; 0: not said
	Prefixes []Prefix
	DNS      []netip.Addr // RFC 8106; for as long as the longest interval, 1800 s, three times
}

// Prefix is a prefix of the link (RFC 4861 section 4.6.2).
type Prefix struct {
	Prefix           netip.Prefix
	OnLink           bool          // L: these addresses are on the link
	Autonomous       bool          // A: hosts may make their own addresses of it
	Valid, Preferred time.Duration // whole seconds
}

// AppendBinary appends the ICMPv6 message to b. Its checksum is zero: the kernel fills it
// in on a raw ICMPv6 socket (RFC 3542 section 3.1).
func (a Advertisement) AppendBinary(b []byte) []byte {
	var flags byte
	if a.Managed {
		flags |= 0x80
	}
	if a.Other {
		flags |= 0x40
	}
	b = append(b, ICMPRouterAdvertisement, 0, 0, 0, a.HopLimit, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(min(max(a.Lifetime/time.Second, 0), 65535)))
	b = append(b, make([]byte, 8)...) // reachable and retransmission time: not said
	if !a.MAC.IsZero() {
		b = append(append(b, 1, 1), a.MAC[:]...)
	}
	if a.MTU != 0 {
		b = binary.BigEndian.AppendUint32(append(b, 5, 1, 0, 0), a.MTU)
	}
	for _, p := range a.Prefixes {
		b = p.append(b)
	}
	if n := min(len(a.DNS), 127); n > 0 {
		b = binary.BigEndian.AppendUint32(append(b, 25, byte(1+2*n), 0, 0), 3*1800)
		for _, d := range a.DNS[:n] {
			x := as16(d)
			b = append(b, x[:]...)
		}
	}
	return b
}

func (p Prefix) append(b []byte) []byte {
	var flags byte
	if p.OnLink {
		flags |= 0x80
	}
	if p.Autonomous {
		flags |= 0x40
	}
	addr := as16(p.Prefix.Masked().Addr())
	b = append(b, 3, 4, byte(p.Prefix.Bits()), flags)
	b = appendSeconds(appendSeconds(b, p.Valid), p.Preferred)
	return append(append(b, 0, 0, 0, 0), addr[:]...)
}

// IsSolicitation reports whether an ICMPv6 message is a router solicitation that RFC 4861
// section 6.1.1 lets a router answer. Address and hop limit are those of its IP header; a
// hop limit below 255 means that it came from another link.
func IsSolicitation(b []byte, source netip.Addr, hopLimit int) bool {
	if len(b) < 8 || b[0] != ICMPRouterSolicitation || b[1] != 0 || hopLimit != 255 {
		return false
	}
	for o := b[8:]; len(o) > 0; {
		if len(o) < 8 || o[1] == 0 || len(o) < int(o[1])*8 {
			return false
		}
		if o[0] == 1 && source.IsUnspecified() {
			return false
		}
		o = o[int(o[1])*8:]
	}
	return true
}
