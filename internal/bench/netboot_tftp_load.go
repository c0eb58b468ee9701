package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tftpLoad is a crowd of clients that fetch one file at once: the same for every
// server. Few threads run them all, so that what is measured is the servers.
type tftpLoad struct {
	server  netip.AddrPort
	file    string
	size    int64
	clients int
	block   int
	window  int
	within  time.Duration               // after which it ends, whether they have it all or not; 0: no bound
	patient time.Duration               // a client without a packet for so long has failed; 0: 15 s
	lose    uint64                      // block that each client does not see when it comes first; 0: none
	from    func(client int) netip.Addr // address of a client; nil: loopback's, of all
	path    func(client int) string     // of the file of a client; nil: file
	// take is how long a client is busy with each block, and turn how long before it
	// acknowledges: firmware is no match for loopback. For a single client only.
	take, turn time.Duration
}

// apart gives each client an address of its own, as machines have.
func apart(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}) }

// tftpOutcome is what came of it.
type tftpOutcome struct {
	bytes   int64
	took    time.Duration
	done    []float64 // seconds until each client that was served had it all
	failed  int
	first   error         // of the failures
	stalled time.Duration // longest time between two packets of a client
	each    []*tftpClient
}

func (o tftpOutcome) rate() float64 { return float64(o.bytes) / o.took.Seconds() }

// tftpClient is one client: RFC 1350, RFC 7440 section 4.
type tftpClient struct {
	fd     int
	file   string
	out    [4]byte
	peer   unix.RawSockaddrInet4
	known  bool // the server's port of this transfer
	block  int
	window uint64
	last   uint64 // block that came in order
	acked  uint64
	gap    bool
	lost   bool
	over   bool
	bytes  int64
	heard  time.Duration
	worst  time.Duration
	ended  time.Duration
	sentAt time.Duration
	err    error
}

// run lets all clients fetch.
func (l tftpLoad) run() (o tftpOutcome, err error) {
	threads := min(l.clients, runtime.NumCPU())
	all := make([]*tftpClient, l.clients)
	for i := range all {
		if all[i], err = l.open(i); err != nil {
			return o, err
		}
		defer unix.Close(all[i].fd)
	}
	begin := time.Now()
	var wait sync.WaitGroup
	for i := range threads {
		wait.Go(func() { l.thread(begin, all[i*len(all)/threads:(i+1)*len(all)/threads]) })
	}
	wait.Wait()
	o.took = time.Since(begin)
	o.each = all
	for _, c := range all {
		o.add(c)
	}
	return o, nil
}

func (o *tftpOutcome) add(c *tftpClient) {
	o.bytes += c.bytes
	o.stalled = max(o.stalled, c.worst)
	if c.err == nil {
		o.done = append(o.done, c.ended.Seconds())
	} else if o.failed++; o.first == nil {
		o.first = c.err
	}
}

func (l tftpLoad) open(i int) (*tftpClient, error) {
	c := &tftpClient{window: 1, file: l.file}
	if l.path != nil {
		c.file = l.path(i)
	}
	var err error
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	from := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if l.from != nil {
		from.Addr = l.from(i).As4()
	}
	return c, unix.Bind(c.fd, from)
}

// thread runs clients, one by waiting in recvfrom(2), more of them by epoll(7).
func (l tftpLoad) thread(begin time.Time, clients []*tftpClient) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	poll, err := unix.EpollCreate1(0)
	if err != nil {
		clients[0].err = err
		return
	}
	defer unix.Close(poll)
	w := &tftpWorker{tftpLoad: l, begin: begin, clients: clients, left: len(clients), in: make([]byte, 65536)}
	for i, c := range clients {
		if len(clients) == 1 {
			err = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000})
		} else {
			_ = unix.SetNonblock(c.fd, true)
			err = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
		}
		if err != nil {
			c.err = err
			return
		}
		w.ask(c)
	}
	w.all(poll)
}

type tftpWorker struct {
	tftpLoad
	begin   time.Time
	clients []*tftpClient
	left    int
	in      []byte
	from    unix.RawSockaddrInet4
}

func (w *tftpWorker) all(poll int) {
	var events [256]unix.EpollEvent
	swept := time.Duration(0)
	for w.left > 0 {
		n := 1
		if len(w.clients) > 1 {
			n, _ = unix.EpollWait(poll, events[:], 200)
		}
		at := time.Since(w.begin)
		for i := range max(n, 0) {
			if c := w.clients[events[i].Fd]; !c.over {
				w.read(c, at)
			}
		}
		if at-swept > 200*time.Millisecond {
			swept = at
			w.sweep(at)
		}
	}
}

