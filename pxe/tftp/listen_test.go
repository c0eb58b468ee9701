package tftp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sharing opens a port as dnsmasq does, which lets others have it, too.
func sharing(t *testing.T, address string) *net.UDPConn {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

// TestListenAlone: of two sockets on a port the kernel gives a request to one, so a port that
// somebody else has is an error, also when that one would share it, and at one address alone.
func TestListenAlone(t *testing.T) {
	for _, tt := range []struct{ has, wants string }{
		{"127.0.0.1", "::"}, {"::1", "::"}, {"127.0.0.1", "127.0.0.1"}, {"::", "127.0.0.1"}, {"0.0.0.0", "::"}, {"127.0.0.1", "0.0.0.0"},
	} {
		other := sharing(t, net.JoinHostPort(tt.has, "0")).LocalAddr().(*net.UDPAddr)
		conn, err := Listen(netip.AddrPortFrom(netip.MustParseAddr(tt.wants), uint16(other.Port)), "")
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s beside %s: %v", tt.wants, tt.has, err)
		}
	}
	conn, err := Listen(netip.MustParseAddrPort("[::]:0"), "")
	if err != nil {
		t.Fatal(err)
	}
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if second, err := Listen(at, ""); !errors.Is(err, syscall.EADDRINUSE) {
		second.Close()
		t.Errorf("a second server: %v", err)
	}
	conn.Close()
	again, err := Listen(at, "")
	if err != nil {
		t.Fatalf("once more, after it was closed: %v", err)
	}
	again.Close()
}
