package dhcpd6

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/net/ipv6"

	"github.com/ingot-os/ingot/pxe/dhcp6"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// listen answers what comes to a socket until it is closed.
func (s *Server) listen(ctx context.Context, from *socket, bootServer bool) error {
	err := receive(ctx, from.conn, dhcp6.MaxSize, func(b []byte, cm *ipv6.ControlMessage, src *net.UDPAddr) {
		s.handle(ctx, from, datagram{b, src.AddrPort(), cm, bootServer})
	})
	if err != nil {
		return fmt.Errorf("read DHCPv6: %w", err)
	}
	return nil
}

type datagram struct {
	data       []byte
	source     netip.AddrPort
	control    *ipv6.ControlMessage
	bootServer bool
}

// handle answers one datagram, and counts it.
func (s *Server) handle(ctx context.Context, via *socket, d datagram) {
	p, err := dhcp6.ParsePacket(d.data)
	if err != nil {
		s.count.add(0, Malformed)
		return
	}
	s.count.add(p.Message.Type, s.answer(ctx, via, d, p))
}

// answer answers a message. What comes from where no client and no relay is gets nothing:
// an answer would help nobody but who forged it.
func (s *Server) answer(ctx context.Context, via *socket, d datagram, p dhcp6.Packet) Outcome {
	l, ok := s.link(d.control.IfIndex)
	if !ok || !s.admits(p, d) {
		return Refused
	}
	q := dhcp6.Question{Packet: p, Source: d.source.Addr(), Link: l.addrs(), BootServer: d.bootServer, Unicast: !d.control.Dst.IsMulticast()}
	c := dhcp6.Client(p, q.Source)
	c.Link = l.name
	if !s.limits.Allow(c.Addr, s.o.Now()) {
		return Limited
	}
	if !s.policy.Hears(p.Message) {
		return Silent
	}
	boots := dhcp6.Boots(p.Message)
	if boots {
		s.decide(ctx, &q, c)
	}
	out := s.turn(q)
	if out == nil {
		return Silent
	}
	if err := s.send(via, d, l, *out); err != nil {
		s.saw(netboot.Refused, c, q.Boot, fmt.Sprintf("%s not sent: %v", out.Message.Type, err))
		return Failed
	}
	if boots {
		s.tell(c, q, *out)
	}
	return Answered
}

func (s *Server) turn(q dhcp6.Question) *dhcp6.Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy.Answer(q, s.o.Now())
}

// decide fills in what the client boots.
func (s *Server) decide(ctx context.Context, q *dhcp6.Question, c netboot.Client) {
	// Not less time when the server stops: a decision that was broken off is a refusal.
	d, stop := context.WithTimeout(context.WithoutCancel(ctx), decideTime)
	q.Boot = s.o.Decider.Decide(d, c)
	stop()
	s.saw(netboot.Asked, c, q.Boot, describe(q, c))
	if q.Boot.Verb != netboot.Boot {
		return
	}
	var err error
	if q.URL, err = s.o.Base.URL(q.Boot, own(q.Link, s.prefixes())); err != nil {
		q.Boot.Verb, q.Boot.Reason = netboot.Refuse, err.Error()
	}
}

// describe is what a client says of itself, for people.
func describe(q *dhcp6.Question, c netboot.Client) string {
	text := fmt.Sprintf("%s on %s, %s", q.Packet.Message.Type, c.Link, c.Arch)
	if c.IPXE {
		text += ", iPXE"
	}
	if c.Relay.IsValid() {
		text += fmt.Sprintf(", by relay agent %s", c.Relay)
	}
	return text
}

func (s *Server) prefixes() (out []netip.Prefix) {
	for _, p := range s.o.Config.Pools {
		out = append(out, p.Link)
	}
	return out
}

