package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client is a TFTP client whose network can be made as bad as a test wants.
type client struct {
	t    testing.TB
	conn *net.UDPConn
	to   netip.AddrPort // of requests
	peer netip.AddrPort // of the transfer; zero before its first packet

	// in decides for each packet that comes how often and in which order it is seen: it
	// returns what to deliver now. nil delivers it.
	in func(b []byte) [][]byte
	// out says how often a packet is sent; nil is once.
	out func(b []byte) int
	// wait is after how long without a packet the client asks or acknowledges anew; 0:
	// it is silent.
	wait    time.Duration
	pending [][]byte

	sink func([]byte) // takes the data instead of the result

	oack    [][2]string
	blocks  int // that came in, with repetitions
	packets int
	biggest int
	limit   time.Duration // of silence
}

func dial(t testing.TB, to netip.AddrPort) *client { return dialFrom(t, to, netip.AddrPort{}) }

func dialFrom(t testing.TB, to, from netip.AddrPort) *client {
	t.Helper()
	var local *net.UDPAddr
	if from.IsValid() {
		local = net.UDPAddrFromAddrPort(from)
	}
	conn, err := net.ListenUDP("udp", local)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	c := &client{t: t, conn: conn, to: to, limit: 3 * time.Second}
	t.Cleanup(func() { conn.Close() })
	return c
}

// addr is that of the client as the server sees it.
func (c *client) addr() netip.AddrPort {
	a := c.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	ip := a.Addr().Unmap()
	if ip.IsUnspecified() {
		ip = c.to.Addr().Unmap()
	}
	return netip.AddrPortFrom(ip, a.Port())
}

func rrq(name string, options ...string) []byte { return rq(opRRQ, name, "octet", options...) }

func rq(op byte, name, mode string, options ...string) []byte {
	b := append([]byte{0, op}, name+"\x00"+mode+"\x00"...)
	for _, o := range options {
		b = append(append(b, o...), 0)
	}
	return b
}

func (c *client) send(b []byte) {
	n := 1
	if c.out != nil {
		n = c.out(b)
	}
	to := c.peer
	if !to.IsValid() {
		to = c.to
	}
	for range n {
		c.sendTo(b, to)
	}
}

func (c *client) sendTo(b []byte, to netip.AddrPort) {
	if _, err := c.conn.WriteToUDPAddrPort(b, to); err != nil {
		c.t.Error(err)
	}
}

var errSilent = errors.New("the server is silent")

// receive gives the next packet, or errSilent after d.
func (c *client) receive(d time.Duration) ([]byte, netip.AddrPort, error) {
	deadline := time.Now().Add(d)
	for {
		if len(c.pending) > 0 {
			b := c.pending[0]
			c.pending = c.pending[1:]
			return b, c.peer, nil
		}
		b := make([]byte, 65536)
		_ = c.conn.SetReadDeadline(deadline)
		n, from, err := c.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return nil, from, errSilent
		}
		c.packets++
		c.biggest = max(c.biggest, n)
		if !c.peer.IsValid() {
			c.peer = from
		}
		if c.in == nil {
			return b[:n], from, nil
		}
		c.pending = append(c.pending, c.in(b[:n])...)
	}
}

type refused struct {
	code  uint16
	words string
}

func (r *refused) Error() string { return fmt.Sprintf("refused: %d %s", r.code, r.words) }

func ackPacket(block uint64) []byte {
	return binary.BigEndian.AppendUint16([]byte{0, opACK}, uint16(block))
}

// get fetches a file as firmware does.
func (c *client) get(name string, options ...string) ([]byte, error) {
	f := &fetched{client: c, block: plainBlock, window: 1, options: len(options) > 0}
	request := rrq(name, options...)
	c.send(request)
	f.reply = request
	for !f.done {
		wait := c.wait
		if wait == 0 {
			wait = c.limit
		}
		silent := time.Now()
		b, _, err := c.receive(wait)
		if err != nil {
			if c.wait == 0 || time.Since(silent) > c.limit {
				return f.data, err
			}
			c.send(f.reply)
			continue
		}
		if err := f.take(b); err != nil {
			return f.data, err
		}
	}
	return f.data, nil
}

// fetched is a transfer on the client's side: RFC 7440 section 4, the receiver.
type fetched struct {
	*client
	options bool
	block   int
	window  int
	data    []byte
	last    uint64 // in order
	acked   uint64
	reply   []byte
	done    bool
}

func (f *fetched) take(b []byte) error {
	switch opcode(b) {
	case opERROR:
		code, words := clientError(b)
		return &refused{code, words}
	case opOACK:
		if f.last == 0 {
			f.accept(b)
			f.answer(0)
		}
	case opDATA:
		f.blocks++
		f.takeData(b)
	}
	return nil
}

func (f *fetched) takeData(b []byte) {
	n := binary.BigEndian.Uint16(b[2:])
	if n != uint16(f.last+1) {
		f.answer(f.last) // each time, as EDK II does; RFC 7440 wants it once
		return
	}
	f.last++
	if f.sink != nil {
		f.sink(b[header:])
	} else {
		f.data = append(f.data, b[header:]...)
	}
	f.done = len(b) < f.block+header
	if f.done || f.last-f.acked >= uint64(f.window) {
		f.answer(f.last)
	}
}

func (f *fetched) answer(block uint64) {
	f.acked = block
	f.reply = ackPacket(block)
	f.send(f.reply)
}

// accept reads an OACK.
func (f *fetched) accept(b []byte) {
	p := strings.Split(strings.TrimSuffix(string(b[2:]), "\x00"), "\x00")
	f.oack = nil
	for i := 0; i+1 < len(p); i += 2 {
		f.oack = append(f.oack, [2]string{p[i], p[i+1]})
		n, _ := strconv.Atoi(p[i+1])
		switch strings.ToLower(p[i]) {
		case "blksize":
			f.block = n
		case "windowsize":
			f.window = n
		}
	}
}

func dialAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrFrom(b [4]byte) netip.Addr { return netip.AddrFrom4(b) }
