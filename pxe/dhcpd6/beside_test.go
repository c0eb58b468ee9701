package dhcpd6

import (
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/pxe/dhcp6"
	"github.com/ingot-os/ingot/pxe/limit"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// TestBesideDnsmasq: on one link with dnsmasq, which gives addresses and advertises, this
// server names boot files and nothing else. ISC's client, which hears both, gets its address
// from dnsmasq; firmware's questions are answered by this one.
func TestBesideDnsmasq(t *testing.T) {
	dnsmasq := oracle.Need(t, "dnsmasq-base", "dnsmasq")
	sw := netlab.New(t, "switch")
	sw.Bridge("br0")
	spaces := map[string]*netlab.Space{}
	for name, dev := range map[string]string{"server": "up0", "other": "up0", "client": "eth0"} {
		spaces[name] = netlab.New(t, name)
		netlab.Cable(sw, name, spaces[name], dev)
		sw.Plug(name, "br0")
	}
	spaces["server"].Address("up0", "fd00:77::1/64")
	spaces["other"].Address("up0", "fd00:77::2/64")
	spaces["other"].Start(dnsmasq, "-k", "-C", "/dev/null", "-p", "0", "--interface=up0", "--bind-interfaces", "--user=root", "--pid-file=", "--enable-ra",
		"--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--dhcp-range=fd00:77::200,fd00:77::2ff,64,1h", "--log-dhcp", "--log-facility=-").Await("DHCP, sockets bound", 10*time.Second)
	w := &site{answer: netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/x.efi", Reason: "default"}}
	s := serve(t, spaces["server"], w, Options{})
	ll := linkLocal(t, spaces["client"], "eth0")

	c := newDhclient(t, spaces["client"])
	if env := c.run("-1"); !strings.Contains(env, "new_ip6_address=fd00:77::2") {
		t.Errorf("no address of dnsmasq's in\n%s", env)
	}
	if !slices.Contains(w.stages(), netboot.Offered) {
		t.Errorf("the client was not offered the boot file: %v", w.stages())
	}
	w.mu.Lock()
	for _, e := range w.events {
		switch {
		case e.Stage == netboot.Asked && strings.HasPrefix(e.Detail, "Request"):
			t.Errorf("dnsmasq was asked, and this server told of it: %+v", e)
		case e.Stage == netboot.Offered && (e.Detail != "Advertise on 547: default" || e.Method != netboot.TFTP || e.Path != "boot/x.efi"):
			t.Errorf("offered: %+v", e)
		case e.Stage != netboot.Offered && e.Path != "":
			t.Errorf("a question is of no file: %+v", e)
		}
	}
	w.mu.Unlock()
	if n := len(s.Leases()); n != 0 {
		t.Errorf("%d leases of a server that gives no addresses", n)
	}
	c.end() // it stays, and has the port
	// Firmware takes all offers; that of this server is the one with a boot file.
	from, group := "["+ll.String()+"%eth0]:546", "[ff02::1:2%eth0]:547"
	answers := collect(t, spaces["client"], from, group, solicit(t))
	var addresses, files int
	for _, m := range answers {
		if m.Options.OneIANA() != nil {
			addresses++
		}
		if m.Options.BootFileURL() == "tftp://[fd00:77::1]/boot/x.efi" {
			files++
		}
		if m.Options.OneIANA() != nil && m.Options.BootFileURL() != "" {
			t.Errorf("address and file in one: %s", m.Summary())
		}
	}
	if addresses == 0 || files == 0 {
		t.Errorf("%d offers of an address, %d of a file", addresses, files)
	}
}

// collect sends a message four times, and gives all that comes back within a second each.
func collect(t *testing.T, in *netlab.Space, from, to string, m dhcpv6.DHCPv6) (out []*dhcpv6.Message) {
	t.Helper()
	var c net.PacketConn
	for range 100 { // who had the port before is still being ended
		var err error
		if c, err = in.ListenPacket("udp6", from); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if c == nil {
		t.Fatalf("%s is in use", from)
	}
	defer c.Close()
	buf := make([]byte, 4096)
	for range 4 {
		if err := in.Do(func() error { return sendTo(c, to, m.ToBytes()) }); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				break
			}
			d, err := dhcpv6.MessageFromBytes(buf[:n])
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, d)
		}
	}
	return out
}

