package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// origin is where the engines' clock begins.
var origin = time.Now()

func now() time.Duration { return time.Since(origin) }

const (
	readAhead   = 8 << 10      // of a lockstep transfer: one read for several blocks
	oneMessage  = 65000        // that the kernel cuts into packets; a datagram is at most 65,507
	oneSegments = 64           // UDP_MAX_SEGMENTS of kernels before 6.9
	solUDP      = 17           // SOL_UDP
	silenceMost = time.Minute  // of a client that named a long timeout
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
	round   int32 // of slots: tells an event of a session that is gone
	timers  timers
	running bool
	hot     bool // packets come
	miss    int  // spins in a row that found nothing
	skip    int  // waits until the next spin

	events  [batch]unix.EpollEvent
	in      [2048]byte
	from    [unix.SizeofSockaddrInet6]byte
	scratch []byte // bytes of the blocks that go out
	heads   [oneSegments][header]byte
	vectors [2 * oneSegments]unix.Iovec
	control [24]byte // CmsgSpace(2)
	message unix.Msghdr
}

// session is a transfer of an engine.
type session struct {
	sender
	*ticket
	*socket
	slot, round int32
	begun       bool // the content may go out
	first       bool // the first block went out
	whole       bool // the kernel does not cut for this path
	full        bool // the socket's buffer is full
	timer       int  // place in the heap
	due         time.Duration
	ahead       *[header + readAhead]byte // lockstep only
	aheadAt     int64
	aheadLen    int
}

var aheads = sync.Pool{New: func() any { return new([header + readAhead]byte) }}

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

// await gives the number of events. While packets come, an engine may wait for the next
// without the scheduler's knowledge, as if it were computing: telling it costs a lockstep
// transfer more than all the rest, since a wait is about as long as the scheduler's
// patience (20 µs), after which it moves the processor to another thread and back. A
// signal of the scheduler (to stop the world, or after 10 ms for others to run) ends the
// wait. Half of the processors may be waited on so; when nothing comes for a millisecond,
// the wait is an ordinary one.
func (e *engine) await() int {
	if e.hot {
		n := e.spin()
		if n == 0 {
			if quiet.Add(1) <= int32(runtime.GOMAXPROCS(0)/2) {
				n = e.look(1)
			}
			quiet.Add(-1)
		}
		if n != 0 {
			return max(n, 0)
		}
	}
	wait := -1
	if s := e.timers.first(); s != nil {
		wait = max(0, int((s.due-now())/time.Millisecond)+1)
	}
	n, err := unix.EpollWait(e.poll, e.events[:], wait)
	e.hot = err == nil && n > 0
	return max(n, 0)
}

// look waits for so many milliseconds; -1 is a signal.
func (e *engine) look(milliseconds uintptr) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.poll), uintptr(unsafe.Pointer(&e.events[0])), batch, milliseconds, 0, 0)
	if errno != 0 {
		return -1
	}
	return int(n)
}

// spinFor is what the kernel's documentation proposes for net.core.busy_poll.
const spinFor = 50 * time.Microsecond

// spin looks again and again for a moment, and lets others have the processor between:
// a client that is near answers before a sleeping processor would be awake. Where none
// did, the next so many waits go without, twice as many each time, so that clients at
// the far end of a slow network cost nothing.
func (e *engine) spin() int {
	n := e.look(0)
	if n != 0 {
		return n
	}
	if e.skip > 0 {
		e.skip--
		return 0
	}
	for end := now() + spinFor; now() < end; {
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		if n = e.look(0); n != 0 {
			e.miss = 0
			return n
		}
	}
	e.miss = min(e.miss+1, 10)
	e.skip = 1 << e.miss
	return 0
}

// quiet is how many engines of the process wait without the scheduler's knowledge.
var quiet atomic.Int32

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
			e.tell(s, codeOther, "the server stops")
			e.finish(s, s.left(), "the server stops")
		}
	}
	unix.Close(e.poll)
	unix.Close(e.wake)
}

// add begins a transfer.
func (e *engine) add(t *ticket, sock *socket, terms terms) {
	e.at = now()
	retries := e.server.retries()
	if terms.timeout > 0 {
		retries = min(retries, max(1, int(silenceMost/terms.timeout)))
	}
	s := &session{ticket: t, socket: sock, whole: e.server.whole}
	var first action
	s.sender, first = newSender(terms, e.server.timeout(), retries, e.at)
	if s.window == 1 && s.block <= readAhead {
		s.ahead = aheads.Get().(*[header + readAhead]byte)
	}
	e.place(s)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.slot, Pad: s.round}
	if err := unix.EpollCtl(e.poll, unix.EPOLL_CTL_ADD, s.fd, &ev); err != nil {
		e.tell(s, codeOther, "not available")
		e.finish(s, s.left(), fmt.Sprintf("wait for its socket: %v", err))
		return
	}
	s.due = s.deadline
	e.timers.push(s)
	if !e.desk.runs(t, func() { e.post(func() { e.cancel(s, "the client asked anew") }) }) {
		e.cancel(s, "the client asked anew")
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
}

