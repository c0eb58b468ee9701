package dhcpd6

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/net/ipv6"
)

// receive gives what comes to a socket to a function, one after the other, until it is
// closed. Each datagram is of size bytes at most, and valid during the call. The source is
// a *net.UDPAddr, or a *net.IPAddr of a raw socket.
func receive[Source net.Addr](ctx context.Context, conn *ipv6.PacketConn, size int, each func(b []byte, cm *ipv6.ControlMessage, src Source)) error {
	buf := make([]byte, size)
	for {
		n, cm, src, err := conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case temporary(err):
			continue
		case err != nil:
			return err
		}
		if from, ok := src.(Source); ok && cm != nil {
			each(buf[:n], cm, from)
		}
	}
}

// temporary are errors of a socket that goes on: a link that is down for a while, memory
// that is short.
func temporary(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EINTR, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
