package dhcpd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/pxe/dhcp"
)

// socket is a port on a link.
type socket struct {
	link  string
	is    uint16 // dhcp.ServerPort or dhcp.BootPort, whatever number it is bound to
	bound uint16
	conn  *net.UDPConn
}

// listen binds a port on one link alone. Beside another server of the same host the port is
// shared; a server that gives addresses shares it with nobody, or two would give the same.
func listen(name string, is, bind uint16, share bool) (*socket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) { err = prepare(int(fd), name, share) })
		return errors.Join(cerr, err)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", bind))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("bind udp port %d on %s: %w: another DHCP server runs on this host (ss -ulpn 'sport = :%d'); stop it, or take mode proxy if it allows others beside it", bind, name, err, bind)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return nil, fmt.Errorf("bind udp port %d on %s: %w: it needs root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW", bind, name, err)
	case err != nil:
		return nil, fmt.Errorf("bind udp port %d on %s: %w", bind, name, err)
	}
	conn := c.(*net.UDPConn)
	return &socket{name, is, bind, conn}, nil
}

func prepare(fd int, name string, share bool) error {
	if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name); err != nil {
		return fmt.Errorf("bind to link %s: %w", name, err)
	}
	// What the kernel allows without CAP_NET_ADMIN, net.core.rmem_max, is 208 KiB: some 300
	// questions. A hall that is switched on asks thousands at once.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if share {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// destination is the address that a datagram was sent to, out of its IP_PKTINFO.
func destination(oob []byte) netip.Addr {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return netip.Addr{}
		}
		if h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo {
			return netip.AddrFrom4([4]byte(data[8:12]))
		}
		oob = rest
	}
	return netip.Addr{}
}

// source makes a datagram leave with an address: a host may have several on a link, and
// clients take answers only from the one that they know.
func source(from netip.Addr) []byte {
	b := make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(unix.SizeofInet4Pktinfo)))
	binary.NativeEndian.PutUint32(b[8:], unix.IPPROTO_IP)
	binary.NativeEndian.PutUint32(b[12:], unix.IP_PKTINFO)
	v := from.As4()
	copy(b[unix.CmsgLen(0)+4:], v[:]) // ipi_spec_dst
	return b
}

// link is an interface with its addresses.
type link struct {
	local netip.Addr
	addrs []netip.Prefix // with the host's own address
}

func readLinks(names []string, p *dhcp.Policy) (map[string]link, error) {
	out := map[string]link{}
	for _, name := range names {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("listen for dhcp: no link %q: %w", name, err)
		}
		list, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("read addresses of %s: %w", name, err)
		}
		l := link{}
		for _, a := range list {
			if n, err := netip.ParsePrefix(a.String()); err == nil && n.Addr().Is4() {
				l.addrs = append(l.addrs, n)
			}
		}
		if l.local = choose(l.addrs, p); !l.local.IsValid() {
			return nil, fmt.Errorf("listen for dhcp: %s has no IPv4 address: give it one, clients must know where the answer is from", name)
		}
		out[name] = l
	}
	return out, nil
}

// choose takes the address that lies in a subnet of the configuration, else the first.
func choose(addrs []netip.Prefix, p *dhcp.Policy) (local netip.Addr) {
	for _, a := range addrs {
		for _, n := range p.Subnets {
			if n.Prefix.Contains(a.Addr()) {
				return a.Addr()
			}
		}
	}
	if len(addrs) > 0 {
		local = addrs[0].Addr()
	}
	return local
}

func (l link) has(a netip.Addr) bool {
	for _, p := range l.addrs {
		if p.Addr() == a {
			return true
		}
	}
	return false
}