// sweep ends clients that wait for too long, and all of them when the time is up. A
// request that nobody has answered is sent again, as firmware does.
func (w *tftpWorker) sweep(at time.Duration) {
	patient := w.patient
	if patient == 0 {
		patient = 15 * time.Second
	}
	for _, c := range w.clients {
		switch {
		case c.over:
		case w.within > 0 && at > w.within:
			w.end(c, at, nil)
		case at-c.heard > patient:
			w.end(c, at, fmt.Errorf("nothing came for %s", patient))
		case !c.known && at-c.sentAt > 4*time.Second:
			w.ask(c)
		}
	}
}

func (w *tftpWorker) end(c *tftpClient, at time.Duration, err error) {
	c.over, c.err, c.ended = true, err, at
	w.left--
	if c.known && (err != nil || c.bytes < w.size) {
		w.send(c, []byte{0, 5, 0, 0, 'e', 'n', 'd', 0})
	}
}

func (w *tftpWorker) ask(c *tftpClient) {
	b := append([]byte{0, 1}, c.file+"\x00octet\x00"...)
	if w.block != 512 {
		b = append(b, "blksize\x00"+strconv.Itoa(w.block)+"\x00"...)
	}
	if w.window > 1 {
		b = append(b, "windowsize\x00"+strconv.Itoa(w.window)+"\x00"...)
	}
	c.block, c.sentAt = 512, time.Since(w.begin)
	c.peer = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: w.server.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&c.peer.Port))[:], w.server.Port())
	w.send(c, b)
}

func (w *tftpWorker) send(c *tftpClient, b []byte) {
	unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, uintptr(unsafe.Pointer(&c.peer)), unix.SizeofSockaddrInet4)
}

func (w *tftpWorker) read(c *tftpClient, at time.Duration) {
	size := uint32(unix.SizeofSockaddrInet4)
	call := unix.Syscall6
	if len(w.clients) > 1 { // it does not block
		call = unix.RawSyscall6
	}
	r, _, errno := call(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&w.in[0])), uintptr(len(w.in)), 0, uintptr(unsafe.Pointer(&w.from)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 || r < 4 {
		return
	}
	if c.known && (w.from.Addr != c.peer.Addr || w.from.Port != c.peer.Port) {
		return // of another transfer: RFC 1350 section 4
	}
	if len(w.clients) == 1 {
		at = time.Since(w.begin)
	}
	if c.known {
		c.worst = max(c.worst, at-c.heard)
	}
	c.heard = at
	if !c.known {
		c.known, c.peer = true, w.from
	}
	b := w.in[:r]
	switch b[1] {
	case 3:
		w.data(c, b, at)
	case 5:
		w.end(c, at, errors.New(strings.TrimRight(string(b[4:]), "\x00")))
	case 6:
		c.accept(b)
		w.ack(c, 0)
	}
}

// accept takes the options of an OACK.
func (c *tftpClient) accept(b []byte) {
	f := strings.Split(string(b[2:]), "\x00")
	for i := 0; i+1 < len(f); i += 2 {
		n, _ := strconv.Atoi(f[i+1])
		switch strings.ToLower(f[i]) {
		case "blksize":
			c.block = n
		case "windowsize":
			c.window = uint64(n)
		}
	}
}

// busy computes for as long, as firmware does, which never sleeps.
func busy(d time.Duration) {
	if d == 0 {
		return
	}
	for begin := time.Now(); time.Since(begin) < d; {
	}
}

func (w *tftpWorker) ack(c *tftpClient, block uint64) {
	busy(w.turn)
	c.acked = block
	c.out = [4]byte{0, 4, byte(block >> 8), byte(block)}
	w.send(c, c.out[:])
}

func (w *tftpWorker) data(c *tftpClient, b []byte, at time.Duration) {
	if binary.BigEndian.Uint16(b[2:]) != uint16(c.last+1) {
		if c.window > 1 && !c.gap {
			c.gap = true
			w.ack(c, c.last)
		}
		return
	}
	if c.last+1 == w.lose && !c.lost {
		c.lost = true
		return
	}
	busy(w.take)
	c.gap = false
	c.last++
	c.bytes += int64(len(b) - 4)
	short := len(b)-4 < c.block
	if short || c.last-c.acked >= c.window {
		w.ack(c, c.last)
	}
	if short && c.bytes != w.size {
		w.end(c, at, fmt.Errorf("%d bytes came of %d", c.bytes, w.size))
	} else if short {
		w.end(c, at, nil)
	}
}