func (e *engine) cancel(s *session, why string) {
	if e.slots[s.slot] == s {
		e.finish(s, s.left(), why)
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
	n, errno := s.receive(e.in[:], &e.from)
	if errno != 0 {
		return
	}
	if !s.from(&e.from) {
		e.stranger(s)
		return
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

// act does what the state machine said.
func (e *engine) act(s *session, a action) {
	switch a {
	case nothing:
	case offer:
		s.socket.send(s.oack, &s.to, s.toLen)
	case begin:
		if s.begun {
			e.start(s)
			return
		}
		s.begun = true
		go e.askBegin(s)
	case send:
		e.flush(s)
	case finished:
		e.finish(s, a, "")
	case probed, broken:
		e.finish(s, a, fmt.Sprintf("no answer to %d packets", s.tries))
	}
}

// askBegin runs outside of the engine: it may write to a disk.
func (e *engine) askBegin(s *session) {
	err := s.content.Begin()
	e.post(func() {
		if e.slots[s.slot] != s {
			return
		}
		if err != nil {
			code, words := refusal(err)
			e.tell(s, code, words)
			e.server.counts.refused.Add(1)
			e.close(s, netboot.Refused, err.Error())
			return
		}
		e.at = now()
		e.start(s)
	})
}

func (e *engine) start(s *session) { e.act(s, s.step(event{kind: begun, at: e.at})) }

// expire runs what has waited long enough. A deadline moves on with each packet, its
// place in the heap only when it is reached.
func (e *engine) expire() {
	for s := e.timers.first(); s != nil && s.due <= e.at; s = e.timers.first() {
		a := s.step(event{kind: expired, at: e.at})
		s.due = max(s.deadline, e.at+time.Millisecond)
		if s.phase == starting {
			s.due = e.at + s.wait
		}
		e.timers.fix(s)
		e.act(s, a)
	}
}

func (e *engine) tell(s *session, code uint16, words string) {
	s.socket.send(errorPacket(code, words), &s.to, s.toLen)
}

// finish ends a transfer in the stage that the state machine named.
func (e *engine) finish(s *session, a action, why string) {
	c := &e.server.counts
	switch a {
	case finished:
		c.finished.Add(1)
		e.close(s, netboot.Last, "")
	case broken:
		c.broken.Add(1)
		e.close(s, netboot.Broken, why)
	default:
		c.probed.Add(1)
		e.close(s, netboot.Probed, why)
	}
}

// close frees all that a transfer has.
func (e *engine) close(s *session, stage netboot.Stage, detail string) {
	s.phase = over
	e.slots[s.slot] = nil
	e.free = append(e.free, s.slot)
	e.timers.remove(s)
	s.socket.close()
	if s.ahead != nil {
		aheads.Put(s.ahead)
		s.ahead = nil
	}
	c := &e.server.counts
	c.blocks.Add(int64(s.top + s.resent))
	c.resent.Add(int64(s.resent))
	c.bytes.Add(s.got())
	go func() { // neither a content's Close nor a watcher keeps the others waiting
		s.content.Close()
		e.server.saw(netboot.Event{Stage: stage, Addr: s.peer, Path: s.path, Bytes: s.got(), Size: s.size, Detail: detail})
		e.desk.ended(s.ticket)
	}()
}

// flush sends what may go out, until the socket is full.
func (e *engine) flush(s *session) {
	for !s.full {
		first, n := s.pull()
		if n == 0 {
			return
		}
		var errno unix.Errno
		if s.window == 1 {
			errno = e.sendOne(s, first)
		} else {
			n, errno = e.sendMany(s, first, n)
		}
		switch {
		case errno == unix.EAGAIN:
			s.full = true
			e.watch(s)
			return
		case errno == notRead:
			return
		}
		// Another error is of a path that is gone for now, or of a filter: the same to the
		// transfer as a packet that was lost.
		s.sent(n, e.at)
		if !s.first {
			s.first = true
			e.server.saw(netboot.Event{Stage: netboot.First, Addr: s.peer, Path: s.path, Size: s.size})
		}
	}
}

// notRead stands for a transfer that was ended since its content cannot be read.
const notRead = unix.EBADMSG

// watch waits for room in the socket's buffer while there is none.
func (e *engine) watch(s *session) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.slot, Pad: s.round}
	if s.full {
		ev.Events |= unix.EPOLLOUT
	}
	_ = unix.EpollCtl(e.poll, unix.EPOLL_CTL_MOD, s.fd, &ev)
}

// fill reads bytes of the content, all of b or none.
func (e *engine) fill(s *session, b []byte, at int64) bool {
	n, err := s.content.ReadAt(b, at)
	if n == len(b) {
		return true
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	e.tell(s, codeOther, "not available")
	e.finish(s, s.left(), fmt.Sprintf("read at %d: %v", at, err))
	return false
}

// sendOne sends a block of a lockstep transfer, and then reads what comes after it, so
// that an acknowledgement never waits for a disk. The header goes over the last bytes of
// the block before, which nobody will ask for again.
func (e *engine) sendOne(s *session, block uint64) unix.Errno {
	at, n := s.place(block)
	b := e.scratch
	if s.ahead == nil {
		if !e.fill(s, b[header:header+n], at) {
			return notRead
		}
	} else {
		if !s.holds(at, n) {
			s.aheadAt, s.aheadLen = at, int(min(readAhead, s.size-at))
			if !e.fill(s, s.ahead[header:header+s.aheadLen], at) {
				return notRead
			}
		}
		b = s.ahead[at-s.aheadAt:]
	}
	putHeader(b, block)
	errno := s.socket.send(b[:header+n], &s.to, s.toLen)
	if errno != unix.EAGAIN && s.ahead != nil && block < s.last {
		s.prefetch(block + 1)
	}
	return errno
}

// holds reports whether n bytes from at are in the buffer.
func (s *session) holds(at int64, n int) bool {
	return at >= s.aheadAt && at+int64(n) <= s.aheadAt+int64(s.aheadLen)
}

// prefetch reads a block that will be wanted. An error is found again when it is.
func (s *session) prefetch(block uint64) {
	at, n := s.place(block)
	if s.holds(at, n) {
		return
	}
	s.aheadAt, s.aheadLen = at, int(min(readAhead, s.size-at))
	if got, _ := s.content.ReadAt(s.ahead[header:header+s.aheadLen], at); got < s.aheadLen {
		s.aheadLen = 0
	}
}

func putHeader(b []byte, block uint64) {
	binary.BigEndian.PutUint16(b, opDATA)
	binary.BigEndian.PutUint16(b[2:], uint16(block))
}

// sendMany sends up to n blocks of a window, and tells how many. They go to the kernel
// as one message that it cuts into packets (udp(7), UDP_SEGMENT), so a window passes
// the stack once.
func (e *engine) sendMany(s *session, first uint64, n int) (int, unix.Errno) {
	n = min(n, max(1, oneMessage/(s.block+header)), oneSegments)
	if s.whole {
		n = 1
	}
	at, _ := s.place(first)
	end, last := s.place(first + uint64(n) - 1)
	bytes := e.scratch[:end+int64(last)-at]
	if len(bytes) > 0 && !e.fill(s, bytes, at) {
		return 0, notRead
	}
	v := e.vectors[:0]
	for i := range n {
		h := &e.heads[i]
		putHeader(h[:], first+uint64(i))
		v = append(v, vector(h[:]))
		if k := min(s.block, len(bytes)); k > 0 {
			v = append(v, vector(bytes[:k]))
			bytes = bytes[k:]
		}
	}
	e.message.Iov = &v[0]
	e.message.SetIovlen(len(v))
	e.cut(s, n)
	errno := s.sendMessage(&e.message)
	if n > 1 && errno != 0 && errno != unix.EAGAIN {
		// A device without checksums (EIO), a path with a smaller MTU than its route said
		// (EINVAL, EMSGSIZE), an old kernel: packet by packet from now on.
		s.whole = true
		return e.sendMany(s, first, 1)
	}
	return n, errno
}

func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}

// cut asks for packets of a header and a block each.
func (e *engine) cut(s *session, n int) {
	e.message.Control, e.message.Controllen = nil, 0
	if n == 1 {
		return
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&e.control[0]))
	h.Level, h.Type = solUDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(e.control[unix.CmsgLen(0):], uint16(s.block+header))
	e.message.Control = &e.control[0]
	e.message.SetControllen(unix.CmsgSpace(2))
}
