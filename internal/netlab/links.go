package netlab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bridge makes a switch with addresses of its own (10.0.0.1/24). It forwards from
// the first frame on, and learns no multicast groups: without a querier, snooping
// would keep IPv6 neighbour discovery of firmware from it.
func (s *Space) Bridge(name string, addresses ...string) {
	s.t.Helper()
	s.must("make bridge "+name, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		snoop := false
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snoop}); err != nil {
			return err
		}
		return up(name)
	})
	s.Address(name, addresses...)
}

// Address gives addresses to a device and sets it up. IPv6 addresses are usable
// at once: duplicates are not looked for.
func (s *Space) Address(dev string, addresses ...string) {
	s.t.Helper()
	s.must("give addresses to "+dev, func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		for _, text := range addresses {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			if strings.Contains(text, ":") {
				a.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		return netlink.LinkSetUp(l)
	})
}

// Plug makes a device a port of a bridge and sets it up.
func (s *Space) Plug(dev, bridge string) {
	s.t.Helper()
	s.must("plug "+dev+" into "+bridge, func() error {
		b, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(l, b), netlink.LinkSetUp(l))
	})
}

// Route sends what is for a network (10.0.0.0/24) through a gateway.
func (s *Space) Route(network, gateway string) {
	s.t.Helper()
	s.must("route "+network, func() error {
		_, dst, err := net.ParseCIDR(network)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)})
	})
}

// Router lets the namespace forward what is not for itself, IPv4 and IPv6.
func (s *Space) Router() {
	s.t.Helper()
	s.must("forward", func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	})
}

// Cable connects two namespaces by a pair of devices, which are up.
func Cable(a *Space, aDev string, b *Space, bDev string) {
	a.t.Helper()
	a.must("make cable "+aDev, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = aDev
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: bDev, PeerNamespace: netlink.NsFd(b.ns.Fd())})
		if err != nil {
			return err
		}
		return up(aDev)
	})
	b.must("set "+bDev+" up", func() error { return up(bDev) })
}

// Tap is a device of a namespace whose other end is a descriptor: the cable of a
// virtual machine. It stays while machines come and go.
type Tap struct {
	Name  string
	space *Space
}

// Tap makes one; bridge may be "".
func (s *Space) Tap(name, bridge string) *Tap {
	s.t.Helper()
	p := &Tap{Name: name, space: s}
	f, err := p.Open()
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.TUNSETPERSIST, 1); err != nil {
		s.t.Fatalf("keep %s: %v", name, err)
	}
	if bridge != "" {
		s.Plug(name, bridge)
	} else {
		s.must("set "+name+" up", func() error { return up(name) })
	}
	return p
}

// Open gives the other end, for one user at a time; the device has no carrier
// while nobody has it. Frames carry the header of virtio, so that QEMU may leave
// checksums and segmentation to the kernel.
func (p *Tap) Open() (*os.File, error) { return p.open(unix.IFF_VNET_HDR) }

func (p *Tap) open(flags uint16) (f *os.File, err error) {
	err = p.space.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		r, err := unix.NewIfreq(p.Name)
		if err == nil {
			r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		f = os.NewFile(uintptr(fd), p.Name) // after TUNSETIFF: only then it can be polled
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open tap %s: %w", p.Name, err)
	}
	return f, nil
}

// carrier waits until the kernel has noticed that the other end is open, which
// takes it up to a second; until then a bridge drops what comes in.
func (p *Tap) carrier() {
	p.space.t.Helper()
	p.space.must("wait for the carrier of "+p.Name, func() error {
		for range 500 {
			l, err := netlink.LinkByName(p.Name)
			if err != nil || l.Attrs().OperState == netlink.OperUp {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return errors.New("there is none")
	})
}

// Splice carries frames between two taps as long as the test runs, and asks
// treat how many times each is to arrive: 0 loses it. It stands in for tc netem,
// which not every kernel has. treat is called from two goroutines, one for each
// direction; toB says which.
func Splice(a, b *Tap, treat func(frame []byte, toB bool) int) {
	t := a.space.t
	t.Helper()
	fa, err := a.open(0)
	if err != nil {
		t.Fatal(err)
	}
	fb, err := b.open(0)
	if err != nil {
		fa.Close()
		t.Fatal(err)
	}
	a.carrier()
	b.carrier()
	done := make(chan struct{}, 2)
	carry := func(from, to *os.File, toB bool) {
		defer func() { done <- struct{}{} }()
		frame := make([]byte, 1<<16)
		for {
			n, err := from.Read(frame)
			if err != nil {
				return // closed
			}
			for range treat(frame[:n], toB) {
				to.Write(frame[:n]) // a device that is down loses it, as a cable does
			}
		}
	}
	go carry(fa, fb, true)
	go carry(fb, fa, false)
	t.Cleanup(func() {
		fa.Close()
		fb.Close()
		<-done
		<-done
	})
}
