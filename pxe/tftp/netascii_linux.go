package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pin/tftp/v3/netascii"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// text is a transfer in netascii (RFC 764), by a goroutine of its own: in lockstep and
// without options. How long it is shows at its end, so it is none of an engine's, and as
// nothing boots in netascii it need not be fast.
//
// To hand such requests to the server of github.com/pin/tftp/v3 was tried: it knows them
// by their client's port alone, sends the first block nine times to an address that may
// be forged, from whatever address routing chooses, and cannot be told to end one.
type text struct {
	run  *service
	t    *ticket
	ctx  context.Context // ends it
	conn *net.UDPConn
	in   counted
	sent int64 // bytes of the content that were acknowledged
	got  [header + plainBlock]byte
}

var (
	errAnew  = errors.New("the client asked anew")
	errQuiet = errors.New("no answer in time")
	errStops = errors.New("the server stops")
)

// netascii runs a ticket to its end. An error means that it has not begun.
func (r *service) netascii(t *ticket) error {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.local.WithZone(t.peer.Addr().Zone()), 0)))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	if !r.desk.running(t, func() { cancel(errAnew) }) {
		cancel(errAnew)
	}
	x := &text{run: r, t: t, ctx: ctx, conn: conn, in: counted{r: io.NewSectionReader(t.content, 0, t.content.Size())}}
	if ctx.Err() != nil {
		r.counts.probed.Add(1)
		x.end(netboot.Probed, context.Cause(ctx).Error())
		return nil
	}
	if err := t.content.Begin(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	x.transfer()
	return nil
}

func (x *text) transfer() {
	x.run.saw(netboot.Event{Stage: netboot.First, Addr: x.t.peer, Path: x.t.path, Size: x.t.content.Size()})
	c, err := &x.run.counts, x.send()
	c.bytes.Add(x.sent)
	if err != nil {
		c.broken.Add(1)
		x.end(netboot.Broken, err.Error())
		return
	}
	c.finished.Add(1)
	x.end(netboot.Last, "")
}

func (x *text) end(stage netboot.Stage, detail string) {
	e := netboot.Event{Stage: stage, Addr: x.t.peer, Path: x.t.path, Bytes: x.sent, Size: x.t.content.Size(), Detail: detail}
	x.t.content.Close()
	x.run.saw(e)
	x.run.desk.ended(x.t)
}

// send sends block after block: the last is that which is not full.
func (x *text) send() error {
	from, b := netascii.ToReader(&x.in), make([]byte, header+plainBlock)
	for block := uint64(1); ; block++ {
		n, err := io.ReadFull(from, b[header:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			if err = nil; x.in.n < x.t.content.Size() {
				err = io.ErrUnexpectedEOF
			}
		}
		if err != nil {
			x.tell("not available")
			return fmt.Errorf("read at %d: %w", x.in.n, err)
		}
		putHeader(b, block)
		if err := x.deliver(b[:header+n], block); err != nil {
			return err
		}
		if x.sent = x.in.n; n < plainBlock {
			return nil
		}
	}
}

// deliver sends a block until it is acknowledged. The first goes to an address that may
// be forged.
func (x *text) deliver(b []byte, block uint64) error {
	retries := x.run.retries()
	if block == 1 {
		retries = min(retries, retriesUnheard)
	}
	for try := range retries + 1 {
		x.run.counts.blocks.Add(1)
		if try > 0 {
			x.run.counts.resent.Add(1)
		}
		// An error is of a path that is gone for now: the same as a packet that was lost.
		_, _ = x.conn.WriteToUDPAddrPort(b, x.t.peer)
		if err := x.hear(uint16(block), time.Now().Add(x.run.timeout())); !errors.Is(err, errQuiet) {
			return err
		}
	}
	return fmt.Errorf("no answer to %d packets", retries+1)
}

// hear waits for the acknowledgement of a block. Those of other blocks are not answered:
// RFC 1123 section 4.2.3.1.
func (x *text) hear(block uint16, until time.Time) error {
	if err := x.conn.SetReadDeadline(until); err != nil {
		return err
	}
	for {
		// Asked after the deadline was set, which may have been that of the end.
		if x.ctx.Err() != nil {
			return x.stopped()
		}
		n, from, err := x.conn.ReadFromUDPAddrPort(x.got[:])
		switch {
		case x.ctx.Err() != nil:
			return x.stopped()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errQuiet
		case err != nil:
			return err
		case from.Port() != x.t.peer.Port() || from.Addr().Unmap().WithZone("") != x.t.peer.Addr().WithZone(""):
			x.stranger(x.got[:n], from)
			continue
		}
		b := x.got[:n]
		if got, ok := ack(b); ok && got == block {
			x.t.answer.Store(int64(now()))
			return nil
		} else if opcode(b) == opERROR {
			code, words := clientError(b)
			return fmt.Errorf("the client broke off: error %d %q", code, words)
		}
	}
}

// stranger answers what is not from the client, as an engine does.
func (x *text) stranger(b []byte, from netip.AddrPort) {
	x.run.counts.strangers.Add(1)
	if opcode(b) != opERROR {
		_, _ = x.conn.WriteToUDPAddrPort(unknownTID, from)
	}
}

func (x *text) stopped() error {
	cause := context.Cause(x.ctx)
	if errors.Is(cause, errStops) {
		x.conn.SetDeadline(time.Time{}) // for one packet more
		x.tell(errStops.Error())
	}
	return cause
}

func (x *text) tell(words string) {
	_, _ = x.conn.WriteToUDPAddrPort(errorPacket(codeOther, words), x.t.peer)
}

// counted counts what was read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
