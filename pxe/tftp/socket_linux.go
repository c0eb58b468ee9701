package tftp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listenBuffer holds the requests of a storm: with Linux's default of 208 KiB a
// thousand clients that start together lose hundreds of them, each for seconds.
const listenBuffer = 16 << 20

// Listen opens a socket for requests; link, if not empty, is the only interface that
// it hears. An unspecified IPv6 address hears IPv4, too. Port 69 takes root or
// CAP_NET_BIND_SERVICE.
func Listen(addr netip.AddrPort, link string) (*net.UDPConn, error) {
	network := "udp4"
	switch a := addr.Addr(); {
	case a.Is6() && a.IsUnspecified():
		network = "udp"
	case a.Is6():
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return prepare(c, link) }}
	conn, err := lc.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen for TFTP on %s: %w", addr, err)
	}
	return conn.(*net.UDPConn), nil
}

// control runs f on the descriptor of a connection.
func control(c syscall.RawConn, f func(fd int) error) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// prepare is called before a socket is bound, so that its first request is as the
// others. The port is shared with nobody (SO_REUSEADDR): of two sockets the kernel gives a
// request to the one of the narrower address, or to the last that was bound.
func prepare(c syscall.RawConn, link string) error {
	return control(c, func(fd int) error {
		if link != "" {
			if err := unix.BindToDevice(fd, link); err != nil {
				return err
			}
		}
		widen(fd, listenBuffer)
		return tellDestination(fd)
	})
}

// widen enlarges a receive buffer as far as may be: beyond net.core.rmem_max takes
// CAP_NET_ADMIN.
func widen(fd, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
}

// tellDestination asks for the address to which each request went. A socket of IPv6
// tells both kinds.
func tellDestination(fd int) error {
	err4 := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	err6 := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	if err4 != nil && err6 != nil {
		return fmt.Errorf("ask for destinations of packets: %w", err4)
	}
	return nil
}

// destination reads the address to which a request went; false for those of several
// machines, which RFC 1123 section 4.2.3.4 has ignored.
func destination(oob []byte) (netip.Addr, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, false
	}
	var six netip.Addr
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			local, to := netip.AddrFrom4([4]byte(m.Data[4:8])), netip.AddrFrom4([4]byte(m.Data[8:12]))
			return to, local == to // they differ for broadcasts
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16:
			six = netip.AddrFrom16([16]byte(m.Data[:16]))
		}
	}
	return six, six.IsValid() && !six.Unmap().IsMulticast() && six.Unmap() != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// socket is one of a transfer: bound to the address that was asked, which makes its
// port the transfer's TID. It is not connected: the kernel would answer strangers with
// ICMP, and RFC 1350 section 4 wants ERROR 5.
type socket struct {
	fd    int
	to    [unix.SizeofSockaddrInet6]byte // the client, as the kernel writes it
	toLen uint32
}

func openSocket(local netip.Addr, peer netip.AddrPort) (*socket, error) {
	family := unix.AF_INET6
	if peer.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &socket{fd: fd}
	s.toLen = encode(&s.to, peer)
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(local.WithZone(peer.Addr().Zone()), 0))); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func (s *socket) close() { unix.Close(s.fd) }

// sockaddr is an address for package unix.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16(), ZoneId: zone(ip)}
}

// zone is the number of the interface of a link-local address. Package net gives its
// name, or the number where it has none.
func zone(ip netip.Addr) uint32 {
	if ip.Zone() == "" || !ip.IsLinkLocalUnicast() {
		return 0
	}
	if i, err := net.InterfaceByName(ip.Zone()); err == nil {
		return uint32(i.Index)
	}
	n, _ := number(ip.Zone())
	return uint32(n)
}

// encode writes an address as the kernel does, once per transfer, so that sending and
// comparing allocate nothing.
func encode(b *[unix.SizeofSockaddrInet6]byte, a netip.AddrPort) uint32 {
	ip := a.Addr().Unmap()
	b[2], b[3] = byte(a.Port()>>8), byte(a.Port())
	if ip.Is4() {
		*(*uint16)(unsafe.Pointer(&b[0])) = unix.AF_INET
		v4 := ip.As4()
		copy(b[4:], v4[:])
		return unix.SizeofSockaddrInet4
	}
	*(*uint16)(unsafe.Pointer(&b[0])) = unix.AF_INET6
	v6 := ip.As16()
	copy(b[8:], v6[:])
	*(*uint32)(unsafe.Pointer(&b[24])) = zone(ip)
	return unix.SizeofSockaddrInet6
}

// from reports whether a sender's address is that of the client. Flow labels do not
// count, nor the zone: both ends of a link-local packet are on one link.
func (s *socket) from(b *[unix.SizeofSockaddrInet6]byte) bool {
	if s.toLen == unix.SizeofSockaddrInet4 {
		return [8]byte(b[:8]) == [8]byte(s.to[:8])
	}
	return [4]byte(b[:4]) == [4]byte(s.to[:4]) && [16]byte(b[8:24]) == [16]byte(s.to[8:24])
}

// The calls below never block, as the sockets do not, so they go without the
// scheduler's knowledge; that is worth a tenth of a lockstep transfer.

func (s *socket) receive(b []byte, from *[unix.SizeofSockaddrInet6]byte) (int, unix.Errno) {
	size := uint32(len(from))
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(&size)))
	return int(n), errno
}

func (s *socket) send(b []byte, to *[unix.SizeofSockaddrInet6]byte, toLen uint32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(to)), uintptr(toLen))
	return errno
}

func (s *socket) sendMessage(m *unix.Msghdr) unix.Errno {
	m.Name, m.Namelen = &s.to[0], s.toLen
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(m)), 0)
	return errno
}

// probe asks the kernel about the way to a client: by connecting a socket that never
// sends, which is three calls where netlink takes a dump of all interfaces.
type probe struct {
	mu       sync.Mutex
	fd4, fd6 int
}

func newProbe() (*probe, error) {
	p := &probe{fd4: -1, fd6: -1}
	var err4, err6 error
	p.fd4, err4 = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	p.fd6, err6 = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err4 != nil && err6 != nil {
		return nil, err4
	}
	return p, nil
}

func (p *probe) close() {
	unix.Close(p.fd4)
	unix.Close(p.fd6)
}

// Payload of a packet that is not cut, less the header of DATA: without the headers of
// IP and UDP.
const (
	overhead4 = 20 + 8 + header
	overhead6 = 40 + 8 + header
	etherMTU  = 1500
)

// path tells the largest block that goes to a client whole, and the address from which
// the kernel would send to it.
func (p *probe) path(peer netip.AddrPort) (block int, source netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fd, over, level, opt := p.fd6, overhead6, unix.IPPROTO_IPV6, unix.IPV6_MTU
	if peer.Addr().Unmap().Is4() {
		fd, over, level, opt = p.fd4, overhead4, unix.IPPROTO_IP, unix.IP_MTU
	}
	mtu := etherMTU
	if unix.Connect(fd, sockaddr(peer)) == nil {
		if n, err := unix.GetsockoptInt(fd, level, opt); err == nil {
			mtu = n
		}
		source = localOf(fd)
		_, _, _ = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspecified)), unsafe.Sizeof(unspecified))
	}
	return max(plainBlock, min(mtu-over, maxBlock)), source
}

// unspecified takes a socket's connection away (connect(2), AF_UNSPEC), and with it the
// source address, which would otherwise be the next path's.
var unspecified = unix.RawSockaddr{Family: unix.AF_UNSPEC}

func localOf(fd int) netip.Addr {
	switch sa, _ := unix.Getsockname(fd); sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr)
	}
	return netip.Addr{}
}
