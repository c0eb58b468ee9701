package dhcp

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// bindTwice leases an address to a machine, then another one that is reserved for it
// meanwhile. The first one is the larger.
func bindTwice(t *testing.T) (b *bench, first, second netip.Addr) {
	b = newBench(t, fullConfig())
	first, _ = b.take(testMAC)
	c := fullConfig()
	second = ip("10.0.0.20")
	c.Subnets[0].Reservations = append(c.Subnets[0].Reservations, Reservation{MAC: testMAC, Addr: second})
	p, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	b.p, b.now = p, b.now.Add(time.Minute)
	b.s.Reload(p, b.now)
	if a, _ := b.take(testMAC); a != second {
		t.Fatalf("%s, not the reserved one", a)
	}
	return b, first, second
}

// TestOneLease: what is bound ends what was bound before, and stays the lease after a
// restart and a reload.
func TestOneLease(t *testing.T) {
	b, first, second := bindTwice(t)
	if n := b.count(Bound); n != 1 {
		t.Errorf("%d leases of one machine: %+v", n, b.s.Leases.List())
	}
	for _, way := range []string{"reload", "restart"} {
		if way == "restart" {
			l, err := ParseLeases(b.s.Leases.AppendText(nil))
			if err != nil {
				t.Fatal(err)
			}
			b.s.Leases = l
		}
		b.s.Reload(b.p, b.now)
		if x, ok := b.s.Leases.held(testMAC, b.p.networks[0]); !ok || x.Addr != second {
			t.Errorf("%s: the lease is %+v, not %s", way, x, second)
		}
		if !b.s.Leases.taken(second, mac(1), b.now) || b.s.Leases.taken(first, mac(1), b.now) {
			t.Errorf("%s: %+v", way, b.s.Leases.List())
		}
	}
}

// TestAdoptTwo: of a file with two live leases of one machine the newer one counts, not the
// one with the larger address; what has ended or was declined takes nothing away.
func TestAdoptTwo(t *testing.T) {
	b := newBench(t, fullConfig())
	at := func(last string, s Standing, since, until time.Duration) Lease {
		return Lease{Addr: ip("10.0.0." + last), MAC: testMAC, Standing: s, Since: start.Add(since), Expires: start.Add(until)}
	}
	b.s.Leases.init()
	for _, x := range []Lease{at("101", Bound, -time.Minute, time.Hour), at("103", Bound, -time.Hour, time.Minute),
		at("104", Bound, -time.Second, 0), at("105", Declined, 0, time.Minute)} {
		b.s.Leases.byAddr[x.Addr] = x
	}
	b.s.Reload(b.p, b.now)
	if x, ok := b.s.Leases.held(testMAC, b.p.networks[0]); !ok || x.Addr != ip("10.0.0.101") {
		t.Errorf("the lease is %+v", x)
	}
	if !b.s.Leases.taken(ip("10.0.0.101"), mac(1), b.now) || !b.s.Leases.taken(ip("10.0.0.105"), testMAC, b.now) {
		t.Errorf("%+v", b.s.Leases.List())
	}
}

// TestOfferBesideLease: an offer of another address that is not taken up leaves the lease.
func TestOfferBesideLease(t *testing.T) {
	b := newBench(t, fullConfig())
	n := b.p.networks[0]
	put := func(a string, s Standing) {
		b.s.Leases.put(Lease{ip(a), testMAC, "", s, b.now, b.now.Add(time.Hour), n.Prefix})
	}
	put("10.0.0.101", Bound)
	put("10.0.0.102", Offered)
	put("10.0.0.103", Offered)
	b.step(packet(ask(Request, testMAC, addrOption(optRequested, "10.0.0.9"), addrOption(optServer, "10.0.0.2"))))
	if x, ok := b.s.Leases.held(testMAC, n); !ok || x.Addr != ip("10.0.0.101") || x.Standing != Bound || len(b.s.Leases.byAddr) != 1 {
		t.Errorf("%+v, of %+v", x, b.s.Leases.List())
	}
	put("10.0.0.102", Offered)
	put("10.0.0.104", Bound)
	if l := b.s.Leases.List(); len(l) != 1 || l[0].Addr != ip("10.0.0.104") {
		t.Errorf("%+v", l)
	}
	put("10.0.0.105", Declined) // of before
	if x, ok := b.s.Leases.held(testMAC, n); !ok || x.Addr != ip("10.0.0.104") {
		t.Errorf("a declined address ends another lease: %+v", x)
	}
}

