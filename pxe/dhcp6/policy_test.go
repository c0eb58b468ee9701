package dhcp6

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/ingot-os/ingot/pxe/netboot"
)

var (
	ours   = ServerDUID(netboot.MAC{2, 0, 0, 0, 0, 0xaa})
	theirs = ServerDUID(netboot.MAC{2, 0, 0, 0, 0, 0xbb})
	start  = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	onLink = []netip.Addr{netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fd00:77::1")}
	yes    = netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "x"}
	no     = netboot.Answer{Verb: netboot.Refuse}
	pool   = Pool{Link: netip.MustParsePrefix("fd00:77::/64"), First: netip.MustParseAddr("fd00:77::100"), Last: netip.MustParseAddr("fd00:77::1ff"),
		DNS: []netip.Addr{netip.MustParseAddr("fd00:77::53")}}
)

const fileURL = "tftp://[fd00:77::1]/x"

func server(t testing.TB, assign bool) *Server {
	t.Helper()
	c := Config{DUID: ours, Assign: assign}
	if assign {
		c.Pools = []Pool{pool}
	}
	s, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asks is a client with a DUID of its own that sends messages.
type asks struct {
	t    *testing.T
	s    *Server
	n    uint32
	boot netboot.Answer
	now  time.Time
	os   bool // an operating system, which does not boot
}

func (a asks) duid() []byte { return binary.BigEndian.AppendUint32([]byte{0, 2, 0, 0, 0, 9}, a.n) }

func (a asks) send(typ Type, opts ...Option) *Packet {
	a.t.Helper()
	o := Options{{OptClientID, a.duid()}}
	if !a.os {
		o = append(o, Option{OptArch, []byte{0, 7}}, VendorClass(Intel, "PXEClient:Arch:00007"))
	}
	q := Question{Packet: Packet{Message: Message{typ, [3]byte{1, 2, 3}, append(o, opts...)}}, Source: netip.MustParseAddr("fe80::9"), Link: onLink, Boot: a.boot, URL: fileURL}
	out := a.s.Answer(q, a.now)
	if out != nil {
		if _, err := dhcpv6.FromBytes(out.AppendBinary(nil)); err != nil {
			a.t.Fatal(err)
		}
	}
	return out
}

func wants(addr string) Option {
	ia := IANA{ID: 1}
	if addr != "" {
		ia.Addresses = []Address{{Addr: netip.MustParseAddr(addr)}}
	}
	return ia.Option()
}

var toUs, toThem = Option{OptServerID, ours}, Option{OptServerID, theirs}

// gets is the first address of an answer, or its status.
func gets(t *testing.T, p *Packet) string {
	t.Helper()
	if p == nil {
		return "nothing"
	}
	b, ok := p.Message.Options.Get(OptIANA)
	if !ok {
		return "no IA_NA"
	}
	ia, err := ParseIANA(b)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case ia.Status != nil:
		return fmt.Sprint("status ", *ia.Status)
	case ia.Addresses[0].Valid == 0:
		return "taken away"
	}
	return ia.Addresses[0].Addr.String()
}

func file(p *Packet) string {
	if p == nil {
		return "nothing"
	}
	b, _ := p.Message.Options.Get(OptBootURL)
	return string(b)
}

