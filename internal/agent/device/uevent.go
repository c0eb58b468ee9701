package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Uevent is one message of the kernel's device model: "add@/devices/..." and
// its variables.
type Uevent struct {
	Action string // add, remove, change, bind, ...
	Path   string // below /sys
	Env    map[string]string
}

// ParseUevent reads a datagram of NETLINK_KOBJECT_UEVENT: NUL-separated
// strings, the first being ACTION@PATH. It never fails on more than the first.
func ParseUevent(b []byte) (Uevent, error) {
	head, rest, _ := bytes.Cut(b, []byte{0})
	action, path, ok := strings.Cut(string(head), "@")
	if !ok {
		return Uevent{}, fmt.Errorf("parse uevent at offset 0: header %.40q has no @", head)
	}
	ev := Uevent{Action: action, Path: path, Env: map[string]string{}}
	for _, kv := range strings.Split(string(rest), "\x00") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			ev.Env[k] = v
		}
	}
	return ev, nil
}

// Socket receives uevents. It must be open before the first coldplug scan:
// what appears between the scan and the socket would be lost.
type Socket struct{ f *os.File }

// Listen joins the kernel's multicast group 1. Group 2 is udev's, which does
// not exist here.
func Listen() (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	// A burst of a large server's coldplug is a few megabytes; the default of
	// 208 KiB drops events. FORCE needs CAP_NET_ADMIN, which PID 1 has.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	return &Socket{os.NewFile(uintptr(fd), "uevent")}, nil
}

// Run calls f for each event until the context ends. A zero Uevent stands for
// "some were lost" (ENOBUFS): the caller scans again.
func (s *Socket) Run(ctx context.Context, f func(Uevent)) error {
	stop := context.AfterFunc(ctx, func() { s.f.Close() })
	defer stop()
	buf := make([]byte, 64<<10) // the kernel's limit is 2 KiB of variables
	for {
		n, err := s.f.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			f(Uevent{})
			continue
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("read uevent: %w", err)
		}
		if ev, err := ParseUevent(buf[:n]); err == nil {
			f(ev)
		}
	}
}
