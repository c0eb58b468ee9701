package dhcp6

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Kinds of DUID (RFC 8415 section 11, RFC 6355).
const (
	duidLLT  = 1
	duidEN   = 2
	duidLL   = 3
	duidUUID = 4
)

// Bounds of a DUID in bytes, with its type (RFC 8415 section 11.1).
const (
	minDUID = 3
	maxDUID = 130
)

const ethernet = 1 // hardware type (IANA ARP parameters)

// DUID identifies a client or a server, as it is on the wire.
type DUID []byte

// ServerDUID is the identifier of a server: its link-layer address without a time, so
// that it is the same after each start and nothing has to be kept.
func ServerDUID(m netboot.MAC) DUID {
	return append(DUID{0, duidLL, 0, ethernet}, m[:]...)
}

// Valid reports whether the length is one that RFC 8415 allows.
func (d DUID) Valid() bool { return len(d) >= minDUID && len(d) <= maxDUID }

// String is the identifier in hex.
func (d DUID) String() string { return hex.EncodeToString(d) }

// MAC is the Ethernet address in the identifier. It is that of some port of the machine,
// not always of the one that asks.
func (d DUID) MAC() (netboot.MAC, bool) {
	switch {
	case len(d) == 14 && d.kind() == duidLLT && binary.BigEndian.Uint16(d[2:]) == ethernet:
		return netboot.MAC(d[8:14]), true
	case len(d) == 10 && d.kind() == duidLL && binary.BigEndian.Uint16(d[2:]) == ethernet:
		return netboot.MAC(d[4:10]), true
	}
	return netboot.MAC{}, false
}

func (d DUID) kind() uint16 {
	if len(d) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(d)
}

// UUID is the machine's UUID as dmidecode prints it; "" when the identifier has none, or
// one of all zeros or all ones, which boards without a UUID have. RFC 6355 wants network
// order; UEFI firmware sends the bytes of its SMBIOS table, whose first three fields are
// little endian. firmware says that the client is one of those.
func (d DUID) UUID(firmware bool) string {
	if len(d) != 18 || d.kind() != duidUUID {
		return ""
	}
	u := [16]byte(d[2:])
	same := true
	for _, x := range u {
		same = same && x == u[0]
	}
	if same && (u[0] == 0 || u[0] == 0xff) {
		return ""
	}
	if firmware {
		u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
		u[4], u[5], u[6], u[7] = u[5], u[4], u[7], u[6]
	}
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// eui64 is the hardware address that a link-local address was made from (RFC 4291
// appendix A); false for an address that was made otherwise (RFC 7217, RFC 8981).
func eui64(a netip.Addr) (netboot.MAC, bool) {
	if !a.Is6() || !a.IsLinkLocalUnicast() {
		return netboot.MAC{}, false
	}
	b := a.As16()
	if b[11] != 0xff || b[12] != 0xfe {
		return netboot.MAC{}, false
	}
	m := netboot.MAC{b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]}
	return m, m[0]&1 == 0 && !m.IsZero() // a group address is nobody's
}
