package dhcp6

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// TestNoAddressHere: on a link without a pool nothing keeps a client from other servers: no
// preference, no Rapid Commit.
func TestNoAddressHere(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
	rapid := Option{OptRapidCommit, nil}
	if p := a.send(Solicit, rapid, wants("")); p.Message.Type != Reply || !p.Message.Options.Has(OptRapidCommit) || a.s.Leases.Len() != 1 {
		t.Errorf("Rapid Commit: %+v", p)
	}
	a.s = server(t, true)
	a.s.Pools[0].Link = netip.MustParsePrefix("fd00:99::/64")
	p := a.send(Solicit, rapid, wants(""))
	if p.Message.Type != Advertise || p.Message.Options.Has(OptPreference) || p.Message.Options.Has(OptRapidCommit) || gets(t, p) != "status 2" || a.s.Leases.Len() != 0 {
		t.Errorf("no pool: %+v", p)
	}
}

// TestNotOnLink: a Request for an address of another link is told so, and one for an
// address that another machine has is given another.
func TestNotOnLink(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
	if got := gets(t, a.send(Request, toUs, wants("fd00:78::1"))); got != "status 4" || a.s.Leases.Len() != 0 {
		t.Errorf("%s, %d leases", got, a.s.Leases.Len())
	}
	if got := gets(t, a.send(Solicit, wants("fd00:78::1"))); got == "status 4" {
		t.Error("a wish of a Solicit is no more than a wish")
	}
}

// TestUnserved: who asks for temporary addresses and for prefixes is told that there are
// none, once for each association, in words that another implementation reads.
func TestUnserved(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
	ta, pd := Option{OptIATA, []byte{0, 0, 0, 7}}, Option{OptIAPD, []byte{0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2}}
	many := []Option{wants(""), ta, ta, pd, pd, {OptIATA, []byte{1}}, {OptIAPD, []byte{1, 2}}}
	for n := range byte(20) {
		many = append(many, Option{OptIATA, []byte{9, 0, 0, n}})
	}
	d, err := dhcpv6.MessageFromBytes(a.send(Request, append(many, toUs)...).AppendBinary(nil))
	if err != nil {
		t.Fatal(err)
	}
	tas, pds := d.Options.IATA(), d.Options.IAPD()
	if len(tas)+len(pds) != maxIAs || len(pds) != 1 || tas[0].IaId != [4]byte{0, 0, 0, 7} || pds[0].IaId != [4]byte{0, 0, 0, 8} || pds[0].T1 != 0 {
		t.Fatalf("%v, %v", tas, pds)
	}
	if s := tas[0].Options.Status(); s == nil || s.StatusCode != 2 {
		t.Errorf("temporary addresses: %v", s)
	}
	if s := pds[0].Options.Status(); s == nil || s.StatusCode != 6 {
		t.Errorf("prefixes: %v", s)
	}
	if gone := a.send(Request, toUs, wants("")); gone.Message.Options.Has(OptIATA) || gone.Message.Options.Has(OptIAPD) {
		t.Error("said of what was not asked for")
	}
}

// TestClientOutlivesDatagram: what is kept of a client is no part of the buffer that the
// next datagram is read into.
func TestClientOutlivesDatagram(t *testing.T) {
	b := Packet{
		Relays:  []Relay{{Link: netip.MustParseAddr("fd00:99::fe"), Peer: netip.MustParseAddr("fe80::7"), Options: Options{{OptRemoteID, []byte("rack 7")}, {OptInterfaceID, []byte("port 1")}}}},
		Message: Message{Type: Solicit, Options: Options{{OptClientID, []byte{0, 4, 1, 2, 3}}, VendorClass(Intel, "PXEClient")}},
	}.AppendBinary(nil)
	c := Client(parse(t, b), netip.MustParseAddr("fd00:50::1"))
	clear(b)
	if string(c.RemoteID) != "rack 7" || string(c.CircuitID) != "port 1" || c.Class != "PXEClient" {
		t.Errorf("%+v", c)
	}
}

// TestFullTable: a table that is full is swept from time to time, and not at each message;
// Changes tells when it is another one.
func TestFullTable(t *testing.T) {
	l := &Leases{max: 2}
	lease := func(n byte, until time.Time) Lease {
		return Lease{DUID: []byte{0, 4, n}, Addr: netip.AddrFrom16([16]byte{15: n}), Until: until}
	}
	l.put(lease(1, start.Add(time.Second)))
	l.put(lease(2, start.Add(time.Hour)))
	at := l.Changes()
	if l.room(start) {
		t.Error("room in a full table")
	}
	if l.room(start.Add(2*time.Second)) || l.Changes() != at {
		t.Error("swept again at once")
	}
	if !l.room(start.Add(sweepAgain)) || l.Len() != 1 || l.Changes() == at {
		t.Errorf("not swept: %d leases", l.Len())
	}
	at = l.Changes()
	l.drop(netip.AddrFrom16([16]byte{15: 9}))
	if _, ok := l.of(owner{}, start); ok || l.Changes() != at {
		t.Error("nothing has changed")
	}
}

