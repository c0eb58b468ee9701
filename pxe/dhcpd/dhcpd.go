// Package dhcpd answers DHCPv4 on the links of a host: it has the sockets, the clock and the
// file of leases for package pxe/dhcp, which decides.
//
//	s, err := dhcpd.Listen(dhcpd.Options{Interfaces: []string{"eth0"}, Decider: rules})
//	err = s.Serve(ctx)
//
// It needs CAP_NET_BIND_SERVICE for its ports, and CAP_NET_RAW to bind to a link where the
// kernel is older than 5.7. It has no raw socket: who has no address yet is answered by
// broadcast.
//
// Limits: what comes in through a link is answered through it; a relay agent that is
// reached by another link than its messages come from gets no answer.
package dhcpd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/limit"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Options are what a server is to do.
type Options struct {
	Interfaces []string // links by name; at least one unless Config.Mode is Off
	Config     dhcp.Config
	Decider    netboot.Decider // nil: nobody boots
	Watcher    netboot.Watcher // nil: nobody is told
	// Leases is the file of leases. Full wants one; "" loses them at the end.
	Leases string
	// Port and BootPort are 67 and 4011 when they are 0. Firmware knows no others.
	Port, BootPort uint16
	// Decisions is how many may go on at once, 32 when it is 0.
	Decisions int
	// Now is the clock, time.Now when it is nil.
	Now func() time.Time
}

// Bounds of what waits.
const (
	defaultDecisions = 32
	waiting          = 4096            // messages in each queue
	decideTime       = 2 * time.Second // firmware asks again after 4
	plainWorkers     = 4
	receiveBuffer    = 4 << 20
)

// Server answers. Its methods may be called at once.
type Server struct {
	o       Options
	now     func() time.Time
	sockets []*socket
	links   atomic.Pointer[map[string]link]
	policy  atomic.Pointer[dhcp.Policy]
	count   counters
	// addresses reads links; tests read those of a network namespace.
	addresses func(names []string, p *dhcp.Policy) (map[string]link, error)

	mu    sync.Mutex // for state and generation
	state dhcp.State
	// generation counts changes of the leases.
	generation uint64

	keeper   *keeper // nil: no file
	limits   limit.Clients[netboot.MAC]
	alarms   alarms
	decide   chan job // of what boots
	plain    chan job // of what needs no decision, so that no decision holds it up
	deciders int
}

// job is a message that is to be answered.
type job struct {
	from *socket
	p    dhcp.Packet
	look dhcp.Look
}

// Listener is a port that the server has.
type Listener struct {
	Link  string
	Port  uint16
	Local netip.Addr // the server's own address there
}

// String is the listener for people.
func (l Listener) String() string {
	return fmt.Sprintf("udp port %d on %s (%s)", l.Port, l.Link, l.Local)
}

// Listen reads the leases and binds the ports. Nothing is answered before Serve.
func Listen(o Options) (*Server, error) {
	policy, err := dhcp.Compile(o.Config)
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, now: o.Now, decide: make(chan job, waiting), plain: make(chan job, waiting), deciders: o.Decisions, addresses: readLinks}
	if s.now == nil {
		s.now = time.Now
	}
	if s.deciders <= 0 {
		s.deciders = defaultDecisions
	}
	s.policy.Store(policy)
	if policy.Mode == dhcp.Off {
		return s, nil
	}
	if err := s.open(policy); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open(policy *dhcp.Policy) (err error) {
	if len(s.o.Interfaces) == 0 {
		return errors.New("listen for dhcp: no link is named")
	}
	if policy.Mode == dhcp.Full && s.o.Leases != "" {
		if s.keeper, err = openKeeper(s.o.Leases, &s.state.Leases); err != nil {
			return err
		}
		s.state.Reload(policy, s.now())
	}
	links, err := readLinks(s.o.Interfaces, policy)
	if err != nil {
		return err
	}
	s.links.Store(&links)
	for _, name := range s.o.Interfaces {
		for _, port := range []struct{ is, bind uint16 }{{dhcp.ServerPort, s.o.Port}, {dhcp.BootPort, s.o.BootPort}} {
			if port.bind == 0 {
				port.bind = port.is
			}
			k, err := listen(name, port.is, port.bind, policy.Mode == dhcp.Proxy)
			if err != nil {
				return err
			}
			s.sockets = append(s.sockets, k)
		}
	}
	return nil
}

// Listeners are the ports that the server has.
func (s *Server) Listeners() []Listener {
	var out []Listener
	for _, k := range s.sockets {
		out = append(out, Listener{k.link, k.bound, (*s.links.Load())[k.link].local})
	}
	return out
}

// Close gives the ports back. Serve does it, too.
func (s *Server) Close() {
	for _, k := range s.sockets {
		k.conn.Close()
	}
}

// deaf ends the reading of messages; answers still leave for as long as one may take.
func (s *Server) deaf() {
	for _, k := range s.sockets {
		_ = k.conn.SetReadDeadline(time.Unix(1, 0)) // of a closed socket nothing is read either
		_ = k.conn.SetWriteDeadline(time.Now().Add(decideTime + time.Second))
	}
}

// Serve answers until the context ends. What was acknowledged is in the file then, and who
// is being answered has the answer: without it a lease is written that its client does not
// know of, and firmware asks again only after seconds.
func (s *Server) Serve(ctx context.Context) error {
	defer s.Close()
	if len(s.sockets) == 0 { // mode off
		<-ctx.Done()
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var readers, workers sync.WaitGroup
	errs := make(chan error, len(s.sockets))
	for _, k := range s.sockets {
		readers.Go(func() { errs <- s.read(ctx, k) })
	}
	for range s.deciders {
		workers.Go(func() { s.work(ctx, s.decide) })
	}
	for range plainWorkers {
		workers.Go(func() { s.work(ctx, s.plain) })
	}
	workers.Go(func() { s.refresh(ctx) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs: // a socket that cannot be read is the end
	}
	stop()
	s.deaf()
	readers.Wait()
	workers.Wait()
	return err
}

// Reload takes another configuration. Leases stay; links and the mode stay, too: for others
// the server is to be started again.
func (s *Server) Reload(c dhcp.Config) error {
	policy, err := dhcp.Compile(c)
	if err != nil {
		return err
	}
	if old := s.policy.Load(); old.Mode != policy.Mode {
		return fmt.Errorf("reload dhcp: mode is %s, and %s needs a restart", old.Mode, policy.Mode)
	}
	s.mu.Lock()
	s.state.Reload(policy, s.now())
	s.policy.Store(policy)
	s.mu.Unlock()
	if len(s.sockets) > 0 {
		s.readLinks() // a new subnet may be that of another address of a link
	}
	return nil
}

// Leases are the addresses that were given or offered, those that have expired included.
func (s *Server) Leases() []dhcp.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Leases.List()
}

// refreshTime is how often the addresses of links are read.
const refreshTime = 5 * time.Second

// refresh follows the addresses of the links. One that has none for a while is silent.
func (s *Server) refresh(ctx context.Context) {
	tick := time.NewTicker(refreshTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.readLinks()
		}
	}
}

func (s *Server) readLinks() {
	links := map[string]link{}
	for _, name := range s.o.Interfaces {
		if one, err := s.addresses([]string{name}, s.policy.Load()); err == nil {
			links[name] = one[name]
		}
	}
	s.links.Store(&links)
}

// own are all addresses of the server on its links.
func (s *Server) own() (out []netip.Addr) {
	for _, l := range *s.links.Load() {
		for _, p := range l.addrs {
			out = append(out, p.Addr())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
