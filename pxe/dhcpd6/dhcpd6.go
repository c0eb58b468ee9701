// Package dhcpd6 is the server of package dhcp6 on real sockets: UDP ports 547 and 4011
// with the groups of RFC 8415 section 7.1 joined on each link, and router advertisements
// over a raw ICMPv6 socket.
//
//	s, err := dhcpd6.Listen(dhcpd6.Options{Links: []string{"eth0"}, Decider: d, Watcher: w})
//	err = s.Serve(ctx) // until ctx ends
//
// Listen needs CAP_NET_BIND_SERVICE, and CAP_NET_RAW where it advertises; Serve needs
// neither any more. Nothing is written but the file of leases.
package dhcpd6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/ingot-os/ingot/pxe/dhcp6"
	"github.com/ingot-os/ingot/pxe/limit"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Options are what a server is made of.
type Options struct {
	Links   []string     // interfaces; required
	Config  dhcp6.Config // DUID: default from the first link's hardware address
	Base    dhcp6.Base
	Decider netboot.Decider // required
	Watcher netboot.Watcher // required
	// Advertise sends router advertisements on the links that a pool is of: firmware asks
	// for an address, and finds the server's, by those only. Needs CAP_NET_RAW, and no
	// other router on the link that says otherwise.
	Advertise bool
	// Relays are the relay agents that may forward to this server. Without any, those
	// count whose link is that of a pool.
	Relays []netip.Prefix
	// LeaseFile keeps the leases; "" is in memory only. A server that has lost it gives
	// the same addresses again, so it is written at most once a second.
	LeaseFile string
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Port and BootPort are those of RFC 8415 and PXE unless a test has others.
	Port, BootPort int
}

// Server is a listening server.
type Server struct {
	o      Options
	links  []link
	main   *socket // 547
	boot   *socket // 4011
	router *router // nil: no advertisements

	count  counters
	limits limit.Clients[netip.Addr]

	mu     sync.Mutex // of policy and kept
	policy *dhcp6.Server
	kept   uint64 // Leases.Changes of what is in the file

	saving sync.Mutex // of the file
}

// socket is a UDP socket that says of each datagram where it came in.
type socket struct {
	udp  *net.UDPConn
	conn *ipv6.PacketConn
}

var (
	allServersAndRelays = net.ParseIP("ff02::1:2") // RFC 8415 section 7.1
	allServers          = net.ParseIP("ff05::1:3")
)

// Listen opens the sockets. The error names what cannot be opened, and the privilege
// that is missing.
func Listen(o Options) (*Server, error) {
	if len(o.Links) == 0 || o.Decider == nil || o.Watcher == nil {
		return nil, errors.New("listen for DHCPv6: no link, no decider or no watcher")
	}
	s := &Server{o: o.withDefaults()}
	if err := s.open(); err != nil {
		_ = s.Close() // nothing was answered, so nothing is lost
		return nil, err
	}
	return s, nil
}

func (s *Server) open() (err error) {
	if s.links, err = findLinks(s.o.Links); err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if s.main, err = open(s.o.Port); err != nil {
		return err
	}
	if s.boot, err = open(s.o.BootPort); err != nil {
		return err
	}
	if err := s.join(); err != nil {
		return err
	}
	if s.o.Advertise {
		s.router, err = newRouter(s.advertised(), s.o)
	}
	return err
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Port == 0 {
		o.Port = dhcp6.ServerPort
	}
	if o.BootPort == 0 {
		o.BootPort = dhcp6.PXEPort
	}
	return o
}

func (s *Server) prepare() (err error) {
	c := s.o.Config
	if len(c.DUID) == 0 {
		c.DUID = dhcp6.ServerDUID(s.links[0].mac)
	}
	var old []dhcp6.Lease
	if s.o.LeaseFile != "" && c.Assign {
		if old, err = readLeases(s.o.LeaseFile); err != nil {
			return err
		}
	}
	if s.policy, err = dhcp6.New(c, dhcp6.NewLeases(old)); err == nil {
		s.kept = s.policy.Leases.Changes()
	}
	return err
}

func open(port int) (*socket, error) {
	u, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6unspecified, Port: port})
	if err != nil {
		return nil, fmt.Errorf("listen for DHCPv6: %w", err)
	}
	// A storm is a burst of small datagrams; the default holds a few hundred. More than
	// net.core.rmem_max is cut to that, which is no reason not to start.
	_ = u.SetReadBuffer(4 << 20)
	c := ipv6.NewPacketConn(u)
	if err := c.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for DHCPv6: %w", err), u.Close())
	}
	return &socket{u, c}, nil
}

func (s *Server) join() error {
	for _, l := range s.links {
		for _, g := range []net.IP{allServersAndRelays, allServers} {
			if err := s.main.conn.JoinGroup(&net.Interface{Index: l.index}, &net.UDPAddr{IP: g}); err != nil {
				return fmt.Errorf("join %s on %s: %w", g, l.name, err)
			}
		}
	}
	return nil
}

// Close ends the server and writes the leases. Serve does it itself.
func (s *Server) Close() error {
	var errs []error
	for _, x := range []*socket{s.main, s.boot} {
		if x != nil {
			errs = append(errs, closed(x.udp.Close()))
		}
	}
	if s.router != nil {
		errs = append(errs, closed(s.router.conn.Close()))
	}
	if s.policy != nil {
		errs = append(errs, s.save())
	}
	return errors.Join(errs...)
}

func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

const (
	workers    = 4               // messages that are decided at once, on each port
	decideTime = 2 * time.Second // of one decision; firmware asks again after 1 s, then 2
)

// deaf ends the reading of messages; answers still leave for as long as one may take.
func (s *Server) deaf() {
	past, end := time.Unix(1, 0), time.Now().Add(decideTime+time.Second)
	for _, x := range []*socket{s.main, s.boot} {
		_ = x.udp.SetReadDeadline(past) // of a closed socket nothing is read either
		_ = x.udp.SetWriteDeadline(end)
	}
	if s.router != nil {
		_ = s.router.conn.SetReadDeadline(past)
		_ = s.router.conn.SetWriteDeadline(end)
	}
}

// Serve answers until ctx ends, whose end is no error. Who is being answered has the answer
// then.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	run := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for range workers {
		run(func(ctx context.Context) error { return s.listen(ctx, s.main, false) })
		run(func(ctx context.Context) error { return s.listen(ctx, s.boot, true) })
	}
	if s.router != nil {
		run(s.router.answer)
		run(s.router.repeat)
	}
	run(s.keepUp)
	<-ctx.Done()
	s.deaf()
	all.Wait()
	err := s.Close()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		err = errors.Join(cause, err)
	}
	return err
}

// Leases are the addresses that are out.
func (s *Server) Leases() []dhcp6.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy.Leases.All()
}
