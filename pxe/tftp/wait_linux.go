package tftp

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
// the far end of a slow network cost nothing. A result of -1 is a packet that was dealt
// with.
func (e *engine) spin() int {
	if e.alone == nil || e.skip > 0 { // a client alone has not answered yet
		if n := e.glance(); n != 0 {
			return n
		}
	}
	if e.skip > 0 {
		e.skip--
		return 0
	}
	for end := now() + spinFor; now() < end; {
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		if n := e.glance(); n != 0 {
			e.miss = 0
			return n
		}
	}
	e.miss = min(e.miss+1, 10)
	e.skip = 1 << e.miss
	return 0
}

// directly is how many packets of a transfer are taken before the rest is looked at: new
// transfers and the end of the server.
const directly = 32

// glance looks without waiting. The packets of a transfer that has no other beside it are
// read from its socket: each call is a thirtieth of what a block in lockstep takes on one
// processor.
func (e *engine) glance() int {
	s := e.alone
	if s == nil || s.full || s.phase == starting || e.direct >= directly { // it starts by a post
		e.direct = 0
		return e.look(0)
	}
	if e.at = now(); !e.take(s) {
		return 0
	}
	e.direct++
	return -1
}

// quiet is how many engines of the process wait without the scheduler's knowledge.
var quiet atomic.Int32
