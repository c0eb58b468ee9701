package tftp

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// origin is where the engines' clock begins.
var origin = time.Now()

func now() time.Duration { return time.Since(origin) }

const (
	readAhead   = 8 << 10      // of a lockstep transfer: one read for several blocks
	oneMessage  = 65000        // that the kernel cuts into packets; a datagram is at most 65,507
	oneSegments = 64           // UDP_MAX_SEGMENTS of kernels before 6.9
	solUDP      = 17           // SOL_UDP
	batch       = 256          // events of one wait
	maxDatagram = 65507 + 1024 // for the buffers
)

// engine is a thread that runs transfers: it waits for all their sockets with one
// epoll, lets their state machines say what is to be done, and does it. A goroutine for
// each transfer costs two more switches per block.
type engine struct {
	server *Server
	desk   *desk
	poll   int
	wake   int // eventfd

	mu    sync.Mutex
	inbox []func()
	dead  bool

	at      time.Duration // now, as of the last wait
	slots   []*session
	free    []int32
	alone   *session // when this engine has no other
	round   int32    // of slots: tells an event of a session that is gone
	timers  timers
	running bool
	hot     bool // packets come
	miss    int  // spins in a row that found nothing
	skip    int  // waits until the next spin
	direct  int  // packets of alone in a row, with no look at all that is waited for

	events  [batch]unix.EpollEvent
	in      [2048]byte
	from    [unix.SizeofSockaddrInet6]byte
	scratch []byte // bytes of the blocks that go out
	heads   [oneSegments][header]byte
	vectors [2 * oneSegments]unix.Iovec
	control [24]byte // CmsgSpace(2)
	message unix.Msghdr
}

func newEngine(s *Server, d *desk) (*engine, error) {
	e := &engine{server: s, desk: d, running: true, scratch: make([]byte, maxDatagram)}
	var err error
	if e.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if e.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, e.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
	}
	if err != nil {
		unix.Close(e.poll)
		unix.Close(e.wake)
		return nil, err
	}
	return e, nil
}

// post has the engine's thread call f; false when it has ended.
func (e *engine) post(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dead {
		return false
	}
	if e.inbox = append(e.inbox, f); len(e.inbox) == 1 {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(e.wake, one[:])
	}
	return true
}

// halt ends the engine's thread and its transfers.
func (e *engine) halt() { e.post(func() { e.running = false }) }

func (e *engine) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for e.running {
		n := e.await()
		e.at = now()
		for i := range n {
			if ev := &e.events[i]; ev.Fd < 0 {
				e.drain()
			} else if s := e.slots[ev.Fd]; s != nil && s.round == ev.Pad {
				e.ready(s, ev.Events)
			}
		}
		e.expire()
	}
	e.end()
}

func (e *engine) drain() {
	var b [8]byte
	_, _ = unix.Read(e.wake, b[:])
	e.mu.Lock()
	todo := e.inbox
	e.inbox = nil
	e.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// end closes what is left.
func (e *engine) end() {
	e.mu.Lock()
	e.dead = true
	todo := e.inbox
	e.inbox = nil
	e.mu.Unlock()
	for _, f := range todo {
		f()
	}
	for _, s := range e.slots {
		if s != nil {
			e.tell(s, codeOther, errStops.Error())
			e.finish(s, s.leave(), errStops.Error())
		}
	}
	unix.Close(e.poll)
	unix.Close(e.wake)
}

// add begins a transfer.
func (e *engine) add(t *ticket, sock *socket, terms terms) {
	e.at = now()
	s := &session{ticket: t, socket: sock, uncut: e.server.uncut}
	var first action
	s.sender, first = newSender(terms, e.server.timeout(), e.server.retries(), e.at)
	if s.window == 1 && s.block <= readAhead {
		s.ahead = aheads.Get().(*[header + readAhead]byte)
	}
	e.place(s)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.slot, Pad: s.round}
	if err := unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, s.fd, &ev); err != nil {
		e.tell(s, codeOther, "not available")
		e.finish(s, s.leave(), fmt.Sprintf("wait for its socket: %v", err))
		return
	}
	s.due = s.deadline
	e.timers.push(s)
	if !e.desk.running(t, func() { e.post(func() { e.cancel(s, errAnew.Error()) }) }) {
		e.cancel(s, errAnew.Error())
		return
	}
	e.act(s, first)
}

func (e *engine) place(s *session) {
	if n := len(e.free); n > 0 {
		s.slot, e.free = e.free[n-1], e.free[:n-1]
	} else {
		s.slot = int32(len(e.slots))
		e.slots = append(e.slots, nil)
	}
	e.round++
	s.round = e.round
	e.slots[s.slot] = s
	e.count()
}

func (e *engine) cancel(s *session, why string) {
	if e.slots[s.slot] == s {
		e.finish(s, s.leave(), why)
	}
}

// ready reads one packet: epoll tells again if there are more, so no transfer starves
// the others.
func (e *engine) ready(s *session, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		s.full = false
		e.watch(s)
		e.flush(s)
		if e.slots[s.slot] != s {
			return
		}
	}
	e.take(s)
}

// take reads a packet and does what it asks for; false when there is none.
func (e *engine) take(s *session) bool {
	n, errno := s.receive(e.in[:], &e.from)
	if errno != 0 {
		return false
	}
	if !s.from(&e.from) {
		e.stranger(s)
		return true
	}
	b := e.in[:n]
	if block, ok := ack(b); ok {
		s.answer.Store(int64(e.at))
		e.act(s, s.step(event{kind: acked, block: block, at: e.at}))
		if s.deadline < s.due && e.slots[s.slot] == s { // what is nearer than before
			s.due = s.deadline
			e.timers.fix(s)
		}
	} else if opcode(b) == opERROR {
		code, words := clientError(b)
		e.finish(s, s.step(event{kind: aborted}), fmt.Sprintf("the client broke off: error %d %q", code, words))
	}
	return true
}

// count notes whether there is one transfer alone, after their number has changed.
func (e *engine) count() {
	e.alone = nil
	if len(e.slots)-len(e.free) == 1 {
		i := slices.IndexFunc(e.slots, func(s *session) bool { return s != nil })
		e.alone = e.slots[i]
	}
}

// stranger answers what is not from the client: RFC 1350 section 4. An ERROR is not
// answered.
func (e *engine) stranger(s *session) {
	e.server.counts.strangers.Add(1)
	if opcode(e.in[:]) == opERROR {
		return
	}
	size := uint32(unix.SizeofSockaddrInet6)
	if s.toLen == unix.SizeofSockaddrInet4 {
		size = s.toLen
	}
	s.socket.send(unknownTID, &e.from, size)
}

var unknownTID = errorPacket(codeTID, "unknown transfer")
