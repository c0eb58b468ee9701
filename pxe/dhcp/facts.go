package dhcp

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/pxe/netboot"
)

const (
	pxeClass  = "PXEClient"
	httpClass = "HTTPClient"
)

// kind is what speaks.
type kind int

const (
	other kind = iota // an operating system, a switch, a telephone
	pxe               // firmware that loads by TFTP, iPXE included
	http              // firmware that loads from a URL
	agent             // ingot-init
)

// kindOf goes by the vendor class: firmware that names an architecture without it does
// not know what to do with an answer either (PXE 2.1 section 2.2.1).
func kindOf(c netboot.Client) kind {
	switch {
	case c.Init:
		return agent
	case strings.HasPrefix(c.Class, httpClass):
		return http
	case strings.HasPrefix(c.Class, pxeClass), c.IPXE:
		return pxe
	}
	return other
}

// Facts is what a client says of itself.
func Facts(m *Message, link string) netboot.Client {
	class := m.Options.Get(optClass)
	c := netboot.Client{
		MAC: m.MAC(), UUID: uuid(m.Options.Get(optUUID)), Class: string(class[:min(len(class), 255)]),
		Addr: m.Client, Relay: m.Relay, Link: link,
	}
	c.Init = c.Class == netboot.InitClass
	c.IPXE = isIPXE(m.Options)
	c.Arch = arch(m.Options.Get(optArch), c.Class)
	info := m.Options.Get(optRelayInfo)
	c.CircuitID, c.RemoteID = sub(info, relayCircuit, false), sub(info, relayRemote, false)
	return c
}

// isIPXE takes the user class as iPXE sends it, bare, and as RFC 3004 wants it, with a
// length before it.
func isIPXE(o Options) bool {
	user := string(o.Get(optUserClass))
	return user == "iPXE" || user == "\x04iPXE" || o.Get(optIPXE) != nil
}

// uuid reads option 97: a zero, then the 16 bytes of the SMBIOS table, whose first three
// fields are little endian (SMBIOS section 7.2.1). Tools print them the other way round,
// and so does this.
func uuid(b []byte) string {
	if len(b) != 17 || b[0] != 0 {
		return ""
	}
	u := [16]byte(b[1:])
	if u == [16]byte{} || strings.Count(string(u[:]), "\xff") == 16 {
		return "" // boards whose maker has written none
	}
	u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7] = u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6]
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// arch reads option 93, a list in the order of the client's preference: the first that is
// known counts. Firmware from before RFC 4578 only has its vendor class,
// PXEClient:Arch:00000:UNDI:002001.
func arch(b []byte, class string) netboot.Arch {
	first := netboot.Unknown
	for i := 0; i+2 <= len(b); i += 2 {
		a := netboot.Arch(binary.BigEndian.Uint16(b[i:]))
		if a.Known() {
			return a
		}
		if first == netboot.Unknown {
			first = a
		}
	}
	if len(b) >= 2 {
		return first
	}
	if _, rest, ok := strings.Cut(class, ":Arch:"); ok && len(rest) >= 5 {
		if n, err := strconv.ParseUint(rest[:5], 10, 16); err == nil {
			return netboot.Arch(n)
		}
	}
	return netboot.Unknown
}
