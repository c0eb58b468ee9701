package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/appliance"
)

// The tests in this file re-run the test binary in a network namespace of its
// own: the packages under test use whatever thread they are on.
func TestMain(m *testing.M) {
	if os.Getenv("INGOT_NETNS_TEST") == "" && os.Getuid() == 0 {
		os.Exit(inNamespace())
	}
	os.Exit(m.Run())
}

// inNamespace forks this test binary into a new network namespace.
func inNamespace() int {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		fmt.Fprintln(os.Stderr, "unshare:", err)
		return 1
	}
	exe, _ := os.Executable()
	p, err := os.StartProcess(exe, os.Args, &os.ProcAttr{
		Env: append(os.Environ(), "INGOT_NETNS_TEST=1"), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	st, err := p.Wait()
	if err != nil {
		return 1
	}
	return st.ExitCode()
}

func requireNamespace(t *testing.T) {
	t.Helper()
	if os.Getenv("INGOT_NETNS_TEST") != "" {
		return
	}
	if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
		t.Fatal("this test needs root for a network namespace")
	}
	t.Skip("this test needs root for a network namespace")
}

// cable makes a veth pair and returns the name of the far end.
func cable(t *testing.T, name string) string {
	t.Helper()
	peer := name + "peer"
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(name); err == nil {
			netlink.LinkDel(l)
		}
	})
	far, err := netlink.LinkByName(peer)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(far); err != nil {
		t.Fatal(err)
	}
	return peer
}

// start runs a manager until the test ends and returns once it is ready.
func start(t *testing.T, interfaces ...appliance.Interface) *Manager {
	t.Helper()
	m := &Manager{
		Interfaces: interfaces, Resolv: filepath.Join(t.TempDir(), "resolv.conf"),
		Wait: func(ctx context.Context, _ time.Duration, cond func() bool) bool { return cond() },
		Load: func(string) error { return nil },
		Logf: t.Logf,
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan struct{})
	go func() { m.Run(ctx, func() { close(ready) }); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-ready:
	case <-time.After(30 * time.Second):
		t.Fatal("never ready")
	}
	return m
}

