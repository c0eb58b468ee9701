package dhcpd6

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/ingot-os/ingot/pxe/dhcp6"
	"github.com/ingot-os/ingot/pxe/limit"
)

var (
	allNodes   = net.ParseIP("ff02::1")
	allRouters = net.ParseIP("ff02::2")
)

// Times of RFC 4861 sections 6.2.1 and 10.
const (
	maxInterval = 200 * time.Second
	minInterval = 100 * time.Second
	minDelay    = 3 * time.Second // between advertisements to all nodes
)

// prefixLifetime is how long hosts remember a prefix: three advertisements may be lost.
const prefixLifetime = 30 * time.Minute

// advertised is a link with what is said on it.
type advertised struct {
	link
	message []byte
}

type router struct {
	conn  *ipv6.PacketConn
	links []advertised
	now   func() time.Time

	limits limit.Clients[netip.Addr]

	mu   sync.Mutex
	last map[int]time.Time // advertisement to all nodes, by link
}

// advertised are the links that a pool is of. The server is no router to anywhere: its
// advertisement has a lifetime of 0. But its prefix is what EDK2 knows by that the server
// is on the link; DHCPv6 says nothing of that.
func (s *Server) advertised() (out []advertised) {
	for _, l := range s.links {
		a := dhcp6.Advertisement{HopLimit: 64, Managed: s.policy.Assign, Other: true, MAC: l.mac}
		for _, p := range s.policy.Pools {
			if slices.ContainsFunc(l.addrs(), p.Link.Contains) {
				a.Prefixes = append(a.Prefixes, dhcp6.Prefix{Prefix: p.Link, OnLink: true, Valid: prefixLifetime, Preferred: prefixLifetime})
				a.DNS = append(a.DNS, p.DNS...)
			}
		}
		if len(a.Prefixes) > 0 {
			out = append(out, advertised{l, a.AppendBinary(nil)})
		}
	}
	return out
}

func newRouter(links []advertised, o Options) (*router, error) {
	if len(links) == 0 {
		return nil, fmt.Errorf("advertise: no link has an address in a pool's subnet")
	}
	raw, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, fmt.Errorf("advertise: raw ICMPv6 needs CAP_NET_RAW: %w", err)
	}
	r := &router{conn: ipv6.NewPacketConn(raw), links: links, now: o.Now, last: map[int]time.Time{}}
	if err := r.configure(); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("advertise: %w", err)
	}
	return r, nil
}

func (r *router) configure() error {
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	if err := r.conn.SetICMPFilter(&only); err != nil {
		return err
	}
	if err := r.conn.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true); err != nil {
		return err
	}
	for _, l := range r.links {
		if err := r.conn.JoinGroup(&net.Interface{Index: l.index}, &net.IPAddr{IP: allRouters}); err != nil {
			return fmt.Errorf("join ff02::2 on %s: %w", l.name, err)
		}
	}
	return nil
}

// answer answers router solicitations until the socket is closed.
func (r *router) answer(ctx context.Context) error {
	if err := receive(ctx, r.conn, maxSolicitation, r.solicited); err != nil {
		return fmt.Errorf("read router solicitation: %w", err)
	}
	return nil
}

// maxSolicitation is the size of what fits into a frame of Ethernet.
const maxSolicitation = 1500

// solicited answers one solicitation: who has an address himself, all nodes for who has
// none yet.
func (r *router) solicited(b []byte, cm *ipv6.ControlMessage, src *net.IPAddr) {
	from, _ := netip.AddrFromSlice(src.IP)
	i := slices.IndexFunc(r.links, func(l advertised) bool { return l.index == cm.IfIndex })
	switch {
	case i < 0 || !dhcp6.IsSolicitation(b, from, cm.HopLimit):
	case from.IsLinkLocalUnicast():
		if r.limits.Allow(from, r.now()) {
			r.send(r.links[i], &net.IPAddr{IP: src.IP, Zone: r.links[i].name})
		}
	case r.may(r.links[i]):
		r.all(r.links[i])
	}
}

// may reports whether all nodes can be told again.
func (r *router) may(l advertised) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now().Sub(r.last[l.index]) >= minDelay
}

// repeat advertises now and from time to time.
func (r *router) repeat(ctx context.Context) error {
	for {
		for _, l := range r.links {
			r.all(l)
		}
		t := time.NewTimer(minInterval + rand.N(maxInterval-minInterval))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

func (r *router) all(l advertised) {
	r.mu.Lock()
	r.last[l.index] = r.now()
	r.mu.Unlock()
	r.send(l, &net.IPAddr{IP: allNodes, Zone: l.name})
}

// send sends an advertisement. One that is lost is asked for again, so an error, of a link
// that is down for example, ends nothing.
func (r *router) send(l advertised, to *net.IPAddr) {
	_, _ = r.conn.WriteTo(l.message, &ipv6.ControlMessage{IfIndex: l.index, HopLimit: 255}, to)
}
