package dhcp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

var start = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// bench is a server with a clock that the test moves.
type bench struct {
	t   testing.TB
	p   *Policy
	s   State
	now time.Time
	a   netboot.Answer
}

func newBench(t testing.TB, c Config) *bench {
	t.Helper()
	p, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, p: p, now: start, a: netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/525400123456/hello-1.0.0.efi", Reason: "default", Host: "web-1", Release: "hello-1.0.0"}}
}

func subnet() Subnet {
	return Subnet{
		Prefix: netip.MustParsePrefix("10.0.0.0/24"), Pools: []Range{{ip("10.0.0.100"), ip("10.0.0.109")}},
		Reservations: []Reservation{
			{MAC: netboot.MAC{2, 0, 0, 0, 0, 1}, Addr: ip("10.0.0.10"), Name: "web-1"},
			{Port: Port{Circuit: "port 7"}, Addr: ip("10.0.0.105")}, // in the pool, and nobody else's
		},
		Router: []netip.Addr{ip("10.0.0.1")}, DNS: []netip.Addr{ip("10.0.0.53")}, NTP: []netip.Addr{ip("10.0.0.123")}, Domain: "x.test", Lease: time.Hour,
	}
}

func fullConfig() Config {
	return Config{Mode: Full, Base: Base{HTTP: "http://{address}/", Server: []string{"https://{address}:9444"}}, Subnets: []Subnet{subnet(), {
		Prefix: netip.MustParsePrefix("10.1.0.0/24"), Pools: []Range{{ip("10.1.0.100"), ip("10.1.0.200")}},
	}}}
}

// packet is a message as the server's link hears it.
func packet(m Message) *Packet {
	return &Packet{Message: m, From: netip.MustParseAddrPort("0.0.0.0:68"), To: everybody, Port: ServerPort, Link: "eth0", Local: ip("10.0.0.1"), Own: []netip.Addr{ip("10.0.0.1")}, Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}
}

func (b *bench) step(q *Packet) Output { return b.s.Step(b.p, q, b.a, b.now) }

func addrOption(code byte, a string) Option { return Option{code, ip(a).AsSlice()} }

