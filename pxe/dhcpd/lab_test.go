package dhcpd

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// deciderFunc decides without a context.
type deciderFunc func(c netboot.Client) netboot.Answer

func (f deciderFunc) Decide(_ context.Context, c netboot.Client) netboot.Answer { return f(c) }

// deciderWith decides with one.
type deciderWith func(ctx context.Context, c netboot.Client) netboot.Answer

func (f deciderWith) Decide(ctx context.Context, c netboot.Client) netboot.Answer { return f(ctx, c) }

// boots answers each client with a file of the method that it takes.
func boots(c netboot.Client) netboot.Answer {
	a := netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/" + c.MAC.Plain() + "/hello-1.0.0.efi", Reason: "rule default", Host: "h", Release: "hello-1.0.0"}
	if c.HTTP() {
		a.Method = netboot.HTTP
	}
	return a
}

// seen keeps events.
type seen struct {
	mu   sync.Mutex
	list []netboot.Event
}

func (s *seen) Saw(e netboot.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, e)
}

func (s *seen) all() []netboot.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]netboot.Event(nil), s.list...)
}

func (s *seen) text() (out string) {
	for _, e := range s.all() {
		out += fmt.Sprintf("%s %s %s %s %s\n", e.Stage, e.MAC, e.Method, e.Path, e.Detail)
	}
	return out
}

// serve runs a server inside a namespace until the test ends.
func serve(t testing.TB, space *netlab.Space, o Options) *Server {
	t.Helper()
	s := listenIn(t, space, o)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// listenIn opens a server inside a namespace, and lets it see the links of that.
func listenIn(t testing.TB, space *netlab.Space, o Options) (s *Server) {
	t.Helper()
	if err := space.Do(func() (err error) { s, err = Listen(o); return err }); err != nil {
		t.Fatal(err)
	}
	s.addresses = func(names []string, p *dhcp.Policy) (out map[string]link, err error) {
		err = space.Do(func() (err error) { out, err = readLinks(names, p); return err })
		return out, err
	}
	return s
}

// fullConfig gives 10.77.0.100 to .150.
func fullConfig() dhcp.Config {
	return dhcp.Config{Mode: dhcp.Full, Base: testBase(), Subnets: []dhcp.Subnet{{
		Prefix: netip.MustParsePrefix("10.77.0.0/24"), Pools: []dhcp.Range{{From: netip.MustParseAddr("10.77.0.100"), To: netip.MustParseAddr("10.77.0.150")}},
		Router: []netip.Addr{netip.MustParseAddr("10.77.0.1")}, DNS: []netip.Addr{netip.MustParseAddr("10.77.0.53")}, Domain: "lab.test",
		NTP: []netip.Addr{netip.MustParseAddr("10.77.0.123")}, Lease: 10 * time.Minute,
	}}}
}

func testBase() dhcp.Base {
	return dhcp.Base{HTTP: "http://{address}", Server: []string{"https://{address}:9444"}}
}
