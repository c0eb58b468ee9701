// Package netlab makes networks for tests, with real sockets, broadcasts and
// firmware in them: network namespaces, bridges, cables between namespaces, taps
// that virtual machines plug into, captures, and cables that lose frames.
//
//	server := netlab.New(t, "server")           // skips the test without root
//	server.Bridge("br0", "10.77.0.1/24", "fd00:77::1/64")
//	card := server.Tap("vm0", "br0")            // card.Open is for qemu.Net
//	relay := netlab.New(t, "relay")
//	netlab.Cable(server, "up0", relay, "down0")
//	p := server.Start("dnsmasq", "-k", "-C", "/dev/null")
//
// Nothing is left behind, however the test ends: a namespace has no name in the
// file system, only descriptors of this process hold it, and the kernel removes
// it and all in it with the last of them. Programs that run inside are killed
// with the thread that started them. To look into one while a test waits:
//
//	nsenter --net=/proc/PID-OF-THE-TEST/fd/N ip addr
//
// It is for tests only and imports nothing of ingot but internal/oracle.
package netlab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/oracle"
)

// Space is a network namespace: a host of its own as far as the network goes.
type Space struct {
	Name string // for messages
	t    testing.TB
	ns   *os.File
}

// New makes a namespace with its loopback up. It needs root: without, the test
// is skipped, or fails where all is required (oracle.Missing).
func New(t testing.TB, name string) *Space {
	t.Helper()
	if os.Geteuid() != 0 {
		oracle.Missing(t, "network namespaces need root")
	}
	s := &Space{Name: name, t: t}
	errs := make(chan error, 1)
	go func() {
		// The thread has another namespace from here on. It is not unlocked, so
		// that it ends with this goroutine instead of being used by others.
		runtime.LockOSThread()
		errs <- s.unshare()
	}()
	if err := <-errs; err != nil {
		t.Fatalf("make network namespace %s: %v", name, err)
	}
	t.Cleanup(func() { s.ns.Close() })
	s.must("set lo up", func() error { return up("lo") })
	return s
}

func (s *Space) unshare() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	s.ns, err = os.Open("/proc/thread-self/ns/net")
	return err
}

// Do calls f on a thread of the namespace: sockets that f itself opens are in it,
// and stay in it. Those of goroutines that f starts are not.
func (s *Space) Do(f func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever, as in New
		if err := s.enter(); err != nil {
			errs <- err
			return
		}
		errs <- f()
	}()
	return <-errs
}

// enter moves the calling thread, which has to be locked, into the namespace.
func (s *Space) enter() error {
	if err := unix.Setns(int(s.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", s.Name, err)
	}
	return nil
}

// must is Do for what the test cannot go on without.
func (s *Space) must(what string, f func() error) {
	s.t.Helper()
	if err := s.Do(f); err != nil {
		s.t.Fatalf("%s in %s: %v", what, s.Name, err)
	}
}

// Dial connects from inside the namespace to an address of numbers.
func (s *Space) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = s.Do(func() (err error) {
		// A name, or a second address to try, would be looked up and dialled in
		// goroutines of other threads.
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// ListenPacket opens a datagram socket in the namespace.
func (s *Space) ListenPacket(network, address string) (conn net.PacketConn, err error) {
	err = s.Do(func() (err error) {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// Listen opens a listener in the namespace.
func (s *Space) Listen(network, address string) (l net.Listener, err error) {
	err = s.Do(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// Client is an HTTP client inside the namespace, for addresses of numbers.
func (s *Space) Client() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: s.Dial, DisableKeepAlives: true}}
}

func up(dev string) error {
	l, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}