func TestFull(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
	ad := a.send(Solicit, wants(""))
	if ad == nil || ad.Message.Type != Advertise || file(ad) != fileURL || ad.Message.Options.Has(OptVendorClass) {
		t.Fatalf("%+v", ad)
	}
	if dns, _ := ad.Message.Options.Get(OptDNS); !bytes.Equal(dns, pool.DNS[0].AsSlice()) {
		t.Errorf("DNS %x", dns)
	}
	if a.s.Leases.Len() != 0 {
		t.Error("a Solicit costs memory")
	}
	addr := gets(t, ad)
	if !pool.contains(netip.MustParseAddr(addr)) {
		t.Fatal(addr)
	}
	if got := gets(t, a.send(Request, toUs, wants(addr))); got != addr || a.s.Leases.Len() != 1 {
		t.Errorf("Request: %s, %d leases", got, a.s.Leases.Len())
	}
	if got := gets(t, a.send(Request, toThem, wants(addr))); got != "nothing" {
		t.Errorf("another server's Request: %s", got)
	}
	a.now = start.Add(time.Hour)
	if got := gets(t, a.send(Renew, toUs, wants(addr))); got != addr || !a.s.Leases.All()[0].Until.Equal(start.Add(3*time.Hour)) {
		t.Errorf("Renew: %s, %+v", got, a.s.Leases.All())
	}
	if got := gets(t, a.send(Rebind, wants(addr))); got != addr {
		t.Errorf("Rebind: %s", got)
	}
	if got := gets(t, a.send(Renew, toUs, wants("fd00:78::1"))); got != "taken away" {
		t.Errorf("Renew of another link's address: %s", got)
	}
	other := a
	other.n = 2
	if got := gets(t, other.send(Renew, toUs, wants(addr))); got != "status 3" {
		t.Errorf("Renew of another's address: %s", got)
	}
	if got := gets(t, other.send(Rebind, wants(addr))); got != "nothing" {
		t.Errorf("Rebind of another's address: %s", got)
	}
	if got := gets(t, other.send(Request, toUs, wants(addr))); got == addr {
		t.Error("one address for two machines")
	}
	other.send(Release, toUs, wants(addr))
	if a.s.Leases.Len() != 2 {
		t.Error("another's lease was released")
	}
	a.send(Release, toUs, wants(addr))
	if a.s.Leases.Len() != 1 {
		t.Errorf("%d leases after Release", a.s.Leases.Len())
	}
}

// TestSameAddressEverywhere: a server that has lost its leases, and a second one, give a
// machine the same address, and Renew goes on where no lease is known.
func TestSameAddressEverywhere(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 77, boot: yes, now: start}
	addr := gets(t, a.send(Request, toUs, wants("")))
	a.s = server(t, true)
	if got := gets(t, a.send(Solicit, wants(""))); got != addr {
		t.Errorf("%s, then %s", addr, got)
	}
	if got := gets(t, a.send(Renew, toUs, wants(addr))); got != addr {
		t.Errorf("Renew: %s", got)
	}
}

func TestDecline(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
	addr := gets(t, a.send(Request, toUs, wants("")))
	a.send(Decline, toUs, wants(addr))
	if got := gets(t, a.send(Request, toUs, wants(addr))); got == addr || !strings.HasPrefix(got, "fd00:77::1") {
		t.Errorf("after Decline: %s", got)
	}
	a.now = start.Add(quarantine + time.Second)
	b := a
	b.n = 2
	if got := gets(t, b.send(Request, toUs, wants(addr))); got != addr {
		t.Errorf("after the quarantine: %s", got)
	}
}

