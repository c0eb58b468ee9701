package tftp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// service is a Server that runs.
type service struct {
	*Server
	ctx     context.Context // of what tickets do; ends after the grace
	desk    *desk
	probe   *probe
	engines []*engine
	turn    atomic.Uint32
	work    sync.WaitGroup // listeners and engines
}

// Serve answers requests until ctx ends, and then lets transfers go on for Grace. It
// closes the sockets, and returns when all is over that uses Source and Watcher. An error
// means that it could not listen (on).
func (s *Server) Serve(ctx context.Context, conns ...*net.UDPConn) error {
	ongoing, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	run := &service{Server: s, ctx: ongoing, desk: newDesk(s)}
	run.desk.start = run.start
	defer closeAll(conns)
	if err := run.prepare(conns); err != nil {
		return fmt.Errorf("serve TFTP: %w", err)
	}
	defer run.probe.close()
	failed := make(chan error, len(conns))
	for _, c := range conns {
		run.work.Go(func() { failed <- run.listen(c) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	run.desk.close()
	closeAll(conns)
	if err == nil {
		run.grace()
	}
	cancel(errStops) // a Source that is asked, and transfers in netascii
	run.halt()
	run.desk.work.Wait()
	return err
}

func closeAll(conns []*net.UDPConn) {
	for _, c := range conns {
		c.Close()
	}
}

func (r *service) prepare(conns []*net.UDPConn) (err error) {
	for _, c := range conns {
		raw, err := c.SyscallConn()
		if err == nil {
			err = control(raw, tellDestination)
		}
		if err != nil {
			return err
		}
	}
	if r.probe, err = newProbe(); err != nil {
		return err
	}
	n := r.Engines
	if n <= 0 {
		n = min(runtime.GOMAXPROCS(0), 4)
	}
	for range n {
		e, err := newEngine(r.Server, r.desk)
		if err != nil {
			r.halt()
			r.probe.close()
			return err
		}
		r.engines = append(r.engines, e)
		r.work.Go(e.run)
	}
	return nil
}

// grace waits for the transfers that run.
func (r *service) grace() {
	grace := r.Grace
	if grace <= 0 {
		grace = 30 * time.Second
	}
	select {
	case <-r.desk.idle:
	case <-time.After(grace):
	}
}

// halt ends the engines, and waits until they have.
func (r *service) halt() {
	for _, e := range r.engines {
		e.halt()
	}
	r.work.Wait()
}

// listen reads requests until the socket is closed.
func (r *service) listen(conn *net.UDPConn) error {
	b, oob := make([]byte, 2048), make([]byte, 256)
	for {
		n, m, _, peer, err := conn.ReadMsgUDPAddrPort(b, oob)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("listen for TFTP on %s: %w", conn.LocalAddr(), err)
		}
		if local, ok := destination(oob[:m]); ok && peer.Port() != 0 {
			r.hear(b[:n], netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), local.Unmap())
		}
	}
}

// hear takes a packet that came to the server's port. What is no request gets no
// answer, so that two servers cannot be made to answer each other.
func (r *service) hear(b []byte, peer netip.AddrPort, local netip.Addr) {
	t := &ticket{peer: peer, local: local, heard: time.Now()}
	switch opcode(b) {
	case opRRQ:
	case opWRQ:
		r.refuse(t, codeDenied, "nothing can be written here")
		return
	default:
		r.counts.malformed.Add(1)
		return
	}
	var err error
	if t.request, err = parseRequest(b[2:]); err != nil {
		r.counts.malformed.Add(1)
		r.refuse(t, codeIllegal, err.Error())
		return
	}
	r.counts.requests.Add(1)
	t.raw = string(b)
	r.desk.ask(t, int64(now()))
}

// refuse answers a packet that starts nothing; it counts as a request of its sender.
func (r *service) refuse(t *ticket, code uint16, words string) {
	r.desk.mu.Lock()
	ok := r.desk.meter.take(t.peer.Addr(), t.heard)
	if ok {
		r.desk.meter.give(t.peer.Addr())
	}
	r.desk.mu.Unlock()
	if !ok {
		r.counts.dropped.Add(1)
		return
	}
	r.decline(t, code, words)
}

// decline sends an ERROR from a port of its own, as the answer of a transfer would be.
func (r *service) decline(t *ticket, code uint16, words string) {
	r.counts.refused.Add(1)
	if s, err := openSocket(t.local, t.peer); err == nil {
		s.send(errorPacket(code, words), &s.to, s.toLen)
		s.close()
	}
}

// start runs in a goroutine of the ticket's, since a source may take its time.
func (r *service) start(t *ticket) {
	err := r.desk.fetch(r.ctx, t)
	switch {
	case err != nil:
	case t.request.netascii:
		err = r.netascii(t)
	default:
		err = r.transfer(t)
	}
	if err != nil {
		r.deny(t, err)
	}
}

// deny ends a ticket that has no transfer yet.
func (r *service) deny(t *ticket, err error) {
	code, words := refusal(err)
	r.decline(t, code, words)
	e := netboot.Event{Stage: netboot.Refused, Addr: t.peer, Path: t.path, Detail: err.Error()}
	if t.content != nil {
		e.Size = t.content.Size()
		t.content.Close()
	}
	r.saw(e)
	r.desk.ended(t)
}

// transfer gives a ticket to an engine.
func (r *service) transfer(t *ticket) error {
	fit, _ := r.probe.path(t.peer)
	terms := negotiate(t.request.options, t.content.Size(), min(fit, r.desk.limits.Block), r.desk.limits.Window)
	sock, err := openSocket(t.local, t.peer)
	if err != nil {
		return err
	}
	e := r.engines[int(r.turn.Add(1))%len(r.engines)]
	if !e.post(func() { e.add(t, sock, terms) }) {
		sock.close()
		return errStops
	}
	return nil
}
