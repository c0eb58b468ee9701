// Package manage serves the management listener of a machine that takes
// updates: one port, on which the first byte tells who speaks. A TLS handshake
// (0x16) is an operator, who must show a certificate by the operator authority
// that the image names and may then use the routes of package updateapi.
// Everybody else is answered in plain text, read only, as on every machine.
//
// The machine shows the certificate that the attestation server gave it. Until
// it has one, or when it does not attest, it shows a key of this boot, whose
// SHA-256 is on the console and in /v1/status: who reads the console can tell
// the machine from another.
//
// Without an operator authority in the image there are only plain answers.
//
// It runs in PID 1: nothing that comes from the network may panic, and the
// number of connections, the size of messages and the time that is waited are
// bounded (package http1 has the bounds of one connection).
package manage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/agent/updates"
)

// Bounds.
const (
	// MaxOperators bounds the connections of operators at once. Who has not shown a
	// certificate takes none of these places.
	MaxOperators = 16
	// MaxAddress bounds the connections of one address: silent ones of one client
	// must not keep the others out.
	MaxAddress = http1.MaxConns / 2
	// MaxHandshakes bounds the TLS handshakes of one address at once: each costs a
	// signature and some 50 KB.
	MaxHandshakes = 8
	firstByte     = 5 * time.Second
	handshake     = 10 * time.Second
	quiet         = 10 * time.Second // between two lines of the log about refused connections
)

// server is the state of Run.
type server struct {
	m        updates.Machine
	c        updates.Client
	operator *x509.Certificate // nil: nobody is let in
	own      tls.Certificate   // of this boot

	changing  sync.Mutex // one change of the slots at a time
	operators chan struct{}

	mu      sync.Mutex
	given   []byte          // what current was made of
	current tls.Certificate // as the attestation server gave it
	key     string          // that was told last
	refused time.Time       // last line about it
	silent  int             // refusals since
	from    crowd           // connections
	shaking crowd           // and handshakes
}

// crowd counts by address.
type crowd map[netip.Prefix]int

// Run serves m.Listener until the context ends.
func Run(ctx context.Context, m updates.Machine, c updates.Client) {
	s := &server{m: m, c: c, operators: make(chan struct{}, MaxOperators), from: crowd{}, shaking: crowd{}}
	if err := s.setUp(); err != nil {
		m.Problem("management: %v", err)
		s.operator = nil
	}
	s.tellKey()
	stop := context.AfterFunc(ctx, func() { m.Listener.Close() })
	defer stop()
	s.accept(ctx)
}

func (s *server) setUp() (err error) {
	t := s.m.Spec.Trust
	if t == nil || len(t.Operator) == 0 {
		s.m.Logf("management: the image names no operator authority: nobody can update this machine over the network")
		return nil
	}
	if s.operator, err = x509.ParseCertificate(t.Operator); err != nil {
		return fmt.Errorf("read the image's operator authority: %w", err)
	}
	s.own, err = selfSigned()
	return err
}

// accept hands connections on until the context ends.
func (s *server) accept(ctx context.Context) {
	places := make(chan struct{}, http1.MaxConns)
	var active sync.WaitGroup
	defer active.Wait()
	for {
		places <- struct{}{}
		c, err := s.m.Listener.Accept()
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, net.ErrClosed) {
			s.m.Problem("management: the listener was closed")
			return
		}
		if err != nil { // out of descriptors, or the peer left: passes by itself
			<-places
			time.Sleep(50 * time.Millisecond)
			continue
		}
		from := site(c.RemoteAddr())
		if !s.enter(s.from, from, MaxAddress) {
			c.Close()
			<-places
			continue
		}
		active.Go(func() {
			defer func() { s.leave(s.from, from); <-places }()
			s.serve(ctx, c)
		})
	}
}

// site is what counts as one address: an IPv6 host has a whole /64.
func site(a net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := at.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// enter counts one of an address; false: it has enough.
func (s *server) enter(c crowd, from netip.Prefix, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c[from] >= most {
		return false
	}
	c[from]++
	return true
}

func (s *server) leave(c crowd, from netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c[from]--; c[from] == 0 {
		delete(c, from)
	}
}

// serve answers one connection. A panic ends it and nothing else.
func (s *server) serve(ctx context.Context, c net.Conn) {
	defer func() {
		if v := recover(); v != nil {
			s.m.Logf("management: %v", v)
		}
	}()
	defer c.Close()
	p := &peeked{Conn: c}
	c.SetReadDeadline(time.Now().Add(firstByte))
	if _, err := io.ReadFull(c, p.first[:]); err != nil {
		return
	}
	s.tellKey()
	if p.first[0] == recordHandshake && s.operator != nil {
		s.secure(ctx, p)
		return
	}
	http1.Conn{Handle: s.plain}.Serve(p)
}

// recordHandshake is the first byte of a TLS connection (RFC 8446 section 5.1),
// and of no HTTP request.
const recordHandshake = 0x16

// secure lets an operator in.
func (s *server) secure(ctx context.Context, p *peeked) {
	c := tls.Server(p, s.config())
	if err := s.shake(ctx, p, c); err != nil {
		s.refuse(p, err)
		linger(p)
		return
	}
	select {
	case s.operators <- struct{}{}:
		defer func() { <-s.operators }()
	default:
		s.refuse(p, errors.New("too many connections of operators"))
		return
	}
	p.SetDeadline(time.Time{})
	o := operator{s, c.ConnectionState().PeerCertificates[0].Subject.CommonName, p.RemoteAddr()}
	http1.Conn{MaxBody: maxBody, Handle: o.handle}.Serve(c)
}

// shake makes the handshake, in one of the places of its address.
func (s *server) shake(ctx context.Context, p *peeked, c *tls.Conn) error {
	from := site(p.RemoteAddr())
	if !s.enter(s.shaking, from, MaxHandshakes) {
		return errors.New("too many handshakes of one address")
	}
	defer s.leave(s.shaking, from)
	p.SetDeadline(time.Now().Add(handshake))
	return c.HandshakeContext(ctx)
}

// refuse logs why somebody was not let in, but not for each of a flood.
func (s *server) refuse(c net.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.refused) < quiet {
		s.silent++
		return
	} else {
		s.refused = now
	}
	more := ""
	if s.silent > 0 {
		more = fmt.Sprintf(" (and %d more since the last such line)", s.silent)
	}
	s.silent = 0
	s.m.Logf("management: %v refused: %.200v%s", c.RemoteAddr(), err, more)
}

// linger reads what the client has sent already, shortly: closing with unread
// bytes makes the kernel send a reset that can overtake the alert, and the
// client would not learn why.
func linger(p *peeked) {
	p.CloseWrite()
	p.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	io.Copy(io.Discard, io.LimitReader(p, 64<<10))
}

// peeked is a connection whose first byte was read already.
type peeked struct {
	net.Conn
	first [1]byte
	given bool
}

// Read implements io.Reader.
func (p *peeked) Read(b []byte) (int, error) {
	if p.given || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.given = true
	b[0] = p.first[0]
	return 1, nil
}

// CloseWrite lets the client read the answer to its end.
func (p *peeked) CloseWrite() error {
	if c, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
