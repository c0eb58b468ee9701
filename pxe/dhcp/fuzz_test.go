package dhcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// holder is who was given an address, and until when.
type holder struct {
	mac   netboot.MAC
	until time.Time
}

// FuzzPolicy runs sequences of messages through the policy. Whatever comes, no address is
// two machines' at once, every answer goes where RFC 2131 has it, and the leases are
// bounded.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x03\x00\x01\x00\x03\x00\x02\x09\x04\x00\x01\x00\x07\x00\x01\x00"), false)
	f.Add([]byte("\x01\x01\x10\x20\x03\x01\x41\x22\x08\x02\x03\x04\x05\x06\x07\x08\x01\x02\x50\x40"), true)
	f.Fuzz(func(t *testing.T, script []byte, proxy bool) {
		cfg := fullConfig()
		cfg.TrustCircuit = len(script)%2 == 1
		if proxy {
			cfg.Mode, cfg.Subnets, cfg.Relays = Proxy, nil, []netip.Prefix{netip.MustParsePrefix("10.1.0.1/32")}
		}
		b := newBench(t, cfg)
		given := map[netip.Addr]holder{}
		for len(script) >= 4 {
			q := scripted(script[:4])
			b.now = b.now.Add(time.Duration(script[3]>>4) * 3 * time.Minute)
			b.a.Verb = netboot.Verb(script[2] % 3)
			script = script[4:]
			out := b.step(q)
			checkReply(t, b, q, out)
			track(t, b, q, out, given)
		}
		if len(b.s.Leases.byAddr) > 10+101+2 || len(b.s.Leases.byOwner) > len(b.s.Leases.byAddr) {
			t.Fatalf("%d leases of %d owners", len(b.s.Leases.byAddr), len(b.s.Leases.byOwner))
		}
	})
}

// scripted makes a message of four bytes: its type, who sends it, which address it is about
// and how it comes.
func scripted(b []byte) *Packet {
	addr := netip.AddrFrom4([4]byte{10, b[2] >> 7, 0, 98 + b[2]&0x0f})
	m := ask(Type(b[0]%9), mac(int(b[1]%16)))
	switch b[2] >> 4 & 3 {
	case 0:
		m.Options.setAddrs(optRequested, addr)
		m.Options.setAddrs(optServer, ip("10.0.0.1"))
	case 1:
		m.Client = addr
	case 2:
		m.Options.setAddrs(optRequested, addr)
	case 3:
		m.Client = addr
		m.Options.setAddrs(optServer, ip("10.0.0.1"))
	}
	m.Options = append(m.Options, [][]Option{nil, pxeX64, httpX64, ipxe, strange, {class("ingot")}}[b[0]/9%6]...)
	if b[1]&0x20 != 0 {
		m.Relay = []netip.Addr{ip("10.1.0.1"), ip("192.0.2.9")}[b[1]>>4&1]
		m.Options.Set(optRelayInfo, []byte("\x01\x06port 7"))
	}
	q := packet(m)
	if b[1]&0x40 != 0 {
		q.To = q.Local
	}
	if b[1]&0x80 != 0 {
		q.Port, q.From = BootPort, netip.MustParseAddrPort("10.0.0.50:68")
	}
	return q
}

func checkReply(t *testing.T, b *bench, q *Packet, out Output) {
	if out.Reply == nil {
		return
	}
	r, m := &out.Reply.Message, &q.Message
	allowed := []netip.AddrPort{netip.AddrPortFrom(everybody, ClientPort)}
	switch {
	case q.Port == BootPort:
		allowed = []netip.AddrPort{q.From}
	case m.Relay.IsValid():
		allowed = []netip.AddrPort{netip.AddrPortFrom(m.Relay, ServerPort)}
	case r.Client.IsValid() && r.Type() == Ack:
		allowed = []netip.AddrPort{netip.AddrPortFrom(m.Client, ClientPort)}
	}
	if out.Reply.To != allowed[0] {
		t.Fatalf("%s %+v is answered to %s, want %s", m.Type(), m, out.Reply.To, allowed[0])
	}
	if m.Relay == ip("192.0.2.9") && q.Port == ServerPort {
		t.Fatal("a relay agent that is none is answered")
	}
	if r.Your.IsValid() && (b.p.Mode != Full || q.Port == BootPort || r.Type() == Nak || m.Type() == Inform) {
		t.Fatalf("an address is given by %s in mode %s", r.Type(), b.p.Mode)
	}
	if r.Op != opReply || r.XID != m.XID || r.Hardware != m.Hardware || r.addr(optServer) != q.Local {
		t.Fatalf("%+v does not answer %+v", r, m)
	}
	if raw, left := r.Append(nil, out.Reply.Limit); len(left) > 0 || len(raw) > out.Reply.Limit {
		t.Fatalf("%d bytes, left out %v", len(raw), left)
	}
}

// track follows who was told to have which address.
func track(t *testing.T, b *bench, q *Packet, out Output, given map[netip.Addr]holder) {
	who := q.Message.MAC()
	if typ := q.Message.Type(); (typ == Release || typ == Decline) && out.Durable {
		delete(given, q.Message.Client)
		delete(given, q.Message.addr(optRequested))
	}
	if out.Reply == nil || !out.Reply.Message.Your.IsValid() {
		return
	}
	a := out.Reply.Message.Your
	if h, ok := given[a]; ok && h.mac != who && b.now.Before(h.until) {
		t.Fatalf("%s is %s's until %s, and %s to %s at %s", a, h.mac, h.until, out.Reply.Message.Type(), who, b.now)
	}
	if out.Reply.Message.Type() == Ack {
		for old, h := range given { // it has moved
			if h.mac == who && old != a && b.p.at(old) == b.p.at(a) {
				delete(given, old)
			}
		}
		given[a] = holder{who, b.now.Add(b.p.at(a).lease())}
	}
}
