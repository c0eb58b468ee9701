package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/pxe/netboot"
)

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
	e.finish(s, s.leave(), fmt.Sprintf("read at %d: %v", at, err))
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
	if s.uncut {
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
		s.uncut = true
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
