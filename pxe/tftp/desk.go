package tftp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// patience is how long a client that waits for a transfer is believed to be there after
// its last request: firmware asks again within 4 s and gives up after 20 to 60.
const patience = 20 * time.Second

// ticket is a request from when it was heard until its transfer has ended.
type ticket struct {
	peer    netip.AddrPort
	local   netip.Addr // that was asked
	request request
	path    string
	raw     string       // the request's bytes
	heard   time.Time    // when it was heard last
	dropped atomic.Bool  // another request has taken its place
	answer  atomic.Int64 // when its client was last heard, in nanoseconds of the engines' clock; 0: only its request
	cancel  func()       // ends its transfer; set by whoever runs it, under the desk's lock
	content netboot.Content
}

// desk takes requests, lets so many run at once, and knows them by their client's
// address and port.
type desk struct {
	server *Server
	limits Limits
	start  func(*ticket)
	work   sync.WaitGroup // goroutines of tickets

	mu      sync.Mutex
	meter   meter
	tickets map[netip.AddrPort]*ticket
	queue   []*ticket
	active  int
	closed  bool
	idle    chan struct{} // closed when closed and nothing is active
}

func newDesk(s *Server) *desk {
	l := s.Limits.filled()
	return &desk{server: s, limits: l, meter: meter{limits: l, sources: map[netip.Addr]*source{}},
		tickets: map[netip.AddrPort]*ticket{}, idle: make(chan struct{})}
}

// ask is called with each read request. Its client may have sent it before: what it
// says anew while it waits counts as a sign of life, and nothing else, since the answer
// comes by itself. Only when the old transfer is dead, or of another file, does the new
// one take its place; firmware that starts anew uses the same port again.
func (d *desk) ask(t *ticket, clock int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	if old := d.tickets[t.peer]; old != nil {
		if old.heard = t.heard; old.raw == t.raw && !old.dead(clock, d.server.timeout()) {
			return
		}
		d.drop(old)
	}
	if len(d.queue) >= d.limits.Waiting || !d.meter.take(t.peer.Addr(), t.heard) {
		d.server.counts.dropped.Add(1)
		return
	}
	d.tickets[t.peer] = t
	d.queue = append(d.queue, t)
	d.next(t.heard)
}

// dead reports whether a transfer that had begun is silent for longer than it waits for
// an acknowledgement.
func (t *ticket) dead(clock int64, wait time.Duration) bool {
	last := t.answer.Load()
	return last > 0 && time.Duration(clock-last) > wait
}

// drop ends a request whose client wants something else. A running one is still active
// until it has ended.
func (d *desk) drop(t *ticket) {
	delete(d.tickets, t.peer)
	t.dropped.Store(true)
	if i := slices.Index(d.queue, t); i >= 0 {
		d.queue = slices.Delete(d.queue, i, i+1)
		d.meter.give(t.peer.Addr())
		return
	}
	if t.cancel != nil {
		t.cancel()
	}
}

// next starts as many as may run.
func (d *desk) next(now time.Time) {
	for d.active < d.limits.Transfers && len(d.queue) > 0 {
		t := d.queue[0]
		d.queue[0], d.queue = nil, d.queue[1:]
		if now.Sub(t.heard) > patience {
			delete(d.tickets, t.peer)
			d.meter.give(t.peer.Addr())
			d.server.counts.dropped.Add(1)
			continue
		}
		d.active++
		d.work.Go(func() { d.start(t) })
	}
	d.server.counts.active.Store(int64(d.active))
	d.server.counts.waiting.Store(int64(len(d.queue)))
}

// running tells the desk how to end a transfer; false if it is to end at once.
func (d *desk) running(t *ticket, cancel func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.cancel = cancel
	return !t.dropped.Load()
}

// ended takes a ticket that had run.
func (d *desk) ended(t *ticket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tickets[t.peer] == t {
		delete(d.tickets, t.peer)
	}
	d.meter.give(t.peer.Addr())
	d.active--
	d.next(time.Now())
	d.settle()
}

// close takes no more requests, and forgets those that wait.
func (d *desk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed, d.queue = true, nil
	d.settle()
}

func (d *desk) settle() {
	if d.closed && d.active == 0 {
		close(d.idle)
	}
}

// timeout is the longest wait for an acknowledgement.
func (s *Server) timeout() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return time.Second
}

func (s *Server) retries() int {
	if s.Retries > 0 {
		return s.Retries
	}
	return 8
}

// refusal is the ERROR for an error of the source: one of few sentences, whatever the
// error says, since that may be a path of the server.
func refusal(err error) (code uint16, words string) {
	switch {
	case errors.Is(err, netboot.ErrNotFound), errors.Is(err, errName):
		return codeNotFound, "no such file"
	case errors.Is(err, netboot.ErrDenied):
		return codeDenied, "not for this client"
	case errors.Is(err, netboot.ErrBusy):
		return codeOther, "too many transfers, ask again later"
	}
	return codeOther, "not available"
}

// fetch gets the content that a ticket asks for.
func (d *desk) fetch(ctx context.Context, t *ticket) (err error) {
	if t.path, err = cleanName(t.request.name); err != nil {
		return err
	}
	t.content, err = d.server.open(ctx, netboot.Request{Method: netboot.TFTP, Path: t.path, Addr: t.peer})
	return err
}