func mac(n int) netboot.MAC {
	return netboot.MAC{2, 1, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// count is how many leases of a standing have not expired.
func (b *bench) count(s Standing) (n int) {
	for _, x := range b.s.Leases.List() {
		if x.Standing == s && b.now.Before(x.Expires) {
			n++
		}
	}
	return n
}

// take runs DISCOVER and REQUEST; it returns the address, or why there is none.
func (b *bench) take(m netboot.MAC) (netip.Addr, string) {
	b.t.Helper()
	out := b.step(packet(ask(Discover, m)))
	if out.Reply == nil {
		return netip.Addr{}, out.Events[len(out.Events)-1].Detail
	}
	offered := out.Reply.Message.Your
	out = b.step(packet(ask(Request, m, Option{optRequested, offered.AsSlice()}, addrOption(optServer, "10.0.0.1"))))
	if out.Reply == nil || out.Reply.Message.Type() != Ack || out.Reply.Message.Your != offered || !out.Durable {
		b.t.Fatalf("%s: offered %s, then %+v", m, offered, out)
	}
	return offered, ""
}

func stages(out Output) string {
	var s []string
	for _, e := range out.Events {
		s = append(s, string(e.Stage))
	}
	return strings.Join(s, " ")
}

var (
	pxeX64  = []Option{class("PXEClient:Arch:00007:UNDI:003000"), archOption(7), {optUUID, make([]byte, 17)}}
	httpX64 = []Option{class("HTTPClient:Arch:00016:UNDI:003000"), archOption(16)}
	ipxe    = []Option{class("PXEClient:Arch:00007:UNDI:003010"), archOption(7), {optUserClass, []byte("iPXE")}}
	strange = []Option{class("PXEClient:Arch:00099:UNDI:003000"), archOption(99)}
)

// TestWhatIsNamed: each kind of firmware gets its file in its words, in both modes.
func TestWhatIsNamed(t *testing.T) {
	file := netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/a b/x.efi"}
	url := file
	url.Method = netboot.HTTP
	secure := file
	secure.Method = netboot.HTTPS
	no := netboot.Answer{Verb: netboot.Refuse, Reason: "deny list"}
	for _, c := range []struct {
		name   string
		opts   []Option
		a      netboot.Answer
		next   string // siaddr
		field  string
		option string // 67
		class  string
		vendor string
		stages string
	}{
		{"PXE", pxeX64, file, "10.0.0.1", "boot/a b/x.efi", "boot/a b/x.efi", "PXEClient", string(noDiscovery), "asked offered"},
		{"HTTP", httpX64, url, "", "", "http://10.0.0.1/boot/a%20b/x.efi", "HTTPClient", "", "asked offered"},
		{"iPXE by HTTP", ipxe, url, "", "", "http://10.0.0.1/boot/a%20b/x.efi", "PXEClient", string(noDiscovery), "asked offered"},
		{"iPXE by TFTP", ipxe, file, "10.0.0.1", "boot/a b/x.efi", "boot/a b/x.efi", "PXEClient", string(noDiscovery), "asked offered"},
		{"PXE may not", pxeX64, no, "", "", "", "PXEClient", string(localBoot), "asked refused"},
		{"HTTP may not", httpX64, no, "", "", "http://10.0.0.1/boot/525400123456/refused", "HTTPClient", "", "asked refused"},
		{"PXE is given a URL", pxeX64, url, "", "", "", "PXEClient", string(localBoot), "asked refused"},
		{"HTTP is given TFTP", httpX64, file, "", "", "http://10.0.0.1/boot/525400123456/refused", "HTTPClient", "", "asked refused"},
		{"no HTTPS here", httpX64, secure, "", "", "http://10.0.0.1/boot/525400123456/refused", "HTTPClient", "", "asked refused"},
		{"unknown architecture", strange, file, "", "", "", "PXEClient", string(localBoot), "asked refused"},
	} {
		for _, mode := range []Mode{Proxy, Full} {
			cfg := fullConfig()
			if mode == Proxy {
				cfg.Mode, cfg.Subnets = Proxy, nil
			}
			b := newBench(t, cfg)
			b.a = c.a
			out := b.step(packet(ask(Discover, testMAC, c.opts...)))
			if out.Reply == nil {
				t.Fatalf("%s, %s: no answer", c.name, mode)
			}
			m := out.Reply.Message
			next := ""
			if m.Next.IsValid() {
				next = m.Next.String()
			}
			if next != c.next || m.File != c.field || string(m.Options.Get(optBootFile)) != c.option || string(m.Options.Get(optClass)) != c.class || string(m.Options.Get(optVendor)) != c.vendor || stages(out) != c.stages {
				t.Errorf("%s, %s: next %s, file %q, option %q, class %q, vendor %x, %s", c.name, mode, next, m.File, m.Options.Get(optBootFile), m.Options.Get(optClass), m.Options.Get(optVendor), stages(out))
			}
			if m.Type() != Offer || out.Reply.To != netip.AddrPortFrom(everybody, 68) || m.Your.IsValid() != (mode == Full) || m.addr(optServer) != ip("10.0.0.1") || m.XID != 0x12345678 {
				t.Errorf("%s, %s: %s to %s, your %s", c.name, mode, m.Type(), out.Reply.To, m.Your)
			}
			if want := packetOption(c.opts, optUUID); string(m.Options.Get(optUUID)) != string(want) {
				t.Errorf("%s, %s: UUID %x is not given back", c.name, mode, m.Options.Get(optUUID))
			}
			if c.name == "unknown architecture" && !strings.Contains(out.Events[1].Detail, "99") {
				t.Errorf("%q names no number", out.Events[1].Detail)
			}
		}
	}
}

func packetOption(opts Options, code byte) []byte { return opts.Get(code) }

// TestProxyIsSilent for what another server answers, and in mode off for all.
func TestProxyIsSilent(t *testing.T) {
	for _, mode := range []Mode{Proxy, Off} {
		b := newBench(t, Config{Mode: mode, Base: Base{Server: []string{"https://{address}:9444"}}})
		for name, m := range map[string]Message{
			"an operating system":          ask(Discover, testMAC, class("MSFT 5.0")),
			"no class":                     ask(Discover, testMAC),
			"ingot-init asks for a lease":  ask(Discover, testMAC, class("ingot")),
			"a request for another server": ask(Request, testMAC, append(pxeX64, addrOption(optServer, "10.0.0.2"))...),
			"a release":                    ask(Release, testMAC, pxeX64...),
			"an answer of a server":        ask(Offer, testMAC, pxeX64...),
			"BOOTP":                        {Op: opRequest, HType: 1, HLen: 6, Hardware: [16]byte{2}},
		} {
			if out := b.step(packet(m)); out.Reply != nil || out.Durable {
				t.Errorf("%s, %s: %+v", mode, name, out.Reply)
			}
		}
		b.a = netboot.Answer{}
		if out := b.step(packet(ask(Discover, testMAC, pxeX64...))); out.Reply != nil {
			t.Errorf("%s: who is to be ignored is answered", mode)
		}
	}
}

// TestBootServer: port 4011 answers who has an address, at the port that it asks from.
func TestBootServer(t *testing.T) {
	for _, typ := range []Type{Request, Inform, Discover} {
		b := newBench(t, Config{})
		m := ask(typ, testMAC, append(pxeX64, Option{optVendor, []byte("\x47\x04\x00\x00\x00\x00\xff")})...)
		m.Client = ip("10.0.0.77")
		q := packet(m)
		q.Port, q.From, q.To = BootPort, netip.MustParseAddrPort("10.0.0.77:1068"), q.Local
		out := b.step(q)
		if out.Reply == nil || out.Reply.Message.Type() != Ack || out.Reply.To != q.From || out.Reply.Port != BootPort || out.Reply.Message.File != b.a.Path || out.Reply.Message.Client != m.Client || out.Reply.Message.Your.IsValid() {
			t.Errorf("%s: %+v", typ, out)
			continue
		}
		if v := out.Reply.Message.Options.Get(optVendor); string(sub(v, pxeItem, true)) != "\x00\x00\x00\x00" || string(sub(v, pxeControl, true)) != "\x08" {
			t.Errorf("%s: vendor options %x", typ, v)
		}
	}
	b := newBench(t, Config{})
	q := packet(ask(Request, testMAC, httpX64...))
	q.Port = BootPort
	if out := b.step(q); out.Reply != nil {
		t.Error("an HTTP client is answered on 4011")
	}
	// Firmware that looks for its boot server by broadcast does it on 67.
	if out := b.step(packet(ask(Request, testMAC, append(pxeX64, Option{optVendor, []byte("\x47\x04\x00\x00\x00\x00\xff")})...))); out.Reply == nil || out.Reply.Message.Type() != Ack {
		t.Errorf("boot server discovery on 67: %+v", out)
	}
}

// TestInitIsTold: ingot-init learns of its server with its lease, or by INFORM beside
// another DHCP server.
func TestInitIsTold(t *testing.T) {
	want := "\x01\x15https://10.0.0.1:9444\x02\x0fhttp://10.0.0.1\xff"
	b := newBench(t, fullConfig())
	out := b.step(packet(ask(Discover, testMAC, class("ingot"))))
	if v := out.Reply.Message.Options.Get(optVendor); string(v) != want {
		t.Errorf("with a lease: %q", v)
	}
	inform := ask(Inform, testMAC, class("ingot"))
	inform.Client = ip("10.0.0.77")
	b = newBench(t, Config{Base: fullConfig().Base})
	out = b.step(packet(inform))
	if out.Reply == nil || string(out.Reply.Message.Options.Get(optVendor)) != want || out.Reply.To != netip.MustParseAddrPort("10.0.0.77:68") || out.Reply.Message.Options.Get(optLeaseTime) != nil || out.Reply.Message.Your.IsValid() {
		t.Errorf("beside another server: %+v", out)
	}
	inform.Client = ip("192.0.2.9") // a stranger's address: an answer there would be his trouble
	if out := b.step(packet(inform)); out.Reply != nil {
		t.Errorf("answered to %s", out.Reply.To)
	}
	other := ask(Inform, testMAC, class("MSFT 5.0"))
	other.Client = ip("10.0.0.77")
	if out := b.step(packet(other)); out.Reply != nil {
		t.Error("a proxy tells an operating system something")
	}
}

// TestLeaseOfAnHour is the way of RFC 2131 figure 5: discover, request, renew, rebind,
// release.
func TestLeaseOfAnHour(t *testing.T) {
	b := newBench(t, fullConfig())
	out := b.step(packet(ask(Discover, testMAC, Option{optClientID, []byte{1, 2}}, Option{optHostName, []byte("we!b-1\n")})))
	m := out.Reply.Message
	for code, want := range map[byte]string{optMask: "\xff\xff\xff\x00", optRouter: "\x0a\x00\x00\x01", optDNS: "\x0a\x00\x00\x35", optNTP: "\x0a\x00\x00\x7b", optDomain: "x.test",
		optLeaseTime: "\x00\x00\x0e\x10", optRenewal: "\x00\x00\x07\x08", optRebinding: "\x00\x00\x0c\x4e", optClientID: "\x01\x02"} {
		if got := string(m.Options.Get(code)); got != want {
			t.Errorf("option %d is %x, want %x", code, got, want)
		}
	}
	if m.Type() != Offer || out.Durable || len(out.Events) != 0 {
		t.Errorf("%+v", out)
	}
	addr, _ := b.take(testMAC)
	if addr != m.Your {
		t.Errorf("offered %s, then %s", m.Your, addr)
	}
	b.now = start.Add(30 * time.Minute)
	renew := ask(Request, testMAC)
	renew.Client = addr
	q := packet(renew)
	q.To, q.From = q.Local, netip.AddrPortFrom(addr, 68)
	if out = b.step(q); out.Reply == nil || out.Reply.Message.Type() != Ack || out.Reply.To != netip.AddrPortFrom(addr, 68) || !out.Durable {
		t.Fatalf("renew: %+v", out)
	}
	b.now = start.Add(80 * time.Minute) // beyond the first hour
	if out = b.step(packet(renew)); out.Reply == nil || out.Reply.Message.Type() != Ack || out.Reply.Message.Your != addr {
		t.Fatalf("rebind: %+v", out)
	}
	if l := b.s.Leases.List(); len(l) != 1 || !l[0].Expires.Equal(b.now.Add(time.Hour)) || l[0].Addr != addr {
		t.Errorf("%+v", l)
	}
	release := ask(Release, testMAC, addrOption(optServer, "10.0.0.1"))
	release.Client = addr
	if out = b.step(packet(release)); out.Reply != nil || !out.Durable || b.count(Bound) != 0 {
		t.Errorf("release: %+v", out)
	}
	if again, _ := b.take(testMAC); again != addr {
		t.Errorf("it comes back and gets %s", again)
	}
}

// TestNak: REQUESTs of RFC 2131 section 4.3.2 that are refused, and those that are left to
// another server.
func TestNak(t *testing.T) {
	b := newBench(t, fullConfig())
	addr, _ := b.take(testMAC)
	elsewhere := ask(Request, mac(1))
	elsewhere.Client = ip("192.0.2.1")
	stolen := ask(Request, mac(1))
	stolen.Client = addr
	for _, c := range []struct {
		name string
		m    Message
		want Type // 0: silent
	}{
		{"selecting, somebody else's", ask(Request, mac(1), Option{optRequested, addr.AsSlice()}, addrOption(optServer, "10.0.0.1")), Nak},
		{"selecting another server", ask(Request, mac(1), addrOption(optRequested, "10.0.0.104"), addrOption(optServer, "10.0.0.9")), 0},
		{"selecting, reserved for another", ask(Request, mac(1), addrOption(optRequested, "10.0.0.10"), addrOption(optServer, "10.0.0.1")), Nak},
		{"selecting, in no pool", ask(Request, mac(1), addrOption(optRequested, "10.0.0.200"), addrOption(optServer, "10.0.0.1")), Nak},
		{"selecting the broadcast address", ask(Request, mac(1), addrOption(optRequested, "10.0.0.255"), addrOption(optServer, "10.0.0.1")), Nak},
		{"selecting nothing", ask(Request, mac(1), addrOption(optServer, "10.0.0.1")), 0},
		{"rebooting, unknown", ask(Request, mac(1), addrOption(optRequested, "10.0.0.104")), 0},
		{"rebooting from another network", ask(Request, mac(1), addrOption(optRequested, "192.0.2.1")), Nak},
		{"rebooting with another's address", ask(Request, testMAC, addrOption(optRequested, "10.0.0.200")), Nak},
		{"rebooting with its own", ask(Request, testMAC, Option{optRequested, addr.AsSlice()}), Ack},
		{"rebinding from another network", elsewhere, Nak},
		{"rebinding somebody else's", stolen, Nak},
		{"with a reservation, elsewhere", ask(Request, netboot.MAC{2, 0, 0, 0, 0, 1}, addrOption(optRequested, "10.0.0.104"), addrOption(optServer, "10.0.0.1")), Nak},
	} {
		out := b.step(packet(c.m))
		switch {
		case c.want == 0:
			if out.Reply != nil {
				t.Errorf("%s: %s", c.name, out.Reply.Message.Type())
			}
		case out.Reply == nil || out.Reply.Message.Type() != c.want:
			t.Errorf("%s: %+v", c.name, out.Reply)
		case c.want == Nak && (out.Reply.To != netip.AddrPortFrom(everybody, 68) || out.Reply.Message.Your.IsValid() || out.Durable || out.Reply.Message.Options.Get(optMessage) == nil):
			t.Errorf("%s: %+v", c.name, out)
		}
	}
	if x, ok := b.s.Leases.held(testMAC, b.p.networks[0]); !ok || x.Addr != addr || x.Standing != Bound {
		t.Errorf("the first lease is %+v now", x)
	}
}

// TestDecline: an address that somebody sits on rests; who declines all in turn does not
// close the server.
func TestDecline(t *testing.T) {
	b := newBench(t, fullConfig())
	first, _ := b.take(testMAC)
	m := ask(Decline, testMAC, Option{optRequested, first.AsSlice()}, addrOption(optServer, "10.0.0.1"))
	if out := b.step(packet(ask(Decline, mac(5), Option{optRequested, first.AsSlice()}, addrOption(optServer, "10.0.0.1")))); out.Durable {
		t.Error("a stranger declines it")
	}
	if out := b.step(packet(m)); out.Reply != nil || !out.Durable || stages(out) != "refused" {
		t.Errorf("%+v", out)
	}
	if second, _ := b.take(testMAC); second == first {
		t.Error("it gets the same again")
	}
	for range 30 {
		a, why := b.take(testMAC)
		if why != "" {
			t.Fatal(why)
		}
		b.step(packet(ask(Decline, testMAC, Option{optRequested, a.AsSlice()}, addrOption(optServer, "10.0.0.1"))))
	}
	if n := b.count(Declined); n > 3 {
		t.Errorf("%d of 10 addresses rest", n)
	}
	b.now = b.now.Add(DeclineTime)
	if n := b.count(Declined); n != 0 {
		t.Errorf("%d rest for ever", n)
	}
}

func TestReservations(t *testing.T) {
	b := newBench(t, fullConfig())
	own := netboot.MAC{2, 0, 0, 0, 0, 1}
	out := b.step(packet(ask(Discover, own, addrOption(optRequested, "10.0.0.104"))))
	if out.Reply.Message.Your != ip("10.0.0.10") || string(out.Reply.Message.Options.Get(optHostName)) != "web-1" {
		t.Errorf("reserved by MAC: %+v", out.Reply.Message)
	}
	circuit := Option{optRelayInfo, []byte("\x01\x06port 7\x02\x01\x00")}
	forged := packet(ask(Discover, mac(1), circuit))
	if a := b.step(forged).Reply.Message.Your; a == ip("10.0.0.105") {
		t.Error("a client without a relay agent says at which port it is, and is believed")
	}
	m := ask(Discover, mac(2), circuit)
	m.Relay = ip("10.0.0.254")
	out = b.step(packet(m))
	r := out.Reply.Message
	if r.Your != ip("10.0.0.105") || out.Reply.To != netip.MustParseAddrPort("10.0.0.254:67") || string(r.Options.Get(optRelayInfo)) != string(circuit.Data) || r.Relay != m.Relay {
		t.Errorf("reserved by circuit: %+v", out.Reply)
	}
	if b, _ := r.Append(nil, out.Reply.Limit); !strings.Contains(string(b), string(circuit.Data)+"\xff") {
		t.Error("option 82 is not the last")
	}
	for i := range 20 { // nobody else gets it, however full it is
		if a, _ := b.take(mac(100 + i)); a == ip("10.0.0.105") {
			t.Errorf("%s got it", mac(100+i))
		}
	}
}

// TestReservationsByPort: what is named most closely counts; an id that the agent has not sent
// is not one; on the own link ids count where the switch is trusted, and only there.
func TestReservationsByPort(t *testing.T) {
	c := fullConfig()
	c.Subnets[0].Reservations = append(c.Subnets[0].Reservations,
		Reservation{Port: Port{Circuit: "port 7", Remote: "switch 1"}, Addr: ip("10.0.0.11")},
		Reservation{Port: Port{Circuit: "port 8", Remote: "switch 1"}, Addr: ip("10.0.0.12")},
		Reservation{Port: Port{Remote: "modem 1"}, Addr: ip("10.0.0.13")},
		Reservation{Port: Port{Circuit: "\x00\x04\x00\x0a"}, Addr: ip("10.0.0.14")})
	ids := func(circuit, remote string) Option {
		v := appendSub(nil, relayCircuit, []byte(circuit))
		if remote != "" {
			v = appendSub(v, relayRemote, []byte(remote))
		}
		return Option{optRelayInfo, v}
	}
	for i, x := range []struct{ circuit, remote, want string }{
		{"port 7", "switch 1", "10.0.0.11"},
		{"port 8", "switch 1", "10.0.0.12"},
		{"port 7", "switch 2", "10.0.0.105"}, // port 7 of any switch
		{"port 8", "switch 2", ""},
		{"port 8", "", ""},
		{"port 9", "modem 1", "10.0.0.13"},
		{"\x00\x04\x00\x0a", "switch 2", "10.0.0.14"},
		{"", "", ""},
	} {
		for _, way := range []string{"relay", "trusted switch", "forged"} {
			c.TrustCircuit = way == "trusted switch"
			b := newBench(t, c)
			q := packet(ask(Discover, mac(i), ids(x.circuit, x.remote)))
			if way == "relay" {
				q.Message.Relay = ip("10.0.0.254")
			}
			r := b.step(q).Reply.Message
			reserved := slices.Contains([]string{"10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14", "10.0.0.105"}, r.Your.String())
			if way == "forged" || x.want == "" {
				if reserved {
					t.Errorf("%q of %q, %s: %s", x.circuit, x.remote, way, r.Your)
				}
			} else if r.Your.String() != x.want {
				t.Errorf("%q of %q, %s: %s, want %s", x.circuit, x.remote, way, r.Your, x.want)
			}
			if echoed := r.Options.Get(optRelayInfo) != nil; echoed != (way != "forged") {
				t.Errorf("%s: option 82 is sent back: %v", way, echoed)
			}
		}
	}
}

// TestRelays: subnet by giaddr, link selection and option 118; a giaddr that is nobody's is
// refused with an event.
func TestRelays(t *testing.T) {
	b := newBench(t, fullConfig())
	for _, c := range []struct {
		relay string
		opts  []Option
		want  string // first three numbers of the address
	}{
		{"10.1.0.1", nil, "10.1.0."},
		{"10.1.0.1", []Option{{optRelayInfo, []byte("\x05\x04\x0a\x00\x00\x00")}}, "10.0.0."},
		{"10.1.0.1", []Option{addrOption(optSubnetSelect, "10.0.0.0")}, "10.0.0."},
		{"10.1.0.1", []Option{{optRelayInfo, []byte("\x05\x04\x0a\x01\x00\x00")}, addrOption(optSubnetSelect, "10.0.0.0")}, "10.1.0."},
		{"", []Option{addrOption(optSubnetSelect, "10.1.0.0")}, "10.0.0."}, // a client cannot choose
		{"", []Option{{optRelayInfo, []byte("\x05\x04\x0a\x01\x00\x00")}}, "10.0.0."},
		{"10.1.0.1", []Option{{optRelayInfo, []byte("\x05\x04\x0a\x09\x00\x00")}}, ""},
		{"192.0.2.1", nil, ""}, {"10.0.0.1", nil, ""}, {"10.1.0.255", nil, ""}, {"10.1.0.0", nil, ""}, {"255.255.255.255", nil, ""}, {"127.0.0.1", nil, ""},
	} {
		m := ask(Discover, mac(1), c.opts...)
		want := netip.AddrPortFrom(everybody, 68)
		if c.relay != "" {
			m.Relay = ip(c.relay)
			want = netip.AddrPortFrom(m.Relay, 67)
		}
		out := b.step(packet(m))
		switch {
		case c.want == "":
			if out.Reply != nil || stages(out) != "refused" || out.Alarm == "" {
				t.Errorf("relay %s: %+v", c.relay, out)
			}
		case out.Reply == nil || !strings.HasPrefix(out.Reply.Message.Your.String(), c.want) || out.Reply.To != want:
			t.Errorf("relay %s, %v: %+v", c.relay, c.opts, out.Reply)
		}
	}
	proxy := newBench(t, Config{Relays: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/32")}})
	m := ask(Discover, mac(1), pxeX64...)
	m.Relay = ip("10.1.0.1")
	if out := proxy.step(packet(m)); out.Reply == nil || out.Reply.To != netip.MustParseAddrPort("10.1.0.1:67") || out.Reply.Message.Your.IsValid() {
		t.Errorf("proxy: %+v", out)
	}
	m.Relay = ip("10.1.0.2")
	if out := proxy.step(packet(m)); out.Reply != nil || !strings.Contains(out.Events[0].Detail, "10.1.0.2") {
		t.Errorf("proxy: %+v", out)
	}
	m.Relay = ip("10.1.0.1")
	nak := ask(Request, mac(1), addrOption(optRequested, "192.0.2.1"))
	nak.Relay = m.Relay
	if out := b.step(packet(nak)); out.Reply == nil || out.Reply.Message.Flags&broadcast == 0 || out.Reply.To != netip.MustParseAddrPort("10.1.0.1:67") {
		t.Errorf("NAK by a relay: %+v", out)
	}
}

// TestStarvation: 10,000 machines that are none take what is free, and no more: leases and
// reservations stay, the event says what is full, and offers that nobody takes up give
// way.
func TestStarvation(t *testing.T) {
	b := newBench(t, fullConfig())
	addr, _ := b.take(testMAC)
	var refused Output
	for i := range 10000 {
		if out := b.step(packet(ask(Discover, mac(i)))); out.Reply == nil {
			refused = out
		}
	}
	if len(b.s.Leases.byAddr) > 10 || refused.Alarm == "" || !strings.Contains(refused.Events[0].Detail, "no address left in 10.0.0.0/24: of 10 in its pools 1 are leased, 8 offered") {
		t.Errorf("%d leases, %+v", len(b.s.Leases.byAddr), refused)
	}
	if a, why := b.take(testMAC); a != addr {
		t.Errorf("the first gets %s, %s", a, why)
	}
	if a, why := b.take(netboot.MAC{2, 0, 0, 0, 0, 1}); a != ip("10.0.0.10") {
		t.Errorf("the reservation gets %s, %s", a, why)
	}
	b.now = b.now.Add(offerGrace)
	if a, why := b.take(mac(20000)); why != "" {
		t.Errorf("a machine that comes 10 s later gets %s, %s", a, why)
	}
	for i := range 10000 { // now they do take up their offers
		b.take(mac(i))
	}
	if n := b.count(Bound); n != 10 { // nine of the pool, and the reserved one
		t.Errorf("%d are leased", n)
	}
	if a, _ := b.take(testMAC); a != addr {
		t.Errorf("the first gets %s", a)
	}
	b.now = b.now.Add(2 * time.Hour)
	if _, why := b.take(mac(30000)); why != "" {
		t.Errorf("when the leases are over: %s", why)
	}
}

func TestLeaseFile(t *testing.T) {
	b := newBench(t, fullConfig())
	var got []netip.Addr
	for i := range 5 {
		a, _ := b.take(mac(i))
		got = append(got, a)
	}
	m := ask(Discover, mac(0)) // the same machine in another subnet
	m.Relay = ip("10.1.0.1")
	q := packet(m)
	offered := b.step(q).Reply.Message.Your
	q.Message = ask(Request, mac(0), Option{optRequested, offered.AsSlice()}, addrOption(optServer, "10.0.0.1"))
	q.Message.Relay = ip("10.1.0.1")
	b.step(q)
	b.step(packet(ask(Discover, mac(77)))) // an offer is not kept
	text := b.s.Leases.AppendText(nil)
	l, err := ParseLeases(text)
	if err != nil {
		t.Fatal(err)
	}
	again := newBench(t, fullConfig())
	again.s.Leases = l
	again.s.Reload(again.p, again.now)
	if string(again.s.Leases.AppendText(nil)) != string(text) || len(again.s.Leases.List()) != 6 {
		t.Errorf("%s\nis read as\n%s", text, again.s.Leases.AppendText(nil))
	}
	for i, a := range got {
		if x, _ := again.take(mac(i)); x != a {
			t.Errorf("%s had %s, and gets %s", mac(i), a, x)
		}
	}
	for i := range len(text) { // cut anywhere, or with any byte changed
		if _, err := ParseLeases(text[:i]); err == nil {
			t.Fatalf("the first %d bytes of %d are taken for a whole", i, len(text))
		}
		bad := slices.Clone(text)
		bad[i] ^= 1
		if _, err := ParseLeases(bad); err == nil {
			t.Fatalf("with byte %d changed it is taken", i)
		}
	}
}

// TestReload: leases stay, a new reservation is honoured when its address comes free.
func TestReload(t *testing.T) {
	b := newBench(t, fullConfig())
	addr, _ := b.take(testMAC)
	c := fullConfig()
	c.Subnets[0].Reservations = append(c.Subnets[0].Reservations, Reservation{MAC: mac(9), Addr: addr})
	p, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	b.p = p
	b.s.Reload(p, b.now)
	if a, _ := b.take(mac(9)); a == addr {
		t.Error("the address is given twice")
	}
	renew := ask(Request, testMAC)
	renew.Client = addr
	if out := b.step(packet(renew)); out.Reply.Message.Type() != Nak {
		t.Errorf("the reserved address is renewed for another: %s", out.Reply.Message.Type())
	}
	b.now = b.now.Add(2 * time.Hour)
	if a, _ := b.take(mac(9)); a != addr {
		t.Errorf("the reserved address %s is free, and it gets %s", addr, a)
	}
}

func TestConfig(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"none of proxy":              func(c *Config) { c.Mode = "on" },
		"no subnets":                 func(c *Config) { c.Subnets = nil },
		"subnets are for mode full":  func(c *Config) { c.Mode = Proxy },
		"overlap":                    func(c *Config) { c.Subnets[1].Prefix = netip.MustParsePrefix("10.0.0.128/25") },
		"not an IPv4 network":        func(c *Config) { c.Subnets[0].Prefix = netip.MustParsePrefix("10.0.0.1/24") },
		"not a range of its hosts":   func(c *Config) { c.Subnets[0].Pools[0].To = ip("10.0.0.255") },
		"is not one of its hosts":    func(c *Config) { c.Subnets[0].Reservations[0].Addr = ip("10.0.1.1") },
		"either a MAC":               func(c *Config) { c.Subnets[0].Reservations[0].MAC = netboot.MAC{} },
		"two reservations of or for": func(c *Config) { c.Subnets[0].Reservations[0].Addr = ip("10.0.0.105") },
		"lease of 1s":                func(c *Config) { c.Subnets[0].Lease = time.Second },
		"does not begin with http":   func(c *Config) { c.Base.HTTP = "ftp://x" },
		"is not an IPv4 address":     func(c *Config) { c.Base.TFTP = "::1" },
		"is not an https URL":        func(c *Config) { c.Base.Server = []string{"http://x"} },
		"is not IPv4":                func(c *Config) { c.Relays = []netip.Prefix{netip.MustParsePrefix("::1/128")} },
	} {
		c := fullConfig()
		change(&c)
		if _, err := Compile(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
