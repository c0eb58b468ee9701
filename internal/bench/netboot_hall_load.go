package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/pxe/dhcp"
	pxe "github.com/ingot-os/ingot/pxe/netboot"
)

// hall is machines whose firmware boots by PXE. They share a socket for DHCP, as they
// share a link, and know their answers by the hardware address in them.
type hall struct {
	conn     *net.UDPConn
	machines []*hallMachine
	by       map[pxe.MAC]*hallMachine
	asked    atomic.Int64
	size     int64 // of the boot file
}

// hallMachine is one of them.
type hallMachine struct {
	mac          pxe.MAC
	xid          uint32
	answers      chan dhcp.Message
	addr, server netip.Addr
	path         string // of its boot file
	bound, named time.Duration
	done         time.Duration
	bytes        int64
	err          error
}

// newHall makes machines with addresses that follow from a seed.
func newHall(n int, seed uint64, size int64) (*hall, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		failed := raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
			err = errors.Join(unix.BindToDevice(int(fd), "lo"), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
		})
		return errors.Join(failed, err)
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", "0.0.0.0:68")
	if err != nil {
		return nil, err
	}
	h := &hall{conn: conn.(*net.UDPConn), size: size, by: map[pxe.MAC]*hallMachine{}}
	r := rand.New(rand.NewPCG(seed, seed))
	for len(h.machines) < n {
		m := &hallMachine{xid: r.Uint32(), answers: make(chan dhcp.Message, 8)}
		binary.BigEndian.PutUint32(m.mac[2:], r.Uint32())
		m.mac[0], m.mac[1] = 0x52, 0x54
		if h.by[m.mac] == nil {
			h.by[m.mac] = m
			h.machines = append(h.machines, m)
		}
	}
	go h.listen()
	return h, nil
}

// listen hands each answer to its machine.
func (h *hall) listen() {
	b := make([]byte, dhcp.MaxSize)
	for {
		n, _, err := h.conn.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if m, bad := dhcp.Parse(b[:n]); err == nil && bad == nil && m.Op == 2 {
			if machine := h.by[m.MAC()]; machine != nil && machine.xid == m.XID {
				select {
				case machine.answers <- m:
				default:
				}
			}
		}
	}
}

// boot switches all of them on.
func (h *hall) boot(method pxe.Method) (o hallOutcome) {
	begin := time.Now()
	var all sync.WaitGroup
	for _, m := range h.machines {
		all.Go(func() {
			if m.err = h.address(m, begin); m.err == nil && method == pxe.HTTP {
				m.bytes, m.err = httpLoad{server: netip.AddrPortFrom(m.server, 80), from: m.addr, path: m.path, size: h.size, probe: true}.client()
				m.done = time.Since(begin)
			}
		})
	}
	all.Wait()
	if method == pxe.TFTP {
		h.fetch(begin)
	}
	for _, m := range h.machines {
		o.add(m)
	}
	o.Asked = int(h.asked.Load())
	return o
}

func (o *hallOutcome) add(m *hallMachine) {
	o.Bytes += m.bytes
	if m.err != nil {
		if o.Failed++; o.First == "" {
			o.First = fmt.Sprintf("%s: %v", m.mac, m.err)
		}
		return
	}
	o.Bound, o.Named, o.Done = append(o.Bound, m.bound.Seconds()), append(o.Named, m.named.Seconds()), append(o.Done, m.done.Seconds())
	o.Took = max(o.Took, m.done.Seconds()-m.named.Seconds())
}

// fetch has those that have a name load by TFTP, each from its address.
func (h *hall) fetch(begin time.Time) {
	var ready []*hallMachine
	for _, m := range h.machines {
		if m.err == nil {
			ready = append(ready, m)
		}
	}
	if len(ready) == 0 {
		return
	}
	load := tftpLoad{server: netip.AddrPortFrom(ready[0].server, 69), size: h.size, clients: len(ready), block: ovmfBlock, window: ovmfWindow, patient: hallPatience,
		from: func(i int) netip.Addr { return ready[i].addr }, path: func(i int) string { return ready[i].path }}
	before := time.Since(begin)
	o, err := load.run()
	for i, m := range ready {
		if m.err = err; err == nil {
			m.bytes, m.done, m.err = o.each[i].bytes, before+o.each[i].ended, o.each[i].err
		}
	}
}

// address is what firmware does before it loads: DISCOVER, REQUEST, and REQUEST on port
// 4011 from its new address.
func (h *hall) address(m *hallMachine, begin time.Time) error {
	everyone := netip.MustParseAddrPort("255.255.255.255:67")
	offer, err := h.ask(m, m.message(dhcp.Discover), everyone, dhcp.Offer)
	if err != nil {
		return err
	}
	m.addr, m.server = offer.Your, addressOf(offer.Options.Get(54))
	if !m.addr.IsValid() || !m.server.IsValid() {
		return errors.New("the offer has no address")
	}
	request := m.message(dhcp.Request)
	request.Options.Set(50, m.addr.AsSlice())
	request.Options.Set(54, m.server.AsSlice())
	if _, err = h.ask(m, request, everyone, dhcp.Ack); err != nil {
		return err
	}
	m.bound = time.Since(begin)
	again := m.message(dhcp.Request)
	again.Client = m.addr
	named, err := h.ask(m, again, netip.AddrPortFrom(m.server, 4011), dhcp.Ack)
	if m.path = named.File; err == nil && !strings.HasPrefix(m.path, "boot/"+m.mac.Plain()+"/") {
		err = fmt.Errorf("the boot file's name is %q", m.path)
	}
	m.named = time.Since(begin)
	return err
}

func addressOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// waits are those of PXE 2.1 section 2.2.2: 4, 8, 16 and 32 s.
var waits = []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second}

func (h *hall) ask(m *hallMachine, q dhcp.Message, to netip.AddrPort, want dhcp.Type) (dhcp.Message, error) {
	b, _ := q.Append(nil, dhcp.MaxSize)
	for _, wait := range waits {
		h.asked.Add(1)
		if _, err := h.conn.WriteToUDPAddrPort(b, to); err != nil {
			return dhcp.Message{}, err
		}
		for over := time.After(wait); wait > 0; {
			select {
			case a := <-m.answers:
				if a.Type() == want {
					return a, nil
				}
			case <-over:
				wait = 0
			}
		}
	}
	return dhcp.Message{}, fmt.Errorf("no %s came", want)
}

// message is one of OVMF's.
func (m *hallMachine) message(t dhcp.Type) dhcp.Message {
	q := dhcp.Message{Op: 1, HType: 1, HLen: 6, XID: m.xid, Flags: 0x8000}
	copy(q.Hardware[:], m.mac[:])
	q.Options.Set(53, []byte{byte(t)})
	q.Options.Set(57, []byte{1472 >> 8, 1472 & 255})
	q.Options.Set(55, []byte{1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97, 128, 129, 130, 131, 132, 133, 134, 135})
	q.Options.Set(97, append([]byte{0}, make([]byte, 16)...))
	q.Options.Set(94, []byte{1, 3, 0})
	q.Options.Set(93, []byte{0, byte(pxe.EFIX64)})
	q.Options.Set(60, []byte("PXEClient:Arch:00007:UNDI:003000"))
	return q
}
