package dhcpd

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/limit"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// lan is a server at 10.77.0.1 and a client beside it, on one cable.
func lan(t *testing.T) (server, client *netlab.Space) {
	t.Helper()
	server, client = netlab.New(t, "server"), netlab.New(t, "client")
	server.Bridge("br0", "10.77.0.1/24")
	plug(server, client, "p0")
	return server, client
}

func plug(server, client *netlab.Space, port string) {
	netlab.Cable(server, port, client, "eth0")
	server.Plug(port, "br0")
}

func fullOptions(t *testing.T, w *seen) Options {
	return Options{Interfaces: []string{"br0"}, Config: fullConfig(), Decider: deciderFunc(boots), Watcher: w, Leases: filepath.Join(t.TempDir(), "leases")}
}

// script is a hook of udhcpc that prints what it was told.
func script(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$1 ip=$ip mask=$subnet router=$router dns=$dns domain=$domain ntp=$ntpsrv lease=$lease file=$boot_file siaddr=$siaddr\"\n[ \"$1\" = bound ] && /usr/sbin/ip addr add $ip/24 dev $interface\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func udhcpc(t *testing.T) string { return oracle.Need(t, "udhcpc", "udhcpc") }

// TestUdhcpc: busybox takes a lease, gives it back, and is in the file meanwhile.
func TestUdhcpc(t *testing.T) {
	server, client := lan(t)
	o := fullOptions(t, &seen{})
	s := serve(t, server, o)
	out := client.Run(udhcpc(t), "-f", "-q", "-n", "-R", "-i", "eth0", "-s", script(t), "-O", "ntpsrv")
	if !strings.Contains(out, "mask=255.255.255.0 router=10.77.0.1 dns=10.77.0.53 domain=lab.test ntp=10.77.0.123 lease=600") || !strings.Contains(out, "bound ip=10.77.0.1") {
		t.Errorf("it was told\n%s", out)
	}
	b, err := os.ReadFile(o.Leases)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := dhcp.ParseLeases(b); err != nil || len(l.List()) != 1 || l.List()[0].Standing != dhcp.Bound {
		t.Errorf("the file has %s, %v", b, err)
	}
	if st := s.Stats(); st.Answered < 2 || st.Failed != 0 {
		t.Errorf("%+v", st)
	}
}

// TestDhclient: ISC's client, which sends a client identifier and a host name, and renews by
// unicast.
func TestDhclient(t *testing.T) {
	dhclient := oracle.Need(t, "isc-dhcp-client", "dhclient")
	server, client := lan(t)
	s := serve(t, server, fullOptions(t, &seen{}))
	dir := t.TempDir()
	args := []string{"-4", "-v", "-sf", script(t), "-lf", dir + "/l", "-pf", dir + "/pid", "-cf", "/dev/null"}
	out := client.Run(dhclient, append(args, "-1", "eth0")...)
	if !strings.Contains(out, "bound to 10.77.0.") {
		t.Fatalf("dhclient:\n%s", out)
	}
	leases := s.Leases()
	if len(leases) != 1 || leases[0].Standing != dhcp.Bound {
		t.Fatalf("%+v", leases)
	}
	client.Address("eth0", leases[0].Addr.String()+"/24") // the hook is of udhcpc, and does not
	client.Run(dhclient, append(args, "-r", "eth0")...)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && time.Until(s.Leases()[0].Expires) > 0; time.Sleep(10 * time.Millisecond) {
	}
	if l := s.Leases()[0]; time.Until(l.Expires) > 0 {
		t.Errorf("released, and leased until %s", l.Expires)
	}
}

// relayed is a server behind a relay agent: 10.78.0.0/24 is where the client is.
func relayed(t *testing.T) (server, relay, client *netlab.Space) {
	t.Helper()
	server, relay, client = netlab.New(t, "server"), netlab.New(t, "relay"), netlab.New(t, "client")
	netlab.Cable(server, "br0", relay, "up0")
	netlab.Cable(relay, "down0", client, "eth0")
	server.Address("br0", "10.77.0.1/24")
	relay.Address("up0", "10.77.0.2/24")
	relay.Address("down0", "10.78.0.1/24")
	server.Route("10.78.0.0/24", "10.77.0.2")
	relay.Router()
	return server, relay, client
}

func relayedConfig() dhcp.Config {
	c := fullConfig()
	c.Subnets = append(c.Subnets, dhcp.Subnet{Prefix: netip.MustParsePrefix("10.78.0.0/24"), Pools: []dhcp.Range{{From: netip.MustParseAddr("10.78.0.100"), To: netip.MustParseAddr("10.78.0.110")}}, Router: []netip.Addr{netip.MustParseAddr("10.78.0.1")}})
	return c
}

// TestRelays: two relay agents between two networks. The answer goes to giaddr at port 67
// and nowhere else, with option 82 as it came.
func TestRelays(t *testing.T) {
	for name, start := range map[string]func(relay *netlab.Space) *netlab.Process{
		"dhcrelay": func(r *netlab.Space) *netlab.Process {
			return r.Start(oracle.Need(t, "isc-dhcp-relay", "dhcrelay"), "-4", "-d", "-a", "-iu", "up0", "-id", "down0", "10.77.0.1")
		},
		"dnsmasq": func(r *netlab.Space) *netlab.Process {
			return r.Start(oracle.Need(t, "dnsmasq-base", "dnsmasq"), "-k", "-C", "/dev/null", "-p", "0", "--user=root", "--pid-file=", "--dhcp-relay=10.78.0.1,10.77.0.1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, relay, client := relayed(t)
			w := &seen{}
			o := fullOptions(t, w)
			o.Config = relayedConfig()
			serve(t, server, o)
			var questions, answers [][]byte
			capture := server.Capture("br0", func(f netlab.Frame) {
				switch p := netlab.Parse(f.Data); {
				case p.Destination.Port() == 67 && p.Source.Addr() == netip.MustParseAddr("10.77.0.1"):
					if p.Destination != netip.MustParseAddrPort("10.78.0.1:67") {
						t.Errorf("an answer goes to %s", p.Destination)
					}
					answers = append(answers, slices.Clone(p.Payload))
				case p.Destination.Port() == 67:
					questions = append(questions, slices.Clone(p.Payload))
				case p.Destination.Port() == 68:
					t.Errorf("an answer goes to %s", p.Destination)
				}
			})
			start(relay)
			out := client.Run(udhcpc(t), "-f", "-q", "-n", "-t", "8", "-T", "1", "-i", "eth0", "-s", script(t))
			capture.Stop()
			if !strings.Contains(out, "bound ip=10.78.0.1") || !strings.Contains(out, "router=10.78.0.1") {
				t.Errorf("it was told\n%s\n%s", out, w.text())
			}
			if len(questions) < 2 || len(answers) < 2 {
				t.Fatalf("%d questions and %d answers", len(questions), len(answers))
			}
			q, err := dhcpv4.FromBytes(questions[len(questions)-1])
			if err != nil {
				t.Fatal(err)
			}
			info := q.Options.Get(dhcpv4.OptionRelayAgentInformation)
			if name == "dhcrelay" && len(info) == 0 {
				t.Error("the relay agent added no option 82")
			}
			if a := answers[len(answers)-1]; len(info) > 0 && !bytes.Contains(a, append([]byte{82, byte(len(info))}, append(slices.Clone(info), 255)...)) {
				t.Errorf("option 82 is not the last, as it came: %x in %x", info, a)
			}
		})
	}
}

// foreign is a DHCP server of somebody else at 10.77.0.2, which knows nothing of boot files.
func foreign(t *testing.T, server *netlab.Space) {
	t.Helper()
	other := netlab.New(t, "dhcp")
	plug(server, other, "p9")
	other.Address("eth0", "10.77.0.2/24")
	p := other.Start(oracle.Need(t, "dnsmasq-base", "dnsmasq"), "-k", "-C", "/dev/null", "-p", "0", "--user=root", "--pid-file=", "--no-ping", "--log-facility=-",
		"--dhcp-leasefile="+filepath.Join(t.TempDir(), "l"), "--dhcp-range=10.77.0.200,10.77.0.250,255.255.255.0,1h", "--interface=eth0", "--bind-interfaces")
	p.Await("sockets bound", 10*time.Second)
}

// asker sends DHCP from inside a namespace and collects what comes.
type asker struct {
	t    *testing.T
	conn net.PacketConn
	mac  netboot.MAC
}

func newAsker(t *testing.T, space *netlab.Space, address string) *asker {
	t.Helper()
	var conn net.PacketConn
	err := space.Do(func() error {
		k, err := listen("eth0", dhcp.ServerPort, 68, true)
		if err == nil {
			conn = k.conn
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &asker{t, conn, netboot.MAC{0x52, 0x54, 0, 0x77, 0, 1}}
}

func (a *asker) send(to string, m *dhcpv4.DHCPv4) {
	a.t.Helper()
	if _, err := a.conn.WriteTo(m.ToBytes(), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
		a.t.Fatal(err)
	}
}

// collect takes n answers, or what comes within two seconds.
func (a *asker) collect(n int) (out []*dhcpv4.DHCPv4) {
	a.conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 4096)
	for len(out) < n {
		k, _, err := a.conn.ReadFrom(b)
		if err != nil {
			return out
		}
		if m, err := dhcpv4.FromBytes(b[:k]); err == nil {
			out = append(out, m)
		}
	}
	return out
}

func (a *asker) firmware(t dhcpv4.MessageType, class string, arch byte, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(a.mac[:]), dhcpv4.WithMessageType(t), dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0, arch})), dhcpv4.WithBroadcast(true)}, mods...)...)
	if err != nil {
		a.t.Fatal(err)
	}
	return m
}

