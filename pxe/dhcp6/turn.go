package dhcp6

import (
	"net/netip"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// turn is one message being answered.
type turn struct {
	s     *Server
	q     Question
	now   time.Time
	boots bool
	duid  DUID
	mac   netboot.MAC
	link  netip.Addr   // by which relays name the client's link; zero on ours
	given []netip.Addr // that the answer names already
}

func (t *turn) answer(typ Type) (Type, Options, bool) {
	if t.q.BootServer {
		// Firmware repeats its Request here without the IA_NA, and takes nothing but the
		// boot file from the answer.
		return Reply, t.boot(), typ == Request && t.boots
	}
	if t.q.Unicast && len(t.q.Packet.Relays) == 0 {
		return t.unicast(typ)
	}
	if typ == InformationRequest {
		return Reply, append(t.dns(), t.boot()...), true
	}
	if !t.s.Assign {
		return Advertise, t.proxy(), typ == Solicit
	}
	switch typ {
	case Solicit:
		return t.solicited()
	case Request:
		out, _ := t.assign(typ, true)
		return Reply, out, true
	case Renew, Rebind:
		return t.extend(typ)
	case Confirm:
		return t.confirm()
	case Release, Decline:
		return Reply, t.end(typ), true
	}
	return 0, nil, false
}

// solicited answers Solicit. A Rapid Commit is one only when there is an address: with
// none, a Reply would end the client's search for another server.
func (t *turn) solicited() (Type, Options, bool) {
	out, n := t.assign(Solicit, false)
	switch {
	case n == 0:
		return Advertise, out, true
	case t.q.Packet.Message.Options.Has(OptRapidCommit):
		out, _ = t.assign(Solicit, true)
		return Reply, append(Options{{OptRapidCommit, nil}}, out...), true
	}
	// 255 ends the wait for other servers (RFC 8415 section 18.2.1): 1 s less per boot.
	return Advertise, append(Options{{OptPreference, []byte{255}}}, out...), true
}

// unicast: no client was ever told that it may (RFC 8415 section 18.4), so those that do
// so all the same are sent to the multicast address, and the others get nothing.
func (t *turn) unicast(typ Type) (Type, Options, bool) {
	switch typ {
	case Request, Renew, Release, Decline:
		return Reply, Options{UseMulticast.option("send to ff02::1:2")}, t.s.Assign
	}
	return 0, nil, false
}

// boot are the options that name the boot file, and what firmware needs to believe them.
func (t *turn) boot() Options {
	if !t.boots || t.q.Boot.Verb != netboot.Boot || t.q.URL == "" {
		return nil
	}
	out := Options{{OptBootURL, []byte(t.q.URL)}}
	c := netboot.Client{Arch: arch(t.q.Packet.Message.Options), Class: class(t.q.Packet.Message.Options)}
	if c.HTTP() {
		// An offer without this class is not one for HTTP Boot (UEFI 2.10 section 24.7.3.3).
		out = append(out, VendorClass(Intel, "HTTPClient"))
	}
	return out
}

// proxy is an offer without an address, beside that of another server. With the class
// PXEClient EDK2 takes the boot file from it: it asks for it once more, on PXEPort. With
// that class beside an address it would do the same, so assign leaves it out. A refusal is
// an offer that names no file: EDK2 gives up when all offers are in.
func (t *turn) proxy() Options {
	out := t.boot()
	if out != nil && !out.Has(OptVendorClass) {
		out = append(out, VendorClass(Intel, "PXEClient"))
	}
	return out
}

func (t *turn) dns() Options {
	p, ok := t.pool()
	if !ok || len(p.DNS) == 0 {
		return nil
	}
	var b []byte
	for _, a := range p.DNS {
		x := as16(a)
		b = append(b, x[:]...)
	}
	return Options{{OptDNS, b}}
}

// confirm says whether the client's addresses are of its link (RFC 8415 section 18.3.3).
func (t *turn) confirm() (Type, Options, bool) {
	p, ok := t.pool()
	n := 0
	for _, ia := range t.ias() {
		for _, a := range ia.Addresses {
			if n++; ok && !p.Link.Contains(a.Addr) {
				return Reply, Options{NotOnLink.option("not an address of this link")}, true
			}
		}
	}
	return Reply, Options{Success.option("")}, ok && n > 0
}

// end takes addresses back, or out of use when the client has found another on it.
func (t *turn) end(typ Type) Options {
	out := Options{Success.option("")}
	for _, ia := range t.ias() {
		known := false
		for _, a := range ia.Addresses {
			if !t.has(a.Addr) {
				continue
			}
			known = true
			t.s.Leases.drop(a.Addr)
			if typ == Decline {
				t.s.Leases.put(Lease{Addr: a.Addr, Declined: true, Until: t.now.Add(quarantine)})
			}
		}
		if !known {
			out = append(out, refused(ia.ID, NoBinding))
		}
	}
	return out
}
