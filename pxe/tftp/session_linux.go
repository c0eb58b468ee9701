package tftp

import (
	"fmt"
	"sync"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// session is a transfer of an engine.
type session struct {
	sender
	*ticket
	*socket
	slot, round int32
	begun       bool // the content may go out
	first       bool // the first block went out
	uncut       bool // windows go out packet by packet: the kernel does not cut them for this path
	full        bool // the socket's buffer is full
	timer       int  // place in the heap
	due         time.Duration
	ahead       *[header + readAhead]byte // lockstep only
	aheadAt     int64
	aheadLen    int
}

var aheads = sync.Pool{New: func() any { return new([header + readAhead]byte) }}

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
		e.desk.work.Go(func() { e.askBegin(s) })
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
	e.count()
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
	e.desk.work.Go(func() { // neither a content's Close nor a watcher keeps the others waiting
		s.content.Close()
		e.server.saw(netboot.Event{Stage: stage, Addr: s.peer, Path: s.path, Bytes: s.got(), Size: s.size, Detail: detail})
		e.desk.ended(s.ticket)
	})
}