// TestRebootWithAnother: RFC 2131 section 4.3.2, INIT-REBOOT with an address that is not the
// machine's.
func TestRebootWithAnother(t *testing.T) {
	b := newBench(t, fullConfig())
	addr, _ := b.take(testMAC)
	free := ip("10.0.0.101")
	if free == addr {
		free = ip("10.0.0.102")
	}
	out := b.step(packet(ask(Request, testMAC, Option{optRequested, free.AsSlice()})))
	if out.Reply == nil || out.Reply.Message.Type() != Nak {
		t.Errorf("%+v", out.Reply)
	}
	if x, _ := b.s.Leases.held(testMAC, b.p.networks[0]); x.Addr != addr {
		t.Errorf("its lease is %+v", x)
	}
}

// TestDeclinesOfEach: declines of one subnet do not count in another, and who declines beyond
// the bound gets another address.
func TestDeclinesOfEach(t *testing.T) {
	b := newBench(t, fullConfig())
	for i := range byte(20) { // of the 101 of the other subnet
		b.s.Leases.put(Lease{netip.AddrFrom4([4]byte{10, 1, 0, 100 + i}), mac(int(i)), "", Declined, b.now, b.now.Add(time.Hour), b.p.networks[1].Prefix})
	}
	seen := map[netip.Addr]bool{}
	for i := range 8 { // of ten, one of which is reserved
		a, why := b.take(testMAC)
		if why != "" || seen[a] {
			t.Fatalf("after %d declines: %s again, %s", i, a, why)
		}
		seen[a] = true
		b.step(packet(ask(Decline, testMAC, Option{optRequested, a.AsSlice()}, addrOption(optServer, "10.0.0.1"))))
		if rests := b.s.Leases.taken(a, mac(99), b.now); rests != (i < 2) {
			t.Errorf("%s, number %d, rests: %v", a, i, rests)
		}
	}
}

// TestOwnAddresses: none of the server's addresses is given, on whichever link it has it,
// asked for or reserved.
func TestOwnAddresses(t *testing.T) {
	b := newBench(t, fullConfig())
	q := packet(ask(Discover, testMAC, addrOption(optRequested, "10.0.0.104")))
	q.Own = append(q.Own, ip("10.0.0.104"), ip("10.0.0.10"))
	if a := b.step(q).Reply.Message.Your; a == ip("10.0.0.104") {
		t.Error("an own address of the pool is offered")
	}
	q.Message = ask(Request, testMAC, addrOption(optRequested, "10.0.0.104"), addrOption(optServer, "10.0.0.1"))
	if out := b.step(q); out.Reply == nil || out.Reply.Message.Type() != Nak {
		t.Errorf("REQUEST: %+v", out.Reply)
	}
	q.Message = ask(Discover, netboot.MAC{2, 0, 0, 0, 0, 1})
	if out := b.step(q); out.Reply != nil || !strings.Contains(out.Events[0].Detail, "this server's own") {
		t.Errorf("reserved: %+v", out)
	}
}

// TestFullIsCountedOnce: who asks a full server again and again does not make it count all
// leases each time.
func TestFullIsCountedOnce(t *testing.T) {
	b := newBench(t, fullConfig())
	for i := range 9 {
		b.take(mac(i))
	}
	says := func() string { return b.step(packet(ask(Discover, testMAC))).Events[0].Detail }
	first := says()
	for _, x := range b.s.Leases.List() { // unseen by put and drop
		x.Standing = Declined
		b.s.Leases.byAddr[x.Addr] = x
	}
	if again := says(); again != first {
		t.Errorf("counted again: %s, before %s", again, first)
	}
	b.now = b.now.Add(time.Second)
	if later := says(); !strings.Contains(later, "9 declined") {
		t.Errorf("never counted again: %s", later)
	}
}

// TestFileFits: a file of all leases that a configuration allows can be read again.
func TestFileFits(t *testing.T) {
	c := Config{Mode: Full}
	for i := range byte(5) {
		c.Subnets = append(c.Subnets, Subnet{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10 + i, 0, 0, 0}), 8),
			Pools: []Range{{netip.AddrFrom4([4]byte{10 + i, 0, 0, 1}), netip.AddrFrom4([4]byte{10 + i, 1, 0, 0})}}})
	}
	if _, err := Compile(c); err == nil || !strings.Contains(err.Error(), "together") {
		t.Errorf("pools of 5 x 65536 addresses: %v", err)
	}
	c.Subnets = c.Subnets[:4]
	if _, err := Compile(c); err != nil {
		t.Error(err)
	}
	end := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	longest, err := json.Marshal(leaseLine{ip("255.255.255.255"), testMAC, strings.Repeat("w", 63), Declined, end, end})
	if err != nil || len(longest)+1 > maxLeaseLine {
		t.Errorf("a line of %d bytes: %v", len(longest)+1, err)
	}
}
