package dhcp6

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Intel is the enterprise number with which firmware sends, and wants, the vendor classes
// PXEClient and HTTPClient (UEFI 2.10 section 24.3.1 and 24.7.3.3).
const Intel = 343

const maxClass = 255 // bytes of a vendor class that are looked at

// Client is the machine that sent a packet, as it describes itself. source is the
// datagram's.
//
// Its hardware address is what a relay says of it (option 79), else what its link-local
// address was made from, else that in its DUID: the first two are of the port that asks,
// a DUID is of the machine and may name another port.
func Client(p Packet, source netip.Addr) netboot.Client {
	o := p.Message.Options
	duid, _ := o.Get(OptClientID)
	c := netboot.Client{Arch: arch(o), Class: class(o), IPXE: hasUserClass(o, "iPXE"), MAC: mac(p, source.WithZone(""), duid)}
	c.Init = c.Class == "ingot"
	c.UUID = DUID(duid).UUID(isFirmware(c.Class) && !c.IPXE)
	if n := len(p.Relays); n > 0 {
		near := p.Relays[n-1]
		c.Relay = link(p)
		id, _ := near.Options.Get(OptInterfaceID)
		remote, _ := near.Options.Get(OptRemoteID)
		c.CircuitID, c.RemoteID = bytes.Clone(id), bytes.Clone(remote) // they outlive the datagram
		c.Addr = near.Peer
		return c
	}
	c.Addr = source.WithZone("")
	return c
}

// Link is the address that names the client's link: that of the relay nearest to the
// client which says one (RFC 8415 section 13.1); the zero Addr on our own link.
func link(p Packet) netip.Addr {
	for i := len(p.Relays) - 1; i >= 0; i-- {
		if a := p.Relays[i].Link; a.IsValid() && !a.IsUnspecified() {
			return a
		}
	}
	return netip.Addr{}
}

func mac(p Packet, source netip.Addr, duid DUID) netboot.MAC {
	if n := len(p.Relays); n > 0 {
		near := p.Relays[n-1]
		if b, ok := near.Options.Get(OptLinkLayer); ok && len(b) == 8 && binary.BigEndian.Uint16(b) == ethernet {
			return netboot.MAC(b[2:])
		}
		source = near.Peer
	}
	if m, ok := eui64(source); ok {
		return m
	}
	m, _ := duid.MAC()
	return m
}

// arch is the first architecture in the list that has a meaning: RFC 5970 section 3.3
// wants the most preferred first.
func arch(o Options) netboot.Arch {
	b, ok := o.Get(OptArch)
	if !ok || len(b) < 2 || len(b)%2 != 0 {
		return netboot.Unknown
	}
	for i := 0; i < len(b); i += 2 {
		if a := netboot.Arch(binary.BigEndian.Uint16(b[i:])); a.Known() {
			return a
		}
	}
	return netboot.Arch(binary.BigEndian.Uint16(b))
}

// class is the first text of the vendor class, whoever's number it has.
func class(o Options) string {
	b, ok := o.Get(OptVendorClass)
	if !ok || len(b) < 6 {
		return ""
	}
	texts := strings16(b[4:])
	if len(texts) == 0 {
		return ""
	}
	return texts[0][:min(len(texts[0]), maxClass)]
}

func isFirmware(class string) bool {
	return strings.HasPrefix(class, "PXEClient") || strings.HasPrefix(class, "HTTPClient")
}

func hasUserClass(o Options, want string) bool {
	b, _ := o.Get(OptUserClass)
	for _, s := range strings16(b) {
		if s == want {
			return true
		}
	}
	return false
}

// strings16 reads texts that have their length in two bytes before them, as far as that
// can be read.
func strings16(b []byte) (out []string) {
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if len(b)-2 < n {
			return out
		}
		out = append(out, string(b[2:2+n]))
		b = b[2+n:]
	}
	return out
}

// VendorClass is option 16 with one text.
func VendorClass(enterprise uint32, text string) Option {
	b := binary.BigEndian.AppendUint32(nil, enterprise)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return Option{OptVendorClass, append(b, text...)}
}
