package netlab

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Frame is an Ethernet frame as a device saw it.
type Frame struct {
	Time time.Time // of the kernel
	Data []byte    // from the destination address on; valid until see returns
}

// Capture is a look at a device.
type Capture struct {
	Lost   int // frames that the kernel had no room for; valid after Stop
	Frames int // valid after Stop

	fd         int
	stop, done chan struct{}
	once       sync.Once
}

// room is asked of the kernel for frames that wait to be read, in bytes.
const room = 64 << 20

// Capture calls see with each frame of a device, in both directions, until Stop
// or the end of the test. What is larger than the MTU was put together by the
// kernel (segmentation offload).
func (s *Space) Capture(dev string, see func(Frame)) *Capture {
	s.t.Helper()
	c := &Capture{stop: make(chan struct{}), done: make(chan struct{})}
	s.must("capture "+dev, func() (err error) {
		c.fd, err = packetSocket(dev)
		return err
	})
	go c.read(see)
	s.t.Cleanup(c.Stop)
	return c
}

func packetSocket(dev string) (int, error) {
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return 0, err
	}
	// No protocol before it is bound: else frames of other devices come, too.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifi.Index}))
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func htons(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}

// Stop ends it, after all that has come until now was seen.
func (c *Capture) Stop() {
	c.once.Do(func() {
		close(c.stop)
		<-c.done
		if s, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			c.Lost = int(s.Drops)
		}
		unix.Close(c.fd)
	})
}

// read looks for the end whenever no frame has come for a while.
func (c *Capture) read(see func(Frame)) {
	defer close(c.done)
	data, oob := make([]byte, 1<<17), make([]byte, 256)
	for {
		n, m, _, _, err := unix.Recvmsg(c.fd, data, oob, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			select {
			case <-c.stop:
				return
			default:
				continue
			}
		case err != nil:
			return
		}
		c.Frames++
		see(Frame{stamp(oob[:m]), data[:n]})
	}
}

// stamp is the kernel's time of a frame.
func stamp(oob []byte) time.Time {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Time{}
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Time{}
}
