package tftp

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// TestNetasciiBytes: every line end is CR LF and every CR has its NUL (RFC 764), over many
// blocks, of which each size of the last occurs; blocks are sent again when they are lost.
func TestNetasciiBytes(t *testing.T) {
	r := newRig(t, &Server{Timeout: 20 * time.Millisecond}, "127.0.0.1:0")
	for _, n := range []int{0, 1, 511, 512, 513, 1024, 30_000} {
		b := bytes.Repeat([]byte("a\nb\rc\r\n"), n/7+1)[:n]
		r.put("a", b)
		c := dial(t, r.addr)
		lost := 0
		c.in = func(b []byte) [][]byte {
			if lost++; lost%5 == 2 {
				return nil
			}
			return [][]byte{b}
		}
		f := &fetched{client: c, block: plainBlock, window: 1}
		c.send(rq(opRRQ, "a", "netascii"))
		for !f.done {
			p, _, err := c.receive(5 * time.Second)
			if err != nil {
				t.Fatal(n, len(f.data), err)
			}
			if err := f.take(p); err != nil {
				t.Fatal(err)
			}
		}
		want := strings.NewReplacer("\n", "\r\n", "\r", "\r\x00").Replace(string(b))
		if string(f.data) != want {
			t.Errorf("%d bytes: %d came, want %d", n, len(f.data), len(want))
		}
		stagesAre(t, r, c, netboot.First, netboot.Last)
		if _, e := r.log.of(c.addr()); e.Bytes != int64(n) {
			t.Errorf("%+v", e)
		}
	}
	r.released(t)
}

// TestNetasciiAnew: a client that asks anew from its port, at once or while it is served,
// leaves nothing behind of what it had asked for before.
func TestNetasciiAnew(t *testing.T) {
	r := newRig(t, &Server{Limits: Limits{Transfers: 4}}, "127.0.0.1:0")
	r.put("a", noise(5000))
	r.put("b", noise(5000))
	for range 20 {
		c := dial(t, r.addr)
		for _, name := range []string{"a", "b", "a", "b"} {
			c.sendTo(rq(opRRQ, name, "netascii"), c.to)
		}
		c.receive(5 * time.Second)
		c.sendTo(rq(opRRQ, "a", "netascii"), c.to)
		until(t, "only the last is served", func() bool { return r.Stats().Active <= 1 && r.Stats().Waiting == 0 })
		c.sendTo(rrq("a"), c.to)
		until(t, "the last is left", func() bool {
			for {
				b, from, err := c.receive(time.Millisecond)
				if err != nil {
					return r.Stats().Active == 0
				}
				if opcode(b) == opDATA {
					c.sendTo(errorPacket(0, "enough"), from)
				}
			}
		})
	}
	r.released(t)
}

// TestNetasciiUnheard: an address that may be forged gets the first block as often as it
// does in octets.
func TestNetasciiUnheard(t *testing.T) {
	r := newRig(t, &Server{Timeout: 20 * time.Millisecond}, "127.0.0.1:0")
	r.put("a", noise(5000))
	c := dial(t, r.addr)
	c.send(rq(opRRQ, "a", "netascii"))
	packets := 0
	for ; ; packets++ {
		if _, _, err := c.receive(400 * time.Millisecond); err != nil {
			break
		}
	}
	if packets != 1+retriesUnheard {
		t.Errorf("%d packets", packets)
	}
	stagesAre(t, r, c, netboot.First, netboot.Broken)
	r.released(t)
}

func TestNetasciiAbort(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(5000))
	c, stranger := dial(t, r.addr), dial(t, r.addr)
	c.send(rq(opRRQ, "a", "netascii"))
	c.receive(5 * time.Second)
	stranger.sendTo(ackPacket(1), c.peer)
	if b, _, err := stranger.receive(5 * time.Second); err != nil || !bytes.Equal(b, unknownTID) {
		t.Errorf("a stranger gets %q, %v", b, err)
	}
	c.send(errorPacket(3, "disk \x1b[2J full\n"))
	stagesAre(t, r, c, netboot.First, netboot.Broken)
	if _, e := r.log.of(c.addr()); strings.ContainsAny(e.Detail, "\x1b\n") || !strings.Contains(e.Detail, `error 3 "disk ?[2J full?"`) {
		t.Errorf("%q", e.Detail)
	}
	r.released(t)
}

// late is a source whose files come when their client is not waited for any more.
type late struct{ asked, over atomic.Bool }

func (l *late) Open(ctx context.Context, _ netboot.Request) (netboot.Content, error) {
	l.asked.Store(true)
	<-ctx.Done()
	time.Sleep(50 * time.Millisecond)
	l.over.Store(true)
	return nil, errors.New("too late")
}

// TestNothingOutlivesServe: when Serve returns nothing uses its source any more, neither
// one that still looks for a file nor contents that were being sent.
func TestNothingOutlivesServe(t *testing.T) {
	l := &late{}
	r := newRig(t, &Server{Source: l}, "127.0.0.1:0")
	c := dial(t, r.addr)
	c.send(rrq("a"))
	until(t, "it is asked", l.asked.Load)
	r.stop()
	if !l.over.Load() {
		t.Error("the source is still being asked")
	}
	for _, mode := range []string{"octet", "netascii"} {
		r := newRig(t, &Server{}, "127.0.0.1:0")
		r.put("a", noise(5000))
		c := dial(t, r.addr)
		c.send(rq(opRRQ, "a", mode))
		c.receive(5 * time.Second)
		r.stop()
		if r.shelf.open != 0 || r.Stats().Active != 0 {
			t.Errorf("%s: %d contents are open", mode, r.shelf.open)
		}
		if stages, _ := r.log.of(c.addr()); len(stages) != 2 {
			t.Errorf("%s: %v", mode, stages)
		}
		if b, _, err := c.receive(5 * time.Second); err != nil || opcode(b) != opERROR {
			t.Errorf("%s: %q, %v", mode, b, err)
		}
	}
}
