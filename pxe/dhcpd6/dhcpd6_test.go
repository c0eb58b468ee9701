package dhcpd6

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/pxe/dhcp6"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// site decides and watches.
type site struct {
	answer netboot.Answer
	mu     sync.Mutex
	asked  []netboot.Client
	events []netboot.Event
}

func (s *site) Decide(_ context.Context, c netboot.Client) netboot.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, c)
	return s.answer
}

func (s *site) Saw(e netboot.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

func (s *site) stages() (out []netboot.Stage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		out = append(out, e.Stage)
	}
	return out
}

var pool = dhcp6.Pool{Link: netip.MustParsePrefix("fd00:77::/64"), First: netip.MustParseAddr("fd00:77::100"), Last: netip.MustParseAddr("fd00:77::1ff"),
	DNS: []netip.Addr{netip.MustParseAddr("fd00:77::53")}}

// lab is a server and a machine at the ends of a cable.
func lab(t *testing.T, o Options) (host, client *netlab.Space, w *site) {
	t.Helper()
	host, client = netlab.New(t, "server"), netlab.New(t, "client")
	netlab.Cable(host, "up0", client, "eth0")
	host.Address("up0", "fd00:77::1/64", "fd00:77::2/64")
	w = &site{answer: netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/x.efi"}}
	serve(t, host, w, o)
	return host, client, w
}

func serve(t *testing.T, in *netlab.Space, w *site, o Options) *Server {
	t.Helper()
	o.Links, o.Decider, o.Watcher = []string{"up0"}, w, w
	var s *Server
	if err := in.Do(func() (err error) { s, err = Listen(o); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func full() Options {
	return Options{Config: dhcp6.Config{Assign: true, Pools: []dhcp6.Pool{pool}}, Advertise: true}
}

// linkLocal waits until a device has a link-local address that may be used.
func linkLocal(t *testing.T, s *netlab.Space, dev string) netip.Addr {
	t.Helper()
	re := regexp.MustCompile(`inet6 (fe80::[0-9a-f:]+)/64 scope link *\n`)
	for range 20 {
		if m := re.FindStringSubmatch(s.Run("ip", "-6", "addr", "show", "dev", dev)); m != nil {
			return netip.MustParseAddr(m[1])
		}
		time.Sleep(400 * time.Millisecond)
	}
	t.Fatal("no link-local address")
	return netip.Addr{}
}

// dhclient is ISC's client on eth0 of a namespace. It asks for the boot file, too.
type dhclient struct {
	t    *testing.T
	in   *netlab.Space
	path string
	dir  string
}

func newDhclient(t *testing.T, in *netlab.Space) *dhclient {
	t.Helper()
	c := &dhclient{t: t, in: in, path: oracle.Need(t, "isc-dhcp-client", "dhclient"), dir: t.TempDir()}
	for name, text := range map[string]string{
		"conf":   "option dhcp6.bootfile-url code 59 = string;\nalso request dhcp6.bootfile-url;\n",
		"script": "#!/bin/sh\nenv | grep -E '^(reason|new_)' >> " + c.dir + "/env\nexit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(c.end)
	return c
}

// end ends what stays in the background of a client that has an address.
func (c *dhclient) end() {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range list {
		line, _ := os.ReadFile(path) // it may have gone meanwhile
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && strings.HasPrefix(string(line), c.path+"\x00") && strings.Contains(string(line), c.dir+"/") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// run has it do something (-1: bind; -r: release), and gives what it has told its script.
func (c *dhclient) run(verb string) string {
	c.t.Helper()
	at := func(name string) string { return filepath.Join(c.dir, name) }
	c.in.Run(c.path, verb, "-6", "-cf", at("conf"), "-sf", at("script"), "-lf", at("leases"), "-pf", at("pid"), "-v", "eth0")
	env, err := os.ReadFile(at("env"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(env)
}

// TestDhclient: ISC's client is given an address, the resolver and the boot file, renews
// it and gives it back.
func TestDhclient(t *testing.T) {
	leases := filepath.Join(t.TempDir(), "leases.json")
	o := full()
	o.LeaseFile = leases
	_, client, w := lab(t, o)
	linkLocal(t, client, "eth0")
	c := newDhclient(t, client)
	env := c.run("-1")
	for _, want := range []string{"reason=BOUND6", "new_ip6_address=fd00:77::1", "new_dhcp6_name_servers=fd00:77::53", "new_dhcp6_bootfile_url=tftp://[fd00:77::1]/boot/x.efi", "new_max_life=7200"} {
		if !strings.Contains(env, want) {
			t.Errorf("no %s in\n%s", want, env)
		}
	}
	if !slices.Contains(w.stages(), netboot.Offered) {
		t.Errorf("seen: %v", w.stages())
	}
	c.run("-r")
	for range 100 {
		if b, err := os.ReadFile(leases); err == nil && string(b) == "[]" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b, _ := os.ReadFile(leases)
	t.Errorf("leases after Release: %s", b)
}

// TestRdisc6: another party's program asks for routers and reads the flags and the prefix.
func TestRdisc6(t *testing.T) {
	rdisc6 := oracle.Need(t, "ndisc6", "rdisc6")
	_, client, _ := lab(t, full())
	linkLocal(t, client, "eth0")
	out := client.Run(rdisc6, "-1", "eth0")
	for _, want := range []string{`Stateful address conf\. +: +Yes`, `Stateful other conf\. +: +Yes`, `Router lifetime +: +0 `, `Prefix +: fd00:77::/64`, `On-link +: +Yes`, `Autonomous address conf\.: +No`, `Recursive DNS server +: fd00:77::53`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestBesideAnotherServer: dnsmasq gives the address; the offer here names the file, and
// again when the firmware asks for it on port 4011.
func TestBesideAnotherServer(t *testing.T) {
	_, client, w := lab(t, Options{})
	ll := linkLocal(t, client, "eth0")
	client.Address("eth0", "fd00:77::9/64")
	ad := exchange(t, client, "["+ll.String()+"%eth0]:546", "[ff02::1:2%eth0]:547", solicit(t))
	if ad.Type() != dhcpv6.MessageTypeAdvertise || ad.Options.OneIANA() != nil || ad.Options.BootFileURL() != "tftp://[fd00:77::1]/boot/x.efi" {
		t.Fatal(ad.Summary())
	}
	req := solicit(t)
	req.MessageType = dhcpv6.MessageTypeRequest
	req.Options.Del(dhcpv6.OptionIANA)
	req.AddOption(dhcpv6.OptServerID(ad.Options.ServerID()))
	for _, to := range []string{"[fd00:77::1]:4011", "[fd00:77::2]:4011"} {
		re := exchange(t, client, "[fd00:77::9]:4011", to, req)
		if re.Type() != dhcpv6.MessageTypeReply || re.Options.BootFileURL() != "tftp://[fd00:77::1]/boot/x.efi" {
			t.Error(re.Summary())
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.asked {
		if c.Arch != netboot.EFIX64 || c.Link != "up0" {
			t.Errorf("asked about %+v", c)
		}
	}
}

func solicit(t *testing.T) *dhcpv6.Message {
	t.Helper()
	m, err := dhcpv6.NewMessage(dhcpv6.WithIAID([4]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	m.MessageType = dhcpv6.MessageTypeSolicit
	m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: []byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}}))
	m.AddOption(dhcpv6.OptClientArchType(iana.EFI_X86_64))
	m.AddOption(&dhcpv6.OptVendorClass{EnterpriseNumber: dhcp6.Intel, Data: [][]byte{[]byte("PXEClient:Arch:00007")}})
	return m
}

// exchange sends a message until one comes back.
func exchange(t *testing.T, in *netlab.Space, from, to string, m dhcpv6.DHCPv6) *dhcpv6.Message {
	t.Helper()
	b, ok := ask(t, in, from, to, m.ToBytes(), 20)
	if !ok {
		t.Fatalf("no answer from %s", to)
	}
	d, err := dhcpv6.FromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := d.GetInnerMessage()
	if err != nil {
		t.Fatal(err)
	}
	return inner
}

// ask sends a datagram up to n times, 250 ms apart, until one comes back.
// What comes from elsewhere than a unicast address it was sent to is left alone, as EDK2
// does.
func ask(t *testing.T, in *netlab.Space, from, to string, data []byte, n int) ([]byte, bool) {
	t.Helper()
	c, err := in.ListenPacket("udp6", from)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 4096)
	for range n {
		// The zone of an address is a number in the namespace, so it is resolved there.
		if err := in.Do(func() error { return sendTo(c, to, data) }); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
		if n, a, err := c.ReadFrom(buf); err == nil && (strings.Contains(to, "ff02") || a.String() == to) {
			return buf[:n], true
		}
	}
	return nil, false
}

// TestStrangers: who has no link-local address and is no relay of a known link gets no
// answer that could be sent to somebody else; malformed messages change nothing.
func TestStrangers(t *testing.T) {
	_, client, _ := lab(t, full())
	ll := linkLocal(t, client, "eth0")
	client.Address("eth0", "fd00:77::9/64")
	wire := solicit(t).ToBytes()
	if _, ok := ask(t, client, "[fd00:77::9]:546", "[ff02::1:2%eth0]:547", wire, 2); ok {
		t.Error("a client with an address that can be routed was answered")
	}
	relay := func(link string) []byte {
		m, err := dhcpv6.FromBytes(wire)
		if err != nil {
			t.Fatal(err)
		}
		r, err := dhcpv6.EncapsulateRelay(m, dhcpv6.MessageTypeRelayForward, netip.MustParseAddr(link).AsSlice(), netip.MustParseAddr("fe80::7").AsSlice())
		if err != nil {
			t.Fatal(err)
		}
		return r.ToBytes()
	}
	if _, ok := ask(t, client, "[fd00:77::9]:547", "[fd00:77::1]:547", relay("fd00:99::1"), 2); ok {
		t.Error("a relay of a link that has no pool was answered")
	}
	b, ok := ask(t, client, "[fd00:77::9]:547", "[fd00:77::1]:547", relay("fd00:77::fe"), 20)
	if !ok {
		t.Fatal("a relay of the pool's link was not answered")
	}
	d, err := dhcpv6.FromBytes(b)
	if err != nil || d.Type() != dhcpv6.MessageTypeRelayReply {
		t.Fatalf("%v, %v", d, err)
	}
	if err := client.Do(func() error { return flood(wire) }); err != nil {
		t.Fatal(err)
	}
	if ad := exchange(t, client, "["+ll.String()+"%eth0]:546", "[ff02::1:2%eth0]:547", solicit(t)); ad.Options.OneIANA() == nil {
		t.Error(ad.Summary())
	}
}

// TestListenErrors name what is wrong.
func TestListenErrors(t *testing.T) {
	w := &site{}
	if _, err := Listen(Options{}); err == nil {
		t.Error("no links")
	}
	if _, err := Listen(Options{Links: []string{"nosuch0"}, Decider: w, Watcher: w}); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Error(err)
	}
	bad := filepath.Join(t.TempDir(), "leases")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readLeases(bad); err == nil || !strings.Contains(err.Error(), bad) {
		t.Error(err)
	}
	if l, err := readLeases(bad + ".none"); err != nil || l != nil {
		t.Error(l, err)
	}
}
