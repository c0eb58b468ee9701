package dhcp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// full gives addresses (RFC 2131 section 4.3).
func (t *turn) full() Output {
	if t.answer.Verb == netboot.Ignore && (t.kind == pxe || t.kind == http) {
		return Output{}
	}
	typ := t.q.Message.Type()
	if typ == Inform {
		return t.inform()
	}
	n := t.p.network(t.q)
	if n == nil {
		if typ == Discover {
			return dropped(t.client, &Drop{DropSubnet, fmt.Sprintf("no subnet for %s on %s%s", t.q.Local, t.q.Link, t.by())}, t.now)
		}
		return Output{}
	}
	switch typ {
	case Discover:
		return t.discover(n)
	case Request:
		return t.request(n)
	case Decline:
		return t.decline(n)
	case Release:
		return t.release(n)
	}
	return Output{}
}

func (t *turn) by() string {
	if t.q.relayed() {
		return fmt.Sprintf(" by relay agent %s", t.q.Message.Relay)
	}
	return ""
}

func (t *turn) want(a netip.Addr) want {
	return want{t.client, t.q.relayed() || t.p.TrustCircuit, a, t.q.isOwn}
}

// discover offers an address, and keeps it for a minute.
func (t *turn) discover(n *network) Output {
	addr, err := t.s.Leases.choose(n, t.want(t.q.Message.addr(optRequested)), t.now)
	if err != nil {
		return Output{Alarm: "full " + n.Prefix.String(), Events: []netboot.Event{t.event(netboot.Refused, "dhcp: "+err.Error())}}
	}
	if x, ok := t.s.Leases.bound(t.client.MAC, n, t.now); !ok || x.Addr != addr {
		t.s.Leases.put(Lease{addr, t.client.MAC, t.hostName(), Offered, t.now, t.now.Add(offerTime), n.Prefix})
	}
	r := t.q.reply(Offer, t.p.TrustCircuit)
	return t.send(r, t.fill(r, n, addr)...)
}

// request is a REQUEST in each of the states of RFC 2131 section 4.3.2.
func (t *turn) request(n *network) Output {
	m := &t.q.Message
	server, addr := m.addr(optServer), m.addr(optRequested)
	held, known := t.s.Leases.held(t.client.MAC, n)
	switch {
	case server.IsValid() && !t.q.isOwn(server): // it has taken another server's offer
		if known && held.Standing == Offered {
			t.s.Leases.drop(held.Addr)
		}
		return Output{}
	case server.IsValid(): // selecting
	case addr.IsValid(): // init-reboot
		if !known && n.Prefix.Contains(addr) {
			return Output{} // another server may know it
		}
		if x, ok := t.s.Leases.bound(t.client.MAC, n, t.now); ok && x.Addr != addr {
			return t.nak("another address is leased to the machine")
		}
	default: // renewing, rebinding
		addr = m.Client
	}
	if !addr.IsValid() {
		return Output{}
	}
	if why := t.denied(n, addr); why != "" {
		return t.nak(why)
	}
	return t.ack(n, addr)
}

// denied says why a client may not have an address, "" when it may.
func (t *turn) denied(n *network, addr netip.Addr) string {
	w := t.want(addr)
	switch r, ok := n.reserved(t.client, w.port); {
	case !n.host(addr):
		return "the address is of another network"
	case t.s.Leases.taken(addr, t.client.MAC, t.now):
		return "the address is somebody else's"
	case ok && r.Addr != addr && !t.s.Leases.taken(r.Addr, t.client.MAC, t.now):
		return "another address is reserved for the machine"
	case !n.usable(addr, w):
		return "the address is not given by this server"
	}
	return ""
}

func (t *turn) nak(why string) Output {
	r := t.q.reply(Nak, t.p.TrustCircuit)
	r.Options.setString(optMessage, why)
	if t.q.relayed() {
		r.Flags |= broadcast // its address may be of another network (RFC 2131 section 4.3.2)
	}
	return t.send(r)
}

func (t *turn) ack(n *network, addr netip.Addr) Output {
	r := t.q.reply(Ack, t.p.TrustCircuit)
	r.Client = t.q.Message.Client
	events := t.fill(r, n, addr)
	since := t.now
	if x, ok := t.s.Leases.bound(t.client.MAC, n, t.now); ok && x.Addr == addr {
		since = x.Since
	}
	t.s.Leases.put(Lease{addr, t.client.MAC, t.hostName(), Bound, since, t.now.Add(t.leaseTime(n)), n.Prefix})
	out := t.send(r)
	for _, e := range events { // that a file is offered was said with the offer
		if e.Stage == netboot.Refused {
			out.Events = append(out.Events, e)
		}
	}
	out.Durable = true
	return out
}