// TestFullPool: a pool that was searched in vain is not searched for each that asks; an
// address that comes free is had at once, one that ends after a moment.
func TestFullPool(t *testing.T) {
	p, o := Pool{Link: pool.Link, First: pool.First, Last: pool.First}, owner{"b", 1}
	l, searched := &Leases{}, 0
	pick := func(now time.Time) bool {
		searched = 0
		_, ok := l.pick(p, want{owner: o, reserved: func(netip.Addr) bool { searched++; return false }}, now)
		return ok
	}
	l.put(Lease{DUID: []byte{0, 4, 1}, Addr: pool.First, Until: start.Add(time.Hour)})
	if pick(start) || searched != 1 {
		t.Errorf("searched %d", searched)
	}
	if pick(start) || searched != 0 {
		t.Error("searched again at once")
	}
	l.drop(pool.First)
	if !pick(start) {
		t.Error("not free after a release")
	}
	l.put(Lease{DUID: []byte{0, 4, 1}, Addr: pool.First, Until: start.Add(searchAgain)})
	if pick(start) || !pick(start.Add(searchAgain)) {
		t.Error("not free after its end")
	}
}

func FuzzIsSolicitation(f *testing.F) {
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1})
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 14, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if IsSolicitation(b, source, 255) && (b[0] != ICMPRouterSolicitation || len(b)%8 != 0) {
			t.Errorf("%x", b)
		}
		if IsSolicitation(b, source, 254) {
			t.Error("from another link")
		}
	})
}

// FuzzParseIANA: what is read is written again as it was read.
func FuzzParseIANA(f *testing.F) {
	f.Add(wants("fd00:77::1").Data)
	f.Add(refused(7, NoBinding).Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		ia, err := ParseIANA(b)
		if err != nil {
			return
		}
		again, err := ParseIANA(ia.Option().Data)
		if err != nil || len(again.Addresses) != len(ia.Addresses) || !bytes.Equal(again.Option().Data, ia.Option().Data) {
			t.Errorf("%x: %v", b, err)
		}
	})
}

// TestTwoAssociations: no answer names one address twice, nor one of the server's own.
func TestTwoAssociations(t *testing.T) {
	ia := func(id uint32, addr string) Option {
		x := IANA{ID: id}
		if addr != "" {
			x.Addresses = []Address{{Addr: netip.MustParseAddr(addr)}}
		}
		return x.Option()
	}
	for _, typ := range []Type{Solicit, Request, Renew} {
		a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
		opts := []Option{ia(1, "fd00:77::110"), ia(2, "fd00:77::110"), ia(3, "")}
		if typ != Solicit {
			opts = append(opts, toUs)
		}
		seen := map[netip.Addr]bool{}
		for _, o := range a.send(typ, opts...).Message.Options {
			if o.Code != OptIANA {
				continue
			}
			x, err := ParseIANA(o.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, addr := range x.Addresses {
				if seen[addr.Addr] {
					t.Errorf("%v: %s twice", typ, addr.Addr)
				}
				seen[addr.Addr] = true
			}
		}
		if len(seen) == 0 {
			t.Errorf("%v: no address", typ)
		}
	}
	for _, typ := range []Type{Solicit, Request, Renew} {
		a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
		a.s.Pools[0].First, a.s.Pools[0].Last = onLink[1], onLink[1].Next()
		opts := []Option{wants(onLink[1].String())}
		if typ != Solicit {
			opts = append(opts, toUs)
		}
		if got := gets(t, a.send(typ, opts...)); got == onLink[1].String() {
			t.Errorf("%v: the server's own %s is given", typ, got)
		}
	}
	p := pool
	p.First = p.Link.Addr()
	if _, err := New(Config{DUID: ours, Assign: true, Pools: []Pool{p}}, nil); err == nil || !strings.Contains(err.Error(), "anycast") {
		t.Errorf("the routers' anycast address is in a pool: %v", err)
	}
}

// TestLastAddress: of two associations the last address of a pool serves one. With Rapid Commit
// that is a lease, and that the other got none says nothing of the pool to anybody else.
func TestLastAddress(t *testing.T) {
	a := asks{t: t, s: server(t, true), n: 1, boot: yes, now: start}
	a.s.Pools[0].Last = a.s.Pools[0].First
	two := []Option{IANA{ID: 1}.Option(), IANA{ID: 2}.Option()}
	if got := gets(t, a.send(Solicit, two...)); got != pool.First.String() {
		t.Fatalf("Solicit: %s", got)
	}
	b := a
	b.n = 2
	if got := gets(t, b.send(Solicit, wants(""))); got != pool.First.String() {
		t.Errorf("another client, while nobody has a lease: %s", got)
	}
	if got := gets(t, a.send(Solicit, append(two, Option{OptRapidCommit, nil})...)); got != pool.First.String() || a.s.Leases.Len() != 1 {
		t.Errorf("Rapid Commit: %s, %d leases", got, a.s.Leases.Len())
	}
	if got := gets(t, b.send(Solicit, wants(""))); got != "status 2" {
		t.Errorf("another client of a full pool: %s", got)
	}
}
