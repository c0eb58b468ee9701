package tftp

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	pin "github.com/pin/tftp/v3"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// converter serves netascii (RFC 764) by github.com/pin/tftp/v3. That gets requests
// which were read and cleaned here, by a PacketConn that is no socket.
//
// Tuned as measured: 1 s and no random second on top, or a lost packet costs six.
type converter struct {
	run    *service
	server *pin.Server
	feed   *feed

	mu      sync.Mutex
	tickets map[netip.AddrPort]*ticket
}

var errStopped = errors.New("not available")

func newConverter(r *service) *converter {
	c := &converter{run: r, feed: &feed{packets: make(chan packet), closed: make(chan struct{})}, tickets: map[netip.AddrPort]*ticket{}}
	c.server = pin.NewServer(c.read, nil)
	c.server.SetTimeout(r.timeout())
	c.server.SetRetries(r.retries())
	c.server.SetBackoff(func(int) time.Duration { return 0 })
	go c.server.Serve(c.feed)
	return c
}

func (c *converter) close() {
	c.feed.Close()
	go c.server.Shutdown() // waits for transfers, which the grace has ended
}

// start hands a ticket over. pin answers from the address that routing chooses; where
// that is not the one that was asked, no client would take the answer.
func (c *converter) start(t *ticket) {
	if _, source := c.run.probe.path(t.peer); source.Unmap() != t.local.WithZone("") {
		c.run.deny(t, errNetascii)
		return
	}
	c.mu.Lock()
	c.tickets[t.peer] = t
	c.mu.Unlock()
	b := append([]byte{0, opRRQ}, t.path...)
	if !c.feed.put(packet{append(b, "\x00netascii\x00"...), net.UDPAddrFromAddrPort(t.peer)}) {
		c.take(t.peer)
		c.run.deny(t, errStopped)
	}
}

var errNetascii = errors.New("no netascii on this address, ask for octet (binary)")

func (c *converter) take(a netip.AddrPort) *ticket {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tickets[a]
	delete(c.tickets, a)
	return t
}

// read is pin's handler. What it returns goes to the client as text, so it is one of
// our sentences.
func (c *converter) read(_ string, to io.ReaderFrom) error {
	addr := to.(pin.OutgoingTransfer).RemoteAddr()
	a := addr.AddrPort()
	t := c.take(netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	if t == nil {
		return errStopped
	}
	if err := t.content.Begin(); err != nil {
		_, words := refusal(err)
		c.run.counts.refused.Add(1)
		c.end(t, netboot.Refused, 0, err.Error())
		return errors.New(words)
	}
	c.run.saw(netboot.Event{Stage: netboot.First, Addr: t.peer, Path: t.path, Size: t.content.Size()})
	in := &counted{r: io.NewSectionReader(t.content, 0, t.content.Size())}
	if _, err := to.ReadFrom(bufio.NewReaderSize(in, readAhead)); err != nil {
		c.run.counts.broken.Add(1)
		c.end(t, netboot.Broken, in.n, err.Error())
		return errStopped
	}
	c.run.counts.finished.Add(1)
	c.run.counts.bytes.Add(in.n)
	c.end(t, netboot.Last, in.n, "")
	return nil
}

func (c *converter) end(t *ticket, stage netboot.Stage, n int64, detail string) {
	e := netboot.Event{Stage: stage, Addr: t.peer, Path: t.path, Bytes: n, Size: t.content.Size(), Detail: detail}
	t.content.Close()
	c.run.saw(e)
	c.run.desk.ended(t)
}

// counted counts what was read, and hides an error of the content from the client.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errStopped
	}
	return n, err
}

// packet is a request.
type packet struct {
	b    []byte
	from *net.UDPAddr
}

// feed is the PacketConn from which pin reads requests. It never sends.
type feed struct {
	packets chan packet
	closed  chan struct{}
	once    sync.Once
}

func (f *feed) put(p packet) bool {
	select {
	case f.packets <- p:
		return true
	case <-f.closed:
		return false
	}
}

func (f *feed) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-f.packets:
		return copy(b, p.b), p.from, nil
	case <-f.closed:
		time.Sleep(10 * time.Millisecond) // pin asks again until it is shut down
		return 0, nil, net.ErrClosed
	}
}

func (f *feed) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

func (f *feed) LocalAddr() net.Addr                   { return &net.UDPAddr{IP: net.IPv4zero} }
func (f *feed) WriteTo([]byte, net.Addr) (int, error) { return 0, net.ErrClosed }
func (f *feed) SetDeadline(time.Time) error           { return nil }
func (f *feed) SetReadDeadline(time.Time) error       { return nil }
func (f *feed) SetWriteDeadline(time.Time) error      { return nil }
