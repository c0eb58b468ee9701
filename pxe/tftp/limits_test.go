package tftp

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

func TestAnswersFromTheAddressThatWasAsked(t *testing.T) {
	for listen, asked := range map[string][]string{"0.0.0.0:0": {"127.0.0.1", "127.0.0.2", "127.9.9.9"}, "[::]:0": {"127.0.0.3", "::1"}, "[::1]:0": {"::1"}} {
		r := newRig(t, &Server{}, listen)
		r.put("a", noise(2000))
		for _, a := range asked {
			for _, mode := range []string{"octet", "netascii"} {
				c := dial(t, netip.AddrPortFrom(netip.MustParseAddr(a), r.addr.Port()))
				c.send(rq(opRRQ, "a", mode))
				b, from, err := c.receive(5 * time.Second)
				if err != nil || from.Addr().Unmap().String() != a || opcode(b) != opDATA {
					t.Errorf("%s asked at %s for %s: %d from %s, %v", listen, a, mode, opcode(b), from, err)
				}
				c.send(errorPacket(0, "enough"))
			}
		}
		r.released(t)
	}
}

func TestLateClientsWait(t *testing.T) {
	r := newRig(t, &Server{Limits: Limits{Transfers: 1, Waiting: 1}}, "127.0.0.1:0")
	r.put("a", noise(600))
	first, second, third := dial(t, r.addr), dial(t, r.addr), dial(t, r.addr)
	first.send(rrq("a"))
	first.receive(5 * time.Second)
	second.send(rrq("a", "tsize", "0"))
	until(t, "one waits", func() bool { return r.Stats().Waiting == 1 })
	second.send(rrq("a", "tsize", "0")) // again, as it does when nothing comes
	third.send(rrq("a"))
	until(t, "one is dropped", func() bool { return r.Stats().Dropped == 1 })
	if b, _, err := second.receive(100 * time.Millisecond); err == nil {
		t.Fatalf("an answer while all are busy: %q", b)
	}
	first.send(ackPacket(1))
	first.receive(5 * time.Second)
	first.send(ackPacket(2))
	b, _, err := second.receive(5 * time.Second)
	if err != nil || opcode(b) != opOACK {
		t.Fatalf("the client that waited got %q, %v", b, err)
	}
	if b, _, err := third.receive(50 * time.Millisecond); err == nil {
		t.Errorf("the client beyond the bound got %q", b)
	}
	second.send(errorPacket(0, "enough"))
	r.released(t)
}

func TestClientStartsAnew(t *testing.T) {
	r := newRig(t, &Server{Timeout: 100 * time.Millisecond, Retries: 100}, "127.0.0.1:0")
	r.put("a", noise(5000))
	r.put("b", noise(600))
	c := dial(t, r.addr)
	c.send(rrq("a"))
	c.receive(5 * time.Second)
	// From the same port, for another file: the first transfer is left.
	other := &client{t: t, conn: c.conn, to: c.to, limit: 5 * time.Second}
	other.in = func(b []byte) [][]byte {
		if opcode(b) == opDATA && len(b) == header+plainBlock && bytes.Equal(b[header:], r.shelf.files["a"][:plainBlock]) {
			other.peer = netip.AddrPort{} // the last of the old one
			return nil
		}
		return [][]byte{b}
	}
	got, err := other.get("b")
	if err != nil || !bytes.Equal(got, r.shelf.files["b"]) {
		t.Fatal(len(got), err)
	}
	r.released(t)
	if s := r.Stats(); s.Broken != 1 || s.Finished != 1 {
		t.Errorf("%+v", s)
	}
}

func TestRepeatedRequestIsOneTransfer(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("a", noise(5000))
	c := dial(t, r.addr)
	for range 20 {
		c.sendTo(rrq("a", "tsize", "0"), c.to)
	}
	got, err := c.get("a", "tsize", "0")
	if err != nil || len(got) != 5000 {
		t.Fatal(len(got), err)
	}
	r.released(t)
	if n := r.shelf.opened["a"]; n != 1 {
		t.Errorf("opened %d times", n)
	}
}

func TestStopLetsTransfersEnd(t *testing.T) {
	r := newRig(t, &Server{Grace: time.Minute}, "127.0.0.1:0")
	r.put("a", noise(3000))
	c := dial(t, r.addr)
	c.send(rrq("a", "tsize", "0"))
	c.receive(5 * time.Second)
	ended := make(chan struct{})
	go func() {
		r.stop()
		close(ended)
	}()
	f := &fetched{client: c, block: plainBlock, window: 1}
	f.answer(0)
	for !f.done {
		b, _, err := c.receive(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.take(b); err != nil {
			t.Fatal(err)
		}
	}
	<-ended
	if !bytes.Equal(f.data, r.shelf.files["a"]) {
		t.Error("other bytes")
	}
}

func TestStopEndsTheRest(t *testing.T) {
	r := newRig(t, &Server{Grace: 10 * time.Millisecond}, "127.0.0.1:0")
	r.put("a", noise(3000))
	c := dial(t, r.addr)
	c.send(rrq("a"))
	c.receive(5 * time.Second)
	r.stop()
	if b, _, err := c.receive(5 * time.Second); err != nil || opcode(b) != opERROR {
		t.Errorf("%q %v", b, err)
	}
	stagesAre(t, r, c, netboot.First, netboot.Broken)
	r.released(t)
}

func TestManyClients(t *testing.T) {
	r := newRig(t, &Server{Limits: Limits{Transfers: 100}}, "127.0.0.1:0")
	r.put("a", noise(200_000))
	var wait sync.WaitGroup
	for i := range 300 {
		wait.Go(func() {
			c := dialFrom(t, r.addr, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 0, byte(i)}), 0))
			c.wait = 30 * time.Second // firmware asks anew meanwhile
			got, err := c.get("a", "blksize", "1428", "windowsize", "4", "tsize", "0")
			if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wait.Wait()
	r.released(t)
	if s := r.Stats(); s.Finished != 300 || s.Bytes != 300*200_000 {
		t.Errorf("%+v", s)
	}
}

// TestLongTimeout: the option holds a transfer for a minute of silence at most, and before
// the client has shown that it is there no longer than the server would.
func TestLongTimeout(t *testing.T) {
	silent := func(s *sender, at time.Duration) time.Duration {
		for from := at; ; {
			out(s, at)
			at = s.deadline
			if s.step(event{kind: expired, at: at}); s.phase == over {
				return at - from
			}
			if s.deadline <= at {
				t.Fatalf("the deadline %s has passed", s.deadline)
			}
		}
	}
	for _, timeout := range []time.Duration{time.Second, 2 * time.Second, 7 * time.Second, 60 * time.Second, 255 * time.Second} {
		s, _ := newSender(terms{size: 50_000, block: 512, window: 2, timeout: timeout, oack: []byte{0, 6}}, time.Second, 8, 0)
		if got := silent(&s, 0); got != 9*time.Second {
			t.Errorf("timeout %s: %s for an address that nobody has shown to be real", timeout, got)
		}
		s, _ = newSender(terms{size: 50_000, block: 512, window: 2, timeout: timeout, oack: []byte{0, 6}}, time.Second, 8, 0)
		s.step(event{kind: acked, at: time.Second})
		s.step(event{kind: begun, at: time.Second})
		out(&s, time.Second)
		s.step(event{kind: acked, block: 2, at: 2 * time.Minute})
		if got := silent(&s, 2*time.Minute); got > time.Minute || got != min(9*timeout, time.Minute) {
			t.Errorf("timeout %s: %s of silence", timeout, got)
		}
	}
}