func TestReservations(t *testing.T) {
	s, err := New(Config{DUID: ours, Assign: true, Pools: []Pool{pool}, Reserved: map[netboot.MAC]netip.Addr{
		{2, 0, 0, 0, 0, 1}: netip.MustParseAddr("fd00:77::105"), {2, 0, 0, 0, 0, 2}: netip.MustParseAddr("fd00:77::9")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	from := func(n byte, typ Type, o ...Option) *Packet {
		duid := ServerDUID(netboot.MAC{2, 0, 0, 0, 0, n})
		q := Question{Packet: Packet{Message: Message{Type: typ, Options: append(Options{{OptClientID, duid}}, o...)}}, Source: netip.MustParseAddr("fe80::9"), Link: onLink}
		return s.Answer(q, start)
	}
	if got := gets(t, from(1, Request, toUs, wants("fd00:77::106"))); got != "fd00:77::105" {
		t.Error(got)
	}
	if got := gets(t, from(2, Request, toUs, wants(""))); got != "fd00:77::9" {
		t.Errorf("outside the pool: %s", got)
	}
	if got := gets(t, from(2, Renew, toUs, wants("fd00:77::9"))); got != "fd00:77::9" {
		t.Errorf("Renew outside the pool: %s", got)
	}
	if got := gets(t, from(3, Request, toUs, wants("fd00:77::105"))); got == "fd00:77::105" {
		t.Error("a reserved address was given to another machine")
	}
}

// TestStarvation: 10,000 forged clients fill the pool of 256 or the table, and nothing
// else: those that have an address keep it, and after the lifetime all is as before.
func TestStarvation(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
	addr := gets(t, a.send(Request, toUs, wants("")))
	full := 0
	for n := range uint32(10000) {
		b := a
		b.n = 100 + n
		if gets(t, b.send(Request, toUs, wants(""))) == "status 2" {
			full++
		}
	}
	if a.s.Leases.Len() != 256 || full != 10000-255 {
		t.Errorf("%d leases, %d refused", a.s.Leases.Len(), full)
	}
	if got := gets(t, a.send(Renew, toUs, wants(addr))); got != addr {
		t.Errorf("Renew: %s", got)
	}
	b := a
	b.n, b.now = 5, start.Add(3*time.Hour)
	if got := gets(t, b.send(Request, toUs, wants(""))); !strings.HasPrefix(got, "fd00:77::1") {
		t.Errorf("after the lifetime: %s", got)
	}

	wide := pool
	wide.First, wide.Last = netip.MustParseAddr("fd00:77::1"), netip.MustParseAddr("fd00:77::ffff:ffff:ffff:ffff")
	s, err := New(Config{DUID: ours, Assign: true, Pools: []Pool{wide}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Leases.max = 1000
	c := asks{t: t, s: s, boot: yes, now: start}
	for n := range uint32(3000) {
		c.n = n
		c.send(Request, toUs, wants(""))
	}
	if s.Leases.Len() != 1000 || len(s.Leases.byOwner) != 1000 {
		t.Errorf("%d leases of %d owners, the bound is 1000", s.Leases.Len(), len(s.Leases.byOwner))
	}
	c.n, c.now = 99999, start.Add(3*time.Hour)
	if got := gets(t, c.send(Request, toUs, wants(""))); !strings.HasPrefix(got, "fd00:77:") || s.Leases.Len() != 1 {
		t.Errorf("after the lifetime: %s, %d leases", got, s.Leases.Len())
	}
}

// TestRefuse: the shapes by which OVMF goes on at once. With an address but no boot file,
// or an offer of nothing, it gives up when the offers are in.
func TestRefuse(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: no, now: start}
	if p := a.send(Solicit, wants("")); p == nil || file(p) != "" || p.Message.Options.Has(OptVendorClass) {
		t.Errorf("full: %+v", p)
	}
	a.s = server(t, false)
	if p := a.send(Solicit, wants("")); p == nil || p.Message.Type != Advertise || len(p.Message.Options) != 2 {
		t.Errorf("proxy: %+v", p)
	}
	a.boot = netboot.Answer{}
	if p := a.send(Solicit, wants("")); p != nil {
		t.Errorf("Ignore: %+v", p)
	}
}

// TestProxy: beside another server nobody is given an address, and who does not boot hears
// nothing.
func TestProxy(t *testing.T) {
	a := asks{t: t, s: server(t, false), n: 1, boot: yes, now: start}
	p := a.send(Solicit, wants(""))
	if gets(t, p) != "no IA_NA" || file(p) != fileURL || class(p.Message.Options) != "PXEClient" || p.Message.Options.Has(OptPreference) {
		t.Errorf("%+v", p)
	}
	for _, typ := range []Type{Request, Renew, Release, Decline} {
		if p := a.send(typ, toUs, wants("fd00:77::100")); p != nil {
			t.Errorf("%s: %+v", typ, p)
		}
	}
	for _, typ := range []Type{Confirm, Rebind} {
		if p := a.send(typ, wants("fd00:77::100")); p != nil {
			t.Errorf("%s: %+v", typ, p)
		}
	}
	if p := a.send(InformationRequest); p == nil || p.Message.Type != Reply || file(p) != fileURL {
		t.Errorf("Information-request: %+v", p)
	}
	http := Question{Packet: Packet{Message: Message{Type: Solicit, Options: Options{{OptClientID, a.duid()}, VendorClass(Intel, "HTTPClient:Arch:00016")}}}, Boot: yes, URL: "http://[fd00::1]/x"}
	if p := a.s.Answer(http, start); file(p) != "http://[fd00::1]/x" || class(p.Message.Options) != "HTTPClient" {
		t.Errorf("HTTP: %+v", p)
	}
	boot := Question{Packet: Packet{Message: Message{Type: Request, Options: Options{{OptClientID, a.duid()}, toUs, {OptArch, []byte{0, 7}}}}}, Boot: yes, URL: fileURL, BootServer: true, Unicast: true}
	if p := a.s.Answer(boot, start); file(p) != fileURL || p.Message.Type != Reply {
		t.Errorf("boot server: %+v", p)
	}
	a.os = true
	if p := a.send(Solicit, wants("")); p != nil {
		t.Errorf("an operating system: %+v", p)
	}
	if p := a.send(InformationRequest); p != nil {
		t.Errorf("an operating system: %+v", p)
	}
}

// TestNotValid are messages that RFC 8415 section 16 has servers discard.
func TestNotValid(t *testing.T) {
	s := server(t, true)
	id := Option{OptClientID, []byte{0, 4, 1, 2, 3}}
	for name, m := range map[string]Message{
		"Solicit without client":              {Type: Solicit},
		"Solicit with server":                 {Type: Solicit, Options: Options{id, toUs}},
		"Request without server":              {Type: Request, Options: Options{id}},
		"Request without client":              {Type: Request, Options: Options{toUs}},
		"Rebind with server":                  {Type: Rebind, Options: Options{id, toUs}},
		"Renew to another":                    {Type: Renew, Options: Options{id, toThem}},
		"Advertise":                           {Type: Advertise, Options: Options{id, toUs}},
		"Reply":                               {Type: Reply, Options: Options{id, toUs}},
		"Reconfigure":                         {Type: Reconfigure, Options: Options{id, toUs}},
		"a type that there is not":            {Type: 99, Options: Options{id}},
		"Information-request with an address": {Type: InformationRequest, Options: Options{id, wants("")}},
		"Information-request to another":      {Type: InformationRequest, Options: Options{id, toThem}},
		"DUID of 131 bytes":                   {Type: Solicit, Options: Options{{OptClientID, make([]byte, 131)}}},
		"empty DUID":                          {Type: Solicit, Options: Options{{OptClientID, nil}}},
	} {
		if p := s.Answer(Question{Packet: Packet{Message: m}, Link: onLink}, start); p != nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
	q := Question{Packet: Packet{Message: Message{Type: Solicit, Options: Options{id, wants("")}}}, Link: onLink, Unicast: true}
	if p := s.Answer(q, start); p != nil {
		t.Errorf("Solicit by unicast: %+v", p)
	}
	q.Packet.Message = Message{Type: Request, Options: Options{id, toUs, wants("")}}
	if b, _ := s.Answer(q, start).Message.Options.Get(OptStatus); len(b) < 2 || b[1] != byte(UseMulticast) {
		t.Errorf("Request by unicast: %x", b)
	}
	if s.Leases.Len() != 0 {
		t.Error("a lease for a message that is none")
	}
}

func TestConfirm(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
	for addr, want := range map[string]Status{"fd00:77::105": Success, "fd00:78::1": NotOnLink} {
		p := a.send(Confirm, wants(addr))
		if b, _ := p.Message.Options.Get(OptStatus); len(b) < 2 || Status(binary.BigEndian.Uint16(b)) != want {
			t.Errorf("%s: %x", addr, b)
		}
	}
	if p := a.send(Confirm, wants("")); p != nil {
		t.Errorf("Confirm of nothing: %+v", p)
	}
}

// TestRelay: the client's link is the relay's, and an answer goes back with what the relays
// need to find it.
func TestRelay(t *testing.T) {
	s, err := New(Config{DUID: ours, Assign: true, Pools: []Pool{pool,
		{Link: netip.MustParsePrefix("fd00:99::/64"), First: netip.MustParseAddr("fd00:99::1"), Last: netip.MustParseAddr("fd00:99::1")}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	in := Packet{
		Relays: []Relay{
			{Hops: 1, Link: netip.IPv6Unspecified(), Peer: netip.MustParseAddr("fd00:50::2"), Options: Options{{OptRelayPort, []byte{4, 0}}}},
			{Link: netip.MustParseAddr("fd00:99::fe"), Peer: netip.MustParseAddr("fe80::7"), Options: Options{{OptRemoteID, []byte("secret")}, {OptInterfaceID, []byte("ge-0/0/1")}}}},
		Message: Message{Type: Solicit, Options: Options{{OptClientID, []byte{0, 4, 1, 2, 3}}, wants("")}},
	}
	p := parse(t, in.AppendBinary(nil))
	c := Client(p, netip.MustParseAddr("fd00:50::1"))
	if c.Relay.String() != "fd00:99::fe" || string(c.CircuitID) != "ge-0/0/1" || string(c.RemoteID) != "secret" || c.Addr.String() != "fe80::7" {
		t.Errorf("%+v", c)
	}
	out := s.Answer(Question{Packet: p, Source: netip.MustParseAddr("fd00:50::1"), Link: onLink}, start)
	if gets(t, out) != "fd00:99::1" {
		t.Error(gets(t, out))
	}
	if len(out.Relays) != 2 || !out.Relays[0].Options.Has(OptRelayPort) || !out.Relays[1].Options.Has(OptInterfaceID) || out.Relays[1].Options.Has(OptRemoteID) ||
		out.Relays[0].Hops != 1 || out.Relays[1].Peer.String() != "fe80::7" {
		t.Errorf("%+v", out.Relays)
	}
	in.Relays[1].Link = netip.MustParseAddr("fd00:44::1")
	if got := gets(t, s.Answer(Question{Packet: in, Link: onLink}, start)); got != "status 2" {
		t.Errorf("a link that has no pool: %s", got)
	}
}

func TestConfigCheck(t *testing.T) {
	for want, c := range map[string]Config{
		"server DUID":    {},
		"no pool":        {DUID: ours, Assign: true},
		"not inside":     {DUID: ours, Pools: []Pool{{Link: pool.Link, First: pool.First, Last: netip.MustParseAddr("fd00:78::1")}}},
		"not a range":    {DUID: ours, Pools: []Pool{{Link: pool.Link, First: pool.Last, Last: pool.First}}},
		"not a prefix":   {DUID: ours, Pools: []Pool{{Link: netip.MustParsePrefix("10.0.0.0/8"), First: pool.Last, Last: pool.First}}},
		"overlaps":       {DUID: ours, Pools: []Pool{pool, pool}},
		"shorter":        {DUID: ours, Pools: []Pool{{Link: pool.Link, First: pool.First, Last: pool.Last, Preferred: 2, Valid: 1}}},
		"or there twice": {DUID: ours, Reserved: map[netboot.MAC]netip.Addr{{1}: pool.First, {2}: pool.First}},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestURL(t *testing.T) {
	a := netip.MustParseAddr("fd00::1")
	b := Base{HTTP: "http://{address}:8080/", HTTPS: "https://boot.example"}
	for want, answer := range map[string]netboot.Answer{
		"tftp://[fd00::1]/boot/525400123456/a%20b.efi": {Method: netboot.TFTP, Path: "boot/525400123456/a b.efi"},
		"http://[fd00::1]:8080/x-1.0%2B2.efi":          {Method: netboot.HTTP, Path: "x-1.0+2.efi"},
		"https://boot.example/x":                       {Method: netboot.HTTPS, Path: "x"},
	} {
		if got, err := b.URL(answer, a); err != nil || got != strings.ReplaceAll(want, "%2B", "+") {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	if _, err := b.URL(netboot.Answer{Method: netboot.TFTP}, netip.MustParseAddr("fe80::1%eth0")); err == nil {
		t.Error("a link-local address in a URL")
	}
	if _, err := (Base{}).URL(netboot.Answer{Method: netboot.HTTP}, a); err == nil {
		t.Error("a URL of a server that there is not")
	}
}

func TestAdvertisement(t *testing.T) {
	b := Advertisement{HopLimit: 64, Managed: true, Other: true, MAC: netboot.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500,
		Prefixes: []Prefix{{Prefix: pool.Link, OnLink: true, Valid: time.Hour, Preferred: time.Minute}}, DNS: pool.DNS}.AppendBinary(nil)
	want := "8600 0000 40 c0 0000 00000000 00000000 0101 020000000001 0501 0000 000005dc" +
		"0304 40 80 00000e10 0000003c 00000000 fd000077000000000000000000000000 1903 0000 00001518 fd000077000000000000000000000053"
	if got := fmt.Sprintf("%x", b); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("%s", got)
	}
}

func TestIsSolicitation(t *testing.T) {
	ll, none := netip.MustParseAddr("fe80::1"), netip.IPv6Unspecified()
	head := []byte{133, 0, 0, 0, 0, 0, 0, 0}
	mac := append(head[:8:8], 1, 1, 2, 0, 0, 0, 0, 1)
	for _, x := range []struct {
		b    []byte
		from netip.Addr
		hops int
		want bool
	}{
		{head, ll, 255, true}, {head, none, 255, true}, {mac, ll, 255, true}, {mac, none, 255, false},
		{head, ll, 64, false}, {head[:7], ll, 255, false}, {mac[:15], ll, 255, false}, {append(head[:8:8], 1, 0, 0, 0, 0, 0, 0, 0), ll, 255, false},
		{[]byte{134, 0, 0, 0, 0, 0, 0, 0}, ll, 255, false}, {nil, ll, 255, false},
	} {
		if got := IsSolicitation(x.b, x.from, x.hops); got != x.want {
			t.Errorf("%x from %s, %d hops: %t", x.b, x.from, x.hops, got)
		}
	}
}