// TestProxyBesideDnsmasq: firmware gets its address from the one and its boot file from the
// other, on 67 and on 4011; ingot-init is told by INFORM.
func TestProxyBesideDnsmasq(t *testing.T) {
	server, client := lan(t)
	client.Address("eth0", "10.77.0.9/24")
	foreign(t, server)
	w := &seen{}
	serve(t, server, Options{Interfaces: []string{"br0"}, Config: dhcp.Config{Base: testBase()}, Decider: deciderFunc(boots), Watcher: w})
	a := newAsker(t, client, "10.77.0.9")
	a.send("255.255.255.255:67", a.firmware(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007:UNDI:003000", 7))
	from := map[string]*dhcpv4.DHCPv4{}
	for _, m := range a.collect(2) {
		from[m.ServerIdentifier().String()] = m
	}
	ours, theirs := from["10.77.0.1"], from["10.77.0.2"]
	if ours == nil || theirs == nil || !ours.YourIPAddr.IsUnspecified() || theirs.YourIPAddr.IsUnspecified() || ours.ClassIdentifier() != "PXEClient" || ours.BootFileName != "boot/525400770001/hello-1.0.0.efi" {
		t.Fatalf("%v\n%v", ours, theirs)
	}
	a.send("10.77.0.1:4011", a.firmware(dhcpv4.MessageTypeRequest, "PXEClient:Arch:00007:UNDI:003000", 7, dhcpv4.WithClientIP(net.IPv4(10, 77, 0, 9))))
	if m := a.collect(1); len(m) != 1 || m[0].MessageType() != dhcpv4.MessageTypeAck || m[0].BootFileName != ours.BootFileName {
		t.Errorf("on 4011: %v", m)
	}
	inform := a.firmware(dhcpv4.MessageTypeInform, "ingot", 0, dhcpv4.WithClientIP(net.IPv4(10, 77, 0, 9)))
	a.send("255.255.255.255:67", inform)
	told := ""
	for _, m := range a.collect(2) {
		if v := m.Options.Get(dhcpv4.OptionVendorSpecificInformation); len(v) > 0 {
			told = string(v)
		}
	}
	if told != "\x01\x16https://10.77.0.1:9444\x02\x10http://10.77.0.1\xff" {
		t.Errorf("ingot-init is told %q", told)
	}
	// an operating system is the other server's alone
	out := client.Run(udhcpc(t), "-f", "-q", "-n", "-i", "eth0", "-s", script(t))
	if !strings.Contains(out, "bound ip=10.77.0.2") || !strings.Contains(out, "siaddr=10.77.0.2") {
		t.Errorf("udhcpc was told\n%s", out)
	}
	if text := w.text(); strings.Count(text, "asked ") != 1 || !strings.Contains(text, "offered 52:54:00:77:00:01 tftp boot/525400770001/hello-1.0.0.efi ACK on 4011") {
		t.Errorf("events:\n%s", text)
	}
}

// TestHostileInput: 10,000 malformed datagrams, forged relay agents and addresses; then an
// honest machine is served, and the watcher was told a few times, not 10,000.
func TestHostileInput(t *testing.T) {
	server, client := lan(t)
	client.Address("eth0", "10.77.0.9/24")
	w := &seen{}
	s := serve(t, server, fullOptions(t, w))
	a := newAsker(t, client, "10.77.0.9")
	// An answer would get there: the address is somebody's, and the server knows the way.
	client.Address("eth0", "192.0.2.66/32")
	server.Route("192.0.2.66/32", "10.77.0.9")
	var victim atomic.Int32
	server.Capture("br0", func(f netlab.Frame) {
		if p := netlab.Parse(f.Data); p.Destination.Addr() == netip.MustParseAddr("192.0.2.66") {
			victim.Add(1)
		}
	})
	good := a.firmware(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007:UNDI:003000", 7).ToBytes()
	r := rand.New(rand.NewPCG(7, 7))
	for i := range 10000 {
		b := slices.Clone(good[:r.IntN(len(good)+1)])
		for range r.IntN(8) {
			if len(b) > 0 {
				b[r.IntN(len(b))] = byte(r.Uint32())
			}
		}
		if i%10 == 0 && len(b) > 28 { // whole, and by a relay agent that is none
			b = slices.Clone(good)
			copy(b[24:28], []byte{192, 0, 2, 66})
		}
		a.conn.WriteTo(b, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.77.0.1:67")))
		if i%100 == 99 {
			time.Sleep(time.Millisecond) // so that the socket's buffer holds them
		}
	}
	waitFor(t, func() bool { st := s.Stats(); return st.Malformed > 1000 && st.Refused > 100 })
	if n := victim.Load(); n > 0 {
		t.Errorf("%d datagrams went to a giaddr that is nobody's", n)
	}
	if n := len(w.all()); n > 100 {
		t.Errorf("the watcher was told %d times", n)
	}
	a.mac[5] = 99
	for range 3 {
		a.send("255.255.255.255:67", a.firmware(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007:UNDI:003000", 7))
		if m := a.collect(1); len(m) == 1 && m[0].BootFileName != "" {
			return
		}
	}
	t.Errorf("an honest machine is not served: %+v", s.Stats())
}

func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// TestStarvation: 10,000 made-up machines over the wire; whoever has a lease keeps it, and
// the event comes.
func TestStarvation(t *testing.T) {
	server, client := lan(t)
	w := &seen{}
	s := serve(t, server, fullOptions(t, w))
	client.Run(udhcpc(t), "-f", "-q", "-n", "-i", "eth0", "-s", script(t))
	before := s.Leases()
	a := newAsker(t, client, "")
	for i := range 10000 {
		m := a.firmware(dhcpv4.MessageTypeDiscover, "", 0)
		binary.BigEndian.PutUint32(m.ClientHWAddr[2:], uint32(i)|0x40000000)
		a.send("10.77.0.1:67", m)
		if i%50 == 49 {
			time.Sleep(time.Millisecond)
		}
	}
	waitFor(t, func() bool {
		return strings.Contains(w.text(), "no address left in 10.77.0.0/24: of 51 in its pools 1 are leased, 50 offered")
	})
	after := s.Leases()
	if len(after) > 51 || !slices.ContainsFunc(after, func(l dhcp.Lease) bool { return l == before[0] }) {
		t.Errorf("%d leases, of which the first is not %+v", len(after), before[0])
	}
	if out := client.Run(udhcpc(t), "-f", "-q", "-n", "-i", "eth0", "-s", script(t)); !strings.Contains(out, before[0].Addr.String()) {
		t.Errorf("the first machine is told\n%s", out)
	}
}

// TestSlowDecision: one that does not come holds nobody up.
func TestSlowDecision(t *testing.T) {
	server, client := lan(t)
	client.Address("eth0", "10.77.0.9/24")
	release := make(chan struct{})
	defer close(release)
	o := fullOptions(t, &seen{})
	o.Decisions = 2
	o.Decider = deciderFunc(func(c netboot.Client) netboot.Answer {
		if c.MAC[5] == 1 {
			<-release
		}
		return boots(c)
	})
	serve(t, server, o)
	a := newAsker(t, client, "")
	a.send("255.255.255.255:67", a.firmware(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", 7))
	a.mac[5] = 2
	a.send("255.255.255.255:67", a.firmware(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", 7))
	if m := a.collect(1); len(m) != 1 || m[0].ClientHWAddr[5] != 2 {
		t.Errorf("%v", m)
	}
}

// TestStopWhileAnswering: a server that stops answers whom it has heard, with the decision
// that was asked for; and it does stop.
func TestStopWhileAnswering(t *testing.T) {
	server, client := lan(t)
	client.Address("eth0", "10.77.0.9/24")
	var once sync.Once
	asked, release := make(chan struct{}), make(chan struct{})
	o := fullOptions(t, &seen{})
	o.Decider = deciderWith(func(ctx context.Context, c netboot.Client) netboot.Answer {
		once.Do(func() { close(asked) })
		select {
		case <-release:
			return boots(c)
		case <-ctx.Done():
			return netboot.Answer{Verb: netboot.Refuse, Reason: "broken off"}
		}
	})
	s := listenIn(t, server, o)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	a := newAsker(t, client, "")
	a.send("255.255.255.255:67", a.firmware(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", 7))
	<-asked
	stop()
	time.Sleep(100 * time.Millisecond) // for what would break it off
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if m := a.collect(1); len(m) != 1 || m[0].BootFileNameOption() == "" && m[0].BootFileName == "" {
		t.Errorf("the answer is %v", m)
	}
}

// TestLimit: a machine in a loop is answered so often, and no more.
func TestLimit(t *testing.T) {
	server, client := lan(t)
	s := serve(t, server, fullOptions(t, &seen{}))
	a := newAsker(t, client, "")
	for range 200 {
		a.send("255.255.255.255:67", a.firmware(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", 7))
	}
	waitFor(t, func() bool { st := s.Stats(); return st.Received == 200 && st.Answered+st.Limited == 200 })
	if st := s.Stats(); st.Answered > 2*limit.PerWindow || st.Limited < 100 {
		t.Errorf("%+v", st)
	}
}

// TestRestart: after a restart the leases are there; a file that is not whole is refused and
// stays as it is; one that cannot be written acknowledges nothing.
func TestRestart(t *testing.T) {
	server, client := lan(t)
	o := fullOptions(t, &seen{})
	ctx, stop := context.WithCancel(t.Context())
	s := listenIn(t, server, o)
	if l := s.Listeners(); len(l) != 2 || l[0].String() != "udp port 67 on br0 (10.77.0.1)" || l[1].Port != 4011 {
		t.Errorf("%v", l)
	}
	if err := server.Do(func() error { _, err := Listen(o); return err }); err == nil || !strings.Contains(err.Error(), "another DHCP server") {
		t.Errorf("a second server beside it: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	client.Run(udhcpc(t), "-f", "-q", "-n", "-i", "eth0", "-s", script(t))
	before := s.Leases()
	c := fullConfig()
	c.Subnets[0].Domain = "other.test"
	if err := s.Reload(c); err != nil || len(s.Leases()) != 1 {
		t.Errorf("reload: %v, %v", err, s.Leases())
	}
	if err := s.Reload(dhcp.Config{}); err == nil {
		t.Error("reload changes the mode")
	}
	if out := client.Run(udhcpc(t), "-f", "-q", "-n", "-i", "eth0", "-s", script(t)); !strings.Contains(out, "other.test") {
		t.Errorf("after the reload:\n%s", out)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	s = serve(t, server, o)
	if l := s.Leases(); len(l) != 1 || l[0].Addr != before[0].Addr || l[0].MAC != before[0].MAC {
		t.Errorf("%+v, before %+v", l, before)
	}
	whole, err := os.ReadFile(o.Leases)
	if err != nil {
		t.Fatal(err)
	}
	half := whole[:len(whole)/2]
	other := o
	other.Leases = filepath.Join(t.TempDir(), "leases")
	if err := os.WriteFile(other.Leases, half, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.Do(func() error { _, err := Listen(other); return err }); err == nil || !strings.Contains(err.Error(), "put a copy of it back") {
		t.Errorf("half a file: %v", err)
	}
	if b, _ := os.ReadFile(other.Leases); !bytes.Equal(b, half) {
		t.Error("the file was changed")
	}
	os.RemoveAll(filepath.Dir(o.Leases))
	a := newAsker(t, client, "")
	a.send("255.255.255.255:67", a.firmware(dhcpv4.MessageTypeDiscover, "", 0))
	offer := a.collect(1)
	if len(offer) != 1 {
		t.Fatal("no offer")
	}
	a.send("255.255.255.255:67", a.firmware(dhcpv4.MessageTypeRequest, "", 0, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer[0].YourIPAddr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, 1)))))
	if m := a.collect(1); len(m) != 0 || s.Stats().Failed == 0 {
		t.Errorf("acknowledged without a file: %v", m)
	}
}

func TestListenSays(t *testing.T) {
	server, _ := lan(t)
	for want, change := range map[string]func(o *Options){
		"no link is named": func(o *Options) { o.Interfaces = nil },
		`no link "none0"`:  func(o *Options) { o.Interfaces = []string{"none0"} },
		"no IPv4 address":  func(o *Options) { o.Interfaces = []string{"p0"} },
		"keep leases in":   func(o *Options) { o.Leases = "/nowhere/leases" },
		"has no subnets":   func(o *Options) { o.Config.Subnets = nil },
	} {
		o := fullOptions(t, &seen{})
		change(&o)
		err := server.Do(func() error {
			s, err := Listen(o)
			if err == nil {
				s.Close()
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