func addresses(t *testing.T, name string) string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range list {
		if !a.IP.IsLinkLocalUnicast() {
			out = append(out, a.IPNet.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func defaultGateways(t *testing.T) string {
	t.Helper()
	list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range list {
		if r.Gw != nil && (r.Dst == nil || r.Dst.String() == "0.0.0.0/0" || r.Dst.String() == "::/0") {
			out = append(out, r.Gw.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestStatic(t *testing.T) {
	requireNamespace(t)
	cable(t, "wan0")
	m := start(t, appliance.Interface{
		Match: appliance.Match{Name: "wan0"}, Address: []string{"192.0.2.10/24", "2001:db8::10/64"},
		Gateway: "192.0.2.1", DNS: []string{"192.0.2.53", "2001:db8::53"}, MTU: 1400,
	}, appliance.Interface{Match: appliance.Match{Name: "ghost0"}, Address: []string{"192.0.2.99/24"}})
	if got := addresses(t, "wan0"); got != "192.0.2.10/24 2001:db8::10/64" {
		t.Errorf("addresses = %s", got)
	}
	if got := defaultGateways(t); got != "192.0.2.1" {
		t.Errorf("gateways = %s", got)
	}
	l, _ := netlink.LinkByName("wan0")
	if l.Attrs().MTU != 1400 || l.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("link = mtu %d flags %s", l.Attrs().MTU, l.Attrs().Flags)
	}
	lo, _ := netlink.LinkByName("lo")
	if lo.Attrs().Flags&net.FlagUp == 0 {
		t.Error("loopback is down")
	}
	if b, _ := os.ReadFile(m.Resolv); string(b) != "nameserver 192.0.2.53\nnameserver 2001:db8::53\n" {
		t.Errorf("resolv.conf = %q", b)
	}
	st := m.Status()
	if len(st) != 2 || st[0].Error != "" || st[0].Device != "wan0" || !strings.Contains(st[1].Error, "match name ghost0: no such link") {
		t.Errorf("status = %+v", st)
	}
}

// TestLateLink: a link that comes when nobody waits any longer is configured all the same.
func TestLateLink(t *testing.T) {
	requireNamespace(t)
	m := start(t, appliance.Interface{Match: appliance.Match{Name: "late0"}, Address: []string{"192.0.2.10/24"}})
	if st := m.Status(); len(st) != 1 || !strings.Contains(st[0].Error, "no such link") {
		t.Errorf("status = %+v", st)
	}
	cable(t, "late0")
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		st := m.Status()
		if st[0].Error == "" && addresses(t, "late0") == "192.0.2.10/24" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("status = %+v, addresses %s", st, addresses(t, "late0"))
		}
	}
}

func TestGatewayOutsideTheSubnet(t *testing.T) {
	requireNamespace(t)
	cable(t, "wan0")
	start(t, appliance.Interface{Match: appliance.Match{Name: "wan0"}, Address: []string{"192.0.2.10/32"}, Gateway: "203.0.113.1"})
	if got := defaultGateways(t); got != "203.0.113.1" {
		t.Errorf("gateways = %s", got)
	}
}

func TestVLAN(t *testing.T) {
	requireNamespace(t)
	cable(t, "trunk0")
	m := start(t, appliance.Interface{Match: appliance.Match{Name: "trunk0"}, VLAN: 42, Address: []string{"198.51.100.2/24"}})
	l, err := netlink.LinkByName("trunk0.42")
	if err != nil {
		if strings.Contains(m.Status()[0].Error, "not supported") {
			t.Skip("this kernel has no VLANs")
		}
		t.Fatal(err, m.Status())
	}
	defer netlink.LinkDel(l)
	if v, ok := l.(*netlink.Vlan); !ok || v.VlanId != 42 || addresses(t, "trunk0.42") != "198.51.100.2/24" || addresses(t, "trunk0") != "" {
		t.Errorf("link = %+v with %s", l, addresses(t, "trunk0.42"))
	}
}

func TestBond(t *testing.T) {
	requireNamespace(t)
	cable(t, "nic0")
	cable(t, "nic1")
	m := start(t, appliance.Interface{
		Match: appliance.Match{Name: "nic?"}, Bond: &appliance.Bond{Name: "bond7", Mode: "active-backup"}, Address: []string{"198.51.100.3/24"},
	})
	l, err := netlink.LinkByName("bond7")
	if err != nil {
		if strings.Contains(m.Status()[0].Error, "not supported") {
			t.Skip("this kernel has no bonds")
		}
		t.Fatal(err, m.Status())
	}
	defer netlink.LinkDel(l)
	b := l.(*netlink.Bond)
	if b.Mode != netlink.BOND_MODE_ACTIVE_BACKUP || b.Miimon != 100 || addresses(t, "bond7") != "198.51.100.3/24" {
		t.Errorf("bond = mode %s miimon %d with %s", b.Mode, b.Miimon, addresses(t, "bond7"))
	}
	for _, name := range []string{"nic0", "nic1"} {
		if n, _ := netlink.LinkByName(name); n.Attrs().MasterIndex != l.Attrs().Index {
			t.Errorf("%s is not in the bond", name)
		}
	}
	if st := m.Status()[0]; st.Error != "" || len(st.Links) != 2 || st.Device != "bond7" {
		t.Errorf("status = %+v", st)
	}
}

// dhcpd answers on the far end of a cable and remembers what was asked.
type dhcpd struct {
	mu    sync.Mutex
	asked []*dhcpv4.DHCPv4
	nak   bool
	// beside leaves naming the base URL to a second server, which gives no addresses and
	// answers INFORM.
	beside bool
}

func serveDHCP(t *testing.T, name string) *dhcpd {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := netlink.ParseAddr("192.0.2.1/24")
	if err := netlink.AddrAdd(l, addr); err != nil {
		t.Fatal(err)
	}
	d := &dhcpd{}
	srv, err := server4.NewServer(name, &net.UDPAddr{IP: net.IPv4zero, Port: 67}, d.handle)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { srv.Serve(); close(done) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return d
}

func (d *dhcpd) handle(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, m)
	if m.MessageType() == dhcpv4.MessageTypeInform {
		d.inform(conn, peer, m)
		return
	}
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
		if d.nak {
			kind = dhcpv4.MessageTypeNak
		}
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 77)),
		dhcpv4.WithServerIP(net.IPv4(192, 0, 2, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithDNS(net.IPv4(192, 0, 2, 53)),
		dhcpv4.WithLeaseTime(600))
	if err == nil && m.ClassIdentifier() == VendorClass && !d.beside { // a server tells nobody else
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte("\x01\x16https://192.0.2.1:9444\xff")))
	}
	if err == nil {
		conn.WriteTo(reply.ToBytes(), peer)
	}
}

// inform answers as both servers: the one that has given the address knows no base URL.
func (d *dhcpd) inform(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
	for _, vendor := range []string{"", "\x01\x16https://192.0.2.2:9444\xff"} {
		reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithClientIP(m.ClientIPAddr))
		if err != nil {
			return
		}
		if vendor != "" {
			reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte(vendor)))
		}
		conn.WriteTo(reply.ToBytes(), peer) // both ends of the cable are here: unicast would not go over it
	}
}

// A server that gives no addresses, beside the DHCP server that there is, is found, too.
func TestServerBesideDHCP(t *testing.T) {
	requireNamespace(t)
	far := cable(t, "wan0")
	d := serveDHCP(t, far)
	d.mu.Lock()
	d.beside = true
	d.mu.Unlock()
	m := start(t, appliance.Interface{Match: appliance.Match{Name: "wan0"}, DHCP: true})
	deadline := time.Now().Add(10 * time.Second)
	for m.Server() == "" && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if got := m.Server(); got != "https://192.0.2.2:9444" {
		t.Errorf("the announced server is %q", got)
	}
	if got := addresses(t, "wan0"); got != "192.0.2.77/24" {
		t.Errorf("addresses = %s", got)
	}
}