// TestDhcrelay: behind ISC's relay agent ISC's client gets an address of its own link, and
// the server knows where it is.
func TestDhcrelay(t *testing.T) {
	dhcrelay := oracle.Need(t, "isc-dhcp-relay", "dhcrelay")
	host, relay, client := netlab.New(t, "server"), netlab.New(t, "relay"), netlab.New(t, "client")
	netlab.Cable(host, "up0", relay, "up0")
	netlab.Cable(relay, "rack0", client, "eth0")
	host.Address("up0", "fd00:77::1/64")
	relay.Address("up0", "fd00:77::2/64")
	relay.Address("rack0", "fd00:78::fe/64")
	o := full()
	far := dhcp6.Pool{Link: netip.MustParsePrefix("fd00:78::/64"), First: netip.MustParseAddr("fd00:78::100"), Last: netip.MustParseAddr("fd00:78::1ff")}
	o.Config.Pools = append(o.Config.Pools, far)
	w := &site{answer: netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/x.efi"}}
	s := serve(t, host, w, o)
	linkLocal(t, relay, "rack0")
	linkLocal(t, client, "eth0")
	relay.Start(dhcrelay, "-6", "-d", "-I", "-pf", filepath.Join(t.TempDir(), "pid"), "-l", "rack0", "-u", "fd00:77::1%up0").Await("Sending on", 10*time.Second)

	env := newDhclient(t, client).run("-1")
	for _, want := range []string{"new_ip6_address=fd00:78::1", "new_dhcp6_bootfile_url=tftp://[fd00:77::1]/boot/x.efi"} {
		if !strings.Contains(env, want) {
			t.Errorf("no %s in\n%s", want, env)
		}
	}
	if list := s.Leases(); len(list) != 1 || !far.Link.Contains(list[0].Addr) {
		t.Errorf("leases: %+v", list)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.asked {
		if c.Relay.String() != "fd00:78::fe" || len(c.CircuitID) == 0 || c.MAC.IsZero() {
			t.Errorf("asked about %+v", c)
		}
	}
}

// TestLimit: a client in a loop is answered so often and no more, and others all the same;
// what has not changed is not written.
func TestLimit(t *testing.T) {
	leases := filepath.Join(t.TempDir(), "leases.json")
	o := full()
	o.LeaseFile = leases
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	o.Now = func() time.Time { return now }
	host, client := netlab.New(t, "server"), netlab.New(t, "client")
	netlab.Cable(host, "up0", client, "eth0")
	host.Address("up0", "fd00:77::1/64")
	w := &site{answer: netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/x.efi"}}
	s := serve(t, host, w, o)
	ll := linkLocal(t, client, "eth0")
	client.Address("eth0", "fe80::77/64")
	group := "[ff02::1:2%eth0]:547"
	wire := solicit(t).ToBytes()
	c, err := client.ListenPacket("udp6", "["+ll.String()+"%eth0]:546")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := client.Do(func() error { return sendTo(c, group, wire) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // as it is one link, none is lost
	}
	c.Close()
	exchange(t, client, "[fe80::77%eth0]:546", group, solicit(t)) // comes after those
	for range 100 {
		if s.Count(dhcp6.Solicit, Limited) == 100-limit.PerWindow {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := s.Count(dhcp6.Solicit, Limited); n != 100-limit.PerWindow {
		t.Errorf("%d of 100 were over the limit, want %d", n, 100-limit.PerWindow)
	}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	if got, _ := filepath.Glob(leases); got != nil {
		t.Error("Solicits were written to the disk")
	}
}

// TestRelayReplyIsForRelays: what looks like an answer is none to give an answer to.
func TestRelayReplyIsForRelays(t *testing.T) {
	_, client, _ := lab(t, full())
	linkLocal(t, client, "eth0")
	client.Address("eth0", "fd00:77::9/64", "fe80::99/64")
	wire := func(link string, typ dhcpv6.MessageType) []byte {
		r, err := dhcpv6.EncapsulateRelay(solicit(t), typ, netip.MustParseAddr(link).AsSlice(), netip.MustParseAddr("fe80::7").AsSlice())
		if err != nil {
			t.Fatal(err)
		}
		return r.ToBytes()
	}
	if _, ok := ask(t, client, "[fd00:77::9]:547", "[fd00:77::1]:547", wire("fd00:77::fe", dhcpv6.MessageTypeRelayForward), 20); !ok {
		t.Fatal("a relay was not answered")
	}
	if _, ok := ask(t, client, "[fd00:77::9]:547", "[fd00:77::1]:547", wire("fd00:77::fe", dhcpv6.MessageTypeRelayReply), 2); ok {
		t.Error("a Relay-reply was answered")
	}
	// A switch that relays on the client's link names no link (RFC 6221), and has no
	// address but a link-local one. From afar nobody may leave the link out.
	if _, ok := ask(t, client, "[fe80::99%eth0]:547", "[ff02::1:2%eth0]:547", wire("::", dhcpv6.MessageTypeRelayForward), 20); !ok {
		t.Error("a relay on the link was not answered")
	}
	if _, ok := ask(t, client, "[fd00:77::9]:547", "[fd00:77::1]:547", wire("::", dhcpv6.MessageTypeRelayForward), 2); ok {
		t.Error("a relay that names no link was answered from afar")
	}
}
