package dhcpd

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/pxe/dhcp"
)

// dhclient runs ISC's client in the background, and gives what it says while it lives. Its
// hook gives the address to the device, as a system's own does.
func dhclient(t *testing.T, space *netlab.Space, leases string, more ...string) *netlab.Process {
	t.Helper()
	program := oracle.Need(t, "isc-dhcp-client", "dhclient")
	dir := t.TempDir()
	hook := filepath.Join(dir, "hook")
	text := "#!/bin/sh\n[ -n \"$new_ip_address\" ] && [ $reason != PREINIT ] && /usr/sbin/ip addr replace $new_ip_address/24 dev $interface\nexit 0\n"
	if err := os.WriteFile(hook, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-4", "-v", "-d", "-sf", hook, "-lf", leases, "-pf", filepath.Join(dir, "pid"), "-cf", "/dev/null"}, more...)
	return space.Start(program, append(args, "eth0")...)
}

// quick is a lease that is renewed after two seconds, and by anybody after five.
func quick(t *testing.T) Options {
	o := fullOptions(t, &seen{})
	o.Config.Subnets[0].Lease, o.Config.Subnets[0].Renew, o.Config.Subnets[0].Rebind = dhcp.MinLease, 2*time.Second, 5*time.Second
	return o
}

// requests counts what a client asks, by where it goes.
func requests(space *netlab.Space, dev string) (unicast, broadcast *atomic.Int32) {
	unicast, broadcast = new(atomic.Int32), new(atomic.Int32)
	space.Capture(dev, func(f netlab.Frame) {
		p := netlab.Parse(f.Data)
		if p.Destination.Port() != 67 {
			return
		}
		if m, err := dhcpv4.FromBytes(p.Payload); err != nil || m.MessageType() != dhcpv4.MessageTypeRequest || m.ClientIPAddr.IsUnspecified() {
			return
		}
		if p.Destination.Addr() == netip.MustParseAddr("255.255.255.255") {
			broadcast.Add(1)
		} else {
			unicast.Add(1)
		}
	})
	return unicast, broadcast
}

// TestRenewAndRebind: a client renews by unicast; when its server does not answer it asks
// everybody, and another server with the same file of leases extends the lease, whose address
// and beginning are as they were.
func TestRenewAndRebind(t *testing.T) {
	server, client := lan(t)
	o := quick(t)
	s := listenIn(t, server, o)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	unicast, broadcast := requests(client, "eth0")
	p := dhclient(t, client, filepath.Join(t.TempDir(), "l"))
	p.Await("bound to 10.77.0.", 20*time.Second)
	first := s.Leases()[0]
	waitFor(t, func() bool { return s.Leases()[0].Expires.After(first.Expires) })
	waitFor(t, func() bool { return unicast.Load()+broadcast.Load() > 0 }) // seen by another thread
	if broadcast.Load() > 0 {
		t.Errorf("it renewed by %d unicast and %d broadcast requests", unicast.Load(), broadcast.Load())
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	server.Run("/usr/sbin/ip", "addr", "del", "10.77.0.1/24", "dev", "br0") // whom the client knows is gone
	server.Address("br0", "10.77.0.3/24")
	s = serve(t, server, o)
	before := s.Leases()[0]
	waitFor(t, func() bool { return s.Count(dhcp.Request, Answered) > 0 })
	after := s.Leases()[0]
	if broadcast.Load() == 0 || !after.Expires.After(before.Expires) || after.Addr != first.Addr || after.MAC != first.MAC || !after.Since.Equal(first.Since.Truncate(time.Second)) {
		t.Errorf("after %d broadcast requests the lease is %+v, it was %+v", broadcast.Load(), after, first)
	}
	if s.Answers(dhcp.Ack) == 0 || s.Answers(dhcp.Nak) > 0 || s.Count(dhcp.Discover, Answered) > 0 {
		t.Errorf("%+v", s.Stats())
	}
}

// TestMovedMachine: a machine that comes with the lease of another network, and asks for its
// address, is told no at once, and gets one of this network.
func TestMovedMachine(t *testing.T) {
	server, client := lan(t)
	s := serve(t, server, fullOptions(t, &seen{}))
	leases := filepath.Join(t.TempDir(), "l")
	const old = `lease {
  interface "eth0";
  fixed-address 192.168.7.42;
  option subnet-mask 255.255.255.0;
  option dhcp-lease-time 864000;
  option dhcp-message-type 5;
  option dhcp-server-identifier 192.168.7.1;
  renew 5 2037/01/01 00:00:00;
  rebind 5 2037/01/02 00:00:00;
  expire 5 2037/01/03 00:00:00;
}
`
	if err := os.WriteFile(leases, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	p := dhclient(t, client, leases, "-1")
	p.Await("bound to 10.77.0.", 20*time.Second)
	if said := p.Said(); !strings.Contains(said, "DHCPREQUEST for 192.168.7.42") || !strings.Contains(said, "DHCPNAK from 10.77.0.1") {
		t.Errorf("it says\n%s", said)
	}
	if s.Answers(dhcp.Nak) == 0 || len(s.Leases()) != 1 {
		t.Errorf("%d refusals, leases %+v", s.Answers(dhcp.Nak), s.Leases())
	}
}

// TestAddressOfAnother: udhcpc finds by ARP that somebody has the address already, declines
// it, and gets another one; the declined one rests and is in the file.
func TestAddressOfAnother(t *testing.T) {
	server, client := lan(t)
	squatter := netlab.New(t, "squatter")
	plug(server, squatter, "p1")
	squatter.Address("eth0", "10.77.0.120/24")
	w := &seen{}
	o := fullOptions(t, w)
	s := serve(t, server, o)
	p := client.Start(udhcpc(t), "-f", "-q", "-a", "-r", "10.77.0.120", "-i", "eth0", "-s", script(t))
	p.Await("bound ip=", 90*time.Second) // it waits for 20 s after a decline
	out := p.Said()
	if !strings.Contains(out, "bound ip=10.77.0.1") || strings.Contains(out, "bound ip=10.77.0.120") {
		t.Errorf("udhcpc was told\n%s", out)
	}
	if s.Count(dhcp.Decline, Silent) != 1 || !strings.Contains(w.text(), "10.77.0.120 is somebody else's already") {
		t.Errorf("%+v\n%s", s.Stats(), w.text())
	}
	b, err := os.ReadFile(o.Leases)
	if err != nil || !bytes.Contains(b, []byte(`"address":"10.77.0.120"`)) || !bytes.Contains(b, []byte(`"declined"`)) {
		t.Errorf("the file: %v\n%s", err, b)
	}
}

// TestPoolIsFull: a pool of two for three machines. The third gets nothing and the log says
// what fills it; when one gives its address back, the third gets that.
func TestPoolIsFull(t *testing.T) {
	server := netlab.New(t, "server")
	server.Bridge("br0", "10.77.0.1/24")
	w := &seen{}
	o := fullOptions(t, w)
	o.Config.Subnets[0].Pools = []dhcp.Range{{From: netip.MustParseAddr("10.77.0.100"), To: netip.MustParseAddr("10.77.0.101")}}
	s := serve(t, server, o)
	var machines []*netlab.Space
	for i := range 3 {
		m := netlab.New(t, fmt.Sprint("machine", i))
		plug(server, m, fmt.Sprint("p", i))
		machines = append(machines, m)
	}
	machines[0].Run(udhcpc(t), "-f", "-q", "-n", "-i", "eth0", "-s", script(t))
	holder := machines[1].Start(udhcpc(t), "-f", "-R", "-n", "-i", "eth0", "-s", script(t)) // gives it back at its end
	holder.Await("bound ip=", 10*time.Second)
	third := machines[2].Start(udhcpc(t), "-f", "-q", "-n", "-t", "2", "-T", "1", "-i", "eth0", "-s", script(t))
	<-third.Done()
	if strings.Contains(third.Said(), "bound") || !strings.Contains(w.text(), "no address left in 10.77.0.0/24: of 2 in its pools 2 are leased, 0 offered, 0 declined") {
		t.Errorf("the third was told\n%s\nevents:\n%s", third.Said(), w.text())
	}
	holder.Stop()
	waitFor(t, func() bool { return s.Count(dhcp.Release, Silent) == 1 })
	if out := machines[2].Run(udhcpc(t), "-f", "-q", "-n", "-i", "eth0", "-s", script(t)); !strings.Contains(out, "bound ip=10.77.0.10") {
		t.Errorf("the third was told\n%s", out)
	}
}

// TestTwoRelaysDeep: the first relay agent puts itself into giaddr and adds option 82, the
// second passes it on. The answer goes to the first, past the second, byte for byte; a port
// of it has a reservation.
func TestTwoRelaysDeep(t *testing.T) {
	dhcrelay := oracle.Need(t, "isc-dhcp-relay", "dhcrelay")
	server, far, near, client := netlab.New(t, "server"), netlab.New(t, "far"), netlab.New(t, "near"), netlab.New(t, "client")
	netlab.Cable(server, "br0", near, "up0")
	netlab.Cable(near, "down0", far, "up0")
	netlab.Cable(far, "down0", client, "eth0")
	server.Address("br0", "10.77.0.1/24")
	near.Address("up0", "10.77.0.2/24")
	near.Address("down0", "10.79.0.1/24")
	far.Address("up0", "10.79.0.2/24")
	far.Address("down0", "10.78.0.1/24")
	server.Route("10.78.0.0/24", "10.77.0.2")
	near.Route("10.78.0.0/24", "10.79.0.2")
	far.Route("10.77.0.0/24", "10.79.0.1")
	near.Router()
	far.Router()

	o := fullOptions(t, &seen{})
	o.Config = relayedConfig()
	o.Config.Subnets[1].Reservations = []dhcp.Reservation{{Port: dhcp.Port{Circuit: "down0"}, Addr: netip.MustParseAddr("10.78.0.7"), Name: "seven"}}
	serve(t, server, o)
	var questions, answers [][]byte
	capture := server.Capture("br0", func(f netlab.Frame) {
		switch p := netlab.Parse(f.Data); {
		case p.Source == netip.MustParseAddrPort("10.77.0.1:67"):
			if p.Destination != netip.MustParseAddrPort("10.78.0.1:67") {
				t.Errorf("an answer goes to %s", p.Destination)
			}
			answers = append(answers, slices.Clone(p.Payload))
		case p.Destination.Port() == 67:
			questions = append(questions, slices.Clone(p.Payload))
		}
	})
	far.Start(dhcrelay, "-4", "-d", "-a", "-iu", "up0", "-id", "down0", "10.79.0.1")
	near.Start(dhcrelay, "-4", "-d", "-iu", "up0", "-id", "down0", "10.77.0.1")
	out := client.Run(udhcpc(t), "-f", "-q", "-n", "-t", "8", "-T", "1", "-i", "eth0", "-s", script(t))
	capture.Stop()
	if !strings.Contains(out, "bound ip=10.78.0.7 ") {
		t.Errorf("it was told\n%s", out)
	}
	for _, b := range questions {
		if m, err := dhcpv4.FromBytes(b); err != nil || m.HopCount != 2 || m.GatewayIPAddr.String() != "10.78.0.1" {
			t.Errorf("a question: %v, %v", m, err)
		}
	}
	if len(answers) < 2 || len(questions) < 2 {
		t.Fatalf("%d questions, %d answers", len(questions), len(answers))
	}
	m, err := dhcpv4.FromBytes(questions[0])
	if err != nil {
		t.Fatal(err)
	}
	info := m.Options.Get(dhcpv4.OptionRelayAgentInformation)
	last := append([]byte{82, byte(len(info))}, append(slices.Clone(info), 255)...)
	for _, b := range answers {
		if !bytes.HasSuffix(bytes.TrimRight(b, "\x00"), last) {
			t.Errorf("option 82 is not the last, as it came: %x in %x", last, b)
		}
	}
}