func TestDHCP(t *testing.T) {
	requireNamespace(t)
	far := cable(t, "wan0")
	d := serveDHCP(t, far)
	m := start(t, appliance.Interface{Match: appliance.Match{Name: "wan0"}, DHCP: true})
	if got := addresses(t, "wan0"); got != "192.0.2.77/24" {
		t.Errorf("addresses = %s", got)
	}
	if got := defaultGateways(t); got != "192.0.2.1" {
		t.Errorf("gateways = %s", got)
	}
	if b, _ := os.ReadFile(m.Resolv); string(b) != "nameserver 192.0.2.53\n" {
		t.Errorf("resolv.conf = %q", b)
	}
	if got := m.Server(); got != "https://192.0.2.1:9444" {
		t.Errorf("the announced server is %q", got)
	}
	if st := m.Status()[0]; st.DHCP != "bound" || st.Gateway != "192.0.2.1" || st.Lease != "10m0s from 192.0.2.1" {
		t.Errorf("status = %+v", st)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.asked) < 2 { // more when one is repeated on a slow machine
		t.Fatalf("%d messages, want discover and request", len(d.asked))
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range d.asked {
		if got := q.HostName(); got != host {
			t.Errorf("%s has host name %q, want %q", q.MessageType(), got, host)
		}
		if got := q.ClassIdentifier(); got != "ingot" {
			t.Errorf("%s has vendor class %q, want ingot", q.MessageType(), got)
		}
	}
}

func TestDHCPOnEveryMatch(t *testing.T) {
	requireNamespace(t)
	cable(t, "lan0") // nobody answers here, and services do not wait for it
	far := cable(t, "lan1")
	serveDHCP(t, far)
	begin := time.Now()
	m := start(t, appliance.Interface{Match: appliance.Match{Name: "lan?"}, DHCP: true})
	if d := time.Since(begin); d > settleAfter-time.Second {
		t.Errorf("ready after %s", d)
	}
	st := m.Status()
	if len(st) != 2 || st[0].Device != "lan0" || st[1].Device != "lan1" || st[1].DHCP != "bound" || st[1].Interface != 0 || st[0].DHCP != "asking" {
		t.Errorf("status = %+v", st)
	}
}

// An interface that makes rows of its own does not take those of the others,
// whatever is asked meanwhile (with -race).
func TestRowsOfSeveralInterfaces(t *testing.T) {
	requireNamespace(t)
	for _, name := range []string{"many0", "many1", "one0"} {
		cable(t, name)
	}
	m := &Manager{
		Interfaces: []appliance.Interface{
			{Match: appliance.Match{Name: "many?"}, DHCP: true},
			{Match: appliance.Match{Name: "one0"}, Address: []string{"192.0.2.9/24"}},
		},
		Resolv: filepath.Join(t.TempDir(), "resolv.conf"),
		Wait:   func(_ context.Context, _ time.Duration, cond func() bool) bool { return cond() },
		Load:   func(string) error { return nil }, Logf: t.Logf,
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { m.Run(ctx, func() {}); close(done) }()
	deadline := time.Now().Add(20 * time.Second)
	var st []Status
	for time.Now().Before(deadline) {
		if st = m.Status(); len(st) == 3 && st[0].Device == "many0" && st[1].Device == "one0" && st[2].Device == "many1" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if len(st) != 3 || st[0].Device != "many0" || st[1].Device != "one0" || st[2].Device != "many1" || st[2].Interface != 0 {
		t.Errorf("status = %+v", st)
	}
}

func TestRenewAndNak(t *testing.T) {
	requireNamespace(t)
	far := cable(t, "wan0")
	d := serveDHCP(t, far)
	m := start(t, appliance.Interface{Match: appliance.Match{Name: "wan0"}, DHCP: true})
	link, err := netlink.LinkByName("wan0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	held, err := m.acquire(ctx, link)
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := m.renew(ctx, link, held)
	if err != nil || !renewed.addr.Equal(*held.addr) {
		t.Fatalf("renew = %+v, %v", renewed, err)
	}
	d.mu.Lock()
	last := d.asked[len(d.asked)-1]
	d.nak = true
	d.mu.Unlock()
	if last.MessageType() != dhcpv4.MessageTypeRequest || !last.ClientIPAddr.Equal(net.IPv4(192, 0, 2, 77)) || last.RequestedIPAddress() != nil {
		t.Errorf("renewal is not as RFC 2131 table 4 has it: %s", last.Summary())
	}
	if _, err := m.renew(ctx, link, held); err == nil {
		t.Error("renew with a NAK succeeds")
	}
}
