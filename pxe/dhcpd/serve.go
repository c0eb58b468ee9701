package dhcpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// read takes messages from a socket. It never waits for their answers: what does not fit
// into a queue is dropped, and the client asks again.
func (s *Server) read(ctx context.Context, k *socket) error {
	buf, oob := make([]byte, dhcp.MaxSize+1), make([]byte, 256)
	for {
		n, o, _, from, err := k.conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if temporary(err) {
				continue
			}
			return fmt.Errorf("read dhcp on %s: %w", k.link, err)
		}
		s.count.received.Add(1)
		s.take(k, buf[:n], oob[:o], from)
	}
}

// take sorts a datagram: thrown away, or to be answered.
func (s *Server) take(k *socket, b, oob []byte, from netip.AddrPort) {
	m, err := dhcp.Parse(b)
	if err != nil {
		s.count.add(0, Malformed)
		s.alarm("malformed", netboot.Event{Time: s.now(), Stage: netboot.Refused, Detail: fmt.Sprintf("%v; from %s on %s", err, from, k.link)})
		return
	}
	l, ok := (*s.links.Load())[k.link]
	if !ok { // the link has no address now
		s.count.add(m.Type(), Foreign)
		return
	}
	j := job{from: k, p: dhcp.Packet{Message: m, From: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), To: destination(oob), Port: k.is, Link: k.link, Local: l.local, Own: s.own()}}
	for _, a := range l.addrs {
		j.p.Nets = append(j.p.Nets, a.Masked())
	}
	if l.has(j.p.To) {
		j.p.Local = j.p.To
	}
	if j.look = s.policy.Load().Look(&j.p); j.look.Drop != nil {
		s.dropped(&j)
		return
	}
	if !s.limits.Allow(m.MAC(), s.now()) {
		s.count.add(m.Type(), Limited)
		return
	}
	queue := s.plain
	if j.look.Ask {
		queue = s.decide
	}
	select {
	case queue <- j:
	default:
		s.count.add(m.Type(), Busy)
	}
}

func (s *Server) dropped(j *job) {
	out := (&dhcp.State{}).Step(s.policy.Load(), &j.p, netboot.Answer{}, s.now())
	if len(out.Events) == 0 {
		s.count.add(j.p.Message.Type(), Foreign)
		return
	}
	s.count.add(j.p.Message.Type(), Refused)
	s.tell(out)
}

// work answers what is in a queue.
func (s *Server) work(ctx context.Context, queue <-chan job) {
	for ctx.Err() == nil { // else what is queued would go on for as long as it likes
		select {
		case <-ctx.Done():
		case j := <-queue:
			s.answer(ctx, &j)
		}
	}
}

func (s *Server) answer(ctx context.Context, j *job) {
	a := netboot.Answer{Verb: netboot.Refuse, Reason: "the server has no boot rules"}
	if j.look.Ask && s.o.Decider != nil {
		// Not less time when the server stops: a decision that was broken off is a refusal.
		d, stop := context.WithTimeout(context.WithoutCancel(ctx), decideTime)
		a = s.o.Decider.Decide(d, j.look.Client)
		stop()
	}
	s.mu.Lock()
	out := s.state.Step(s.policy.Load(), &j.p, a, s.now())
	if out.Durable {
		s.generation++
	}
	generation := s.generation
	s.mu.Unlock()
	s.tell(out)
	if out.Durable && s.keeper != nil {
		if err := s.keeper.keep(generation, s.snapshot); err != nil {
			// Nothing is acknowledged that would be forgotten: somebody else could get it.
			s.count.add(j.p.Message.Type(), Failed)
			s.alarm("leases", netboot.Event{Time: s.now(), Stage: netboot.Refused, MAC: j.look.Client.MAC, Detail: err.Error()})
			return
		}
	}
	s.count.add(j.p.Message.Type(), s.send(j, out.Reply))
}

func (s *Server) snapshot() ([]byte, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Leases.AppendText(nil), s.generation
}

// send writes an answer. One that cannot leave is counted: the client asks again.
func (s *Server) send(j *job, r *dhcp.Reply) Outcome {
	if r == nil {
		return Silent
	}
	b, left := r.Message.Append(nil, r.Limit)
	if len(left) > 0 {
		s.alarm("long", netboot.Event{Time: s.now(), Stage: netboot.Refused, MAC: j.look.Client.MAC, Detail: fmt.Sprintf("dhcp: the client takes %d bytes: options %v are left out", r.Limit, left)})
	}
	if _, _, err := j.from.conn.WriteMsgUDPAddrPort(b, source(j.p.Local), r.To); err != nil {
		s.alarm("send", netboot.Event{Time: s.now(), Stage: netboot.Refused, MAC: j.look.Client.MAC, Detail: fmt.Sprintf("dhcp: send to %s on %s: %v", r.To, j.p.Link, err)})
		return Failed
	}
	s.count.answers[known(r.Message.Type())].Add(1)
	return Answered
}

// tell gives events to the watcher.
func (s *Server) tell(out dhcp.Output) {
	for _, e := range out.Events {
		if out.Alarm != "" && e.Stage == netboot.Refused {
			s.alarm(out.Alarm, e)
		} else if s.o.Watcher != nil {
			s.o.Watcher.Saw(e)
		}
	}
}

// alarm tells what one cause may make many of.
func (s *Server) alarm(kind string, e netboot.Event) {
	n, ok := s.alarms.first(kind, e.Time)
	if !ok || s.o.Watcher == nil {
		return
	}
	if n > 0 {
		e.Detail += fmt.Sprintf(" (and %d more like it)", n)
	}
	s.o.Watcher.Saw(e)
}