// leaseTime is what the subnet gives, or less when the client asks for less (option 51).
func (t *turn) leaseTime(n *network) time.Duration {
	if v := t.q.Message.Options.Get(optLeaseTime); len(v) == 4 {
		asked := time.Duration(number(netip.AddrFrom4([4]byte(v)))) * time.Second
		return min(max(asked, MinLease), n.lease())
	}
	return n.lease()
}

// fill puts address, times and configuration into an offer or acknowledgement. What comes
// first stays when the client takes few bytes.
func (t *turn) fill(r *Message, n *network, addr netip.Addr) (events []netboot.Event) {
	lease := t.leaseTime(n)
	t1, t2 := n.timers(lease)
	r.Your = addr
	r.Options.setSeconds(optLeaseTime, lease)
	r.Options.setAddrs(optMask, mask(n.Prefix))
	switch t.kind {
	case pxe, http:
		events = append(events, t.tell(r))
	case agent:
		t.server(r)
	}
	t.parameters(r, n)
	r.Options.setSeconds(optRenewal, t1)
	r.Options.setSeconds(optRebinding, t2)
	return events
}

// parameters are what does not depend on the address alone.
func (t *turn) parameters(r *Message, n *network) {
	r.Options.setAddrs(optMask, mask(n.Prefix))
	r.Options.setAddrs(optRouter, n.Router...)
	r.Options.setAddrs(optDNS, n.DNS...)
	r.Options.setString(optDomain, n.Domain)
	if res, ok := n.reserved(t.client, t.want(netip.Addr{}).port); ok {
		r.Options.setString(optHostName, res.Name)
	}
	r.Options.setAddrs(optNTP, n.NTP...)
}

// maxDeclined is which part of a subnet's pools may rest because somebody has declined: who
// makes up addresses would close the server with it otherwise.
const maxDeclined = 4

// decline takes an address out for a while: the client has found somebody else there.
func (t *turn) decline(n *network) Output {
	m := &t.q.Message
	x, ok := t.s.Leases.held(t.client.MAC, n)
	if !ok || x.Addr != m.addr(optRequested) || !t.q.isOwn(m.addr(optServer)) {
		return Output{}
	}
	detail := fmt.Sprintf("dhcp: %s is somebody else's already, says %s", x.Addr, t.client.MAC)
	if (t.s.Leases.resting(n, t.now)+1)*maxDeclined > max(n.total(), maxDeclined) {
		// It is free at once, as the one that has been free for the shortest time: the machine
		// gets another one as long as there is any.
		x.Standing = Declined
		t.s.Leases.put(x)
		t.s.Leases.end(x, t.now)
		return Output{Alarm: "declined", Events: []netboot.Event{t.event(netboot.Refused, detail+"; too many say so, it is not kept out")}}
	}
	x.Standing, x.Since, x.Expires = Declined, t.now, t.now.Add(DeclineTime)
	t.s.Leases.put(x)
	return Output{Events: []netboot.Event{t.event(netboot.Refused, detail)}, Durable: true}
}

// release ends a lease. The machine gets the same address next time, if nobody else needs it.
func (t *turn) release(n *network) Output {
	m := &t.q.Message
	x, ok := t.s.Leases.bound(t.client.MAC, n, t.now)
	if !ok || x.Addr != m.Client || !t.q.isOwn(m.addr(optServer)) {
		return Output{}
	}
	t.s.Leases.end(x, t.now)
	return Output{Durable: true}
}

// inform tells what has an address already (RFC 2131 section 4.3.5). The answer goes to the
// address that the client states, so that must be near: on the server's link or in a subnet
// of the configuration.
func (t *turn) inform() Output {
	at := t.q.Message.Client
	n := t.p.at(at)
	if !at.Is4() || n == nil && (t.p.Mode == Full || !t.q.relayed() && !t.q.near(at)) {
		return Output{}
	}
	r := t.q.reply(Ack, t.p.TrustCircuit)
	r.Client = at
	if n != nil {
		t.parameters(r, n)
	}
	switch t.kind {
	case agent:
		if t.server(r); n == nil && r.Options.Get(optVendor) == nil { // nothing to say
			return Output{}
		}
	case pxe, http:
		if t.answer.Verb == netboot.Ignore {
			return Output{}
		}
		return t.send(r, t.tell(r))
	}
	return t.send(r)
}

// hostName is what a client calls itself, of the characters of host names.
func (t *turn) hostName() string {
	s := string(t.q.Message.Options.Get(optHostName))
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}, s[:min(len(s), 63)])
}