// tell reports what a machine that boots was answered.
func (s *Server) tell(c netboot.Client, q dhcp6.Question, out dhcp6.Packet) {
	port := dhcp6.ServerPort
	if q.BootServer {
		port = dhcp6.PXEPort
	}
	detail := fmt.Sprintf("%s on %d: %s", out.Message.Type, port, q.Boot.Reason)
	switch {
	case out.Message.Options.Has(dhcp6.OptBootURL):
		e := s.event(netboot.Offered, c, q.Boot, detail)
		e.Method, e.Path = q.Boot.Method, q.Boot.Path
		s.o.Watcher.Saw(e)
	case q.Boot.Verb == netboot.Refuse:
		s.saw(netboot.Refused, c, q.Boot, detail)
	}
}

func (s *Server) saw(stage netboot.Stage, c netboot.Client, a netboot.Answer, detail string) {
	s.o.Watcher.Saw(s.event(stage, c, a, detail))
}

func (s *Server) event(stage netboot.Stage, c netboot.Client, a netboot.Answer, detail string) netboot.Event {
	return netboot.Event{Time: s.o.Now(), Stage: stage, MAC: c.MAC, Addr: netip.AddrPortFrom(c.Addr, dhcp6.ClientPort), Host: a.Host, Release: a.Release, Detail: detail}
}

func (s *Server) link(index int) (link, bool) {
	i := slices.IndexFunc(s.links, func(l link) bool { return l.index == index })
	if i < 0 {
		return link{}, false
	}
	return s.links[i], true
}

// admits reports whether a message may come from where it came. Clients have link-local
// addresses (RFC 8415 section 18.2); with one that can be routed an answer could be had
// sent to anybody. Only to PXEPort firmware comes with the address that it has got.
func (s *Server) admits(p dhcp6.Packet, d datagram) bool {
	from := d.source.Addr().WithZone("")
	switch {
	case dhcp6.Type(d.data[0]) == dhcp6.RelayReply: // for relays (RFC 8415 section 16.14)
		return false
	case len(p.Relays) > 0:
		return !d.bootServer && s.relays(p, from)
	case d.bootServer:
		return from.IsGlobalUnicast() || from.IsLinkLocalUnicast()
	}
	return from.IsLinkLocalUnicast()
}

func (s *Server) relays(p dhcp6.Packet, from netip.Addr) bool {
	if len(s.o.Relays) > 0 {
		return slices.ContainsFunc(s.o.Relays, func(r netip.Prefix) bool { return r.Contains(from) })
	}
	at := dhcp6.Client(p, from).Relay
	if !at.IsValid() { // a switch on our link names none (RFC 6221 section 5.3.1)
		return from.IsLinkLocalUnicast()
	}
	return at.IsValid() && slices.ContainsFunc(s.prefixes(), func(n netip.Prefix) bool { return n.Contains(at) })
}

// send sends an answer back the way its question came.
func (s *Server) send(via *socket, d datagram, l link, out dhcp6.Packet) error {
	to := d.source
	cm := &ipv6.ControlMessage{IfIndex: l.index}
	if !d.control.Dst.IsMulticast() {
		cm.Src = d.control.Dst // EDK2 takes an answer only from the address that it has asked
	}
	switch {
	case d.bootServer: // back to the port that has asked
	case len(out.Relays) == 0:
		to = netip.AddrPortFrom(to.Addr(), s.clientPort(to.Port()))
	case !out.Relays[0].Options.Has(dhcp6.OptRelayPort):
		to = netip.AddrPortFrom(to.Addr(), uint16(s.o.Port))
	}
	if to.Addr().IsLinkLocalUnicast() {
		to = netip.AddrPortFrom(to.Addr().WithZone(l.name), to.Port())
	} else if len(out.Relays) > 0 {
		cm.IfIndex = 0 // the way to a relay is the routing table's
	}
	_, err := via.conn.WriteTo(out.AppendBinary(nil), cm, net.UDPAddrFromAddrPort(to))
	return err
}

// clientPort is where a client listens (RFC 8415 section 7.2), whatever port it has sent
// from. With a test's ports there is no such rule.
func (s *Server) clientPort(from uint16) uint16 {
	if s.o.Port != dhcp6.ServerPort {
		return from
	}
	return dhcp6.ClientPort
}
