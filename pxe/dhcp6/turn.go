package dhcp6

import (
	"bytes"
	"net/netip"
	"slices"
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
	link  netip.Addr // by which relays name the client's link; zero on ours
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

// assign gives an address to each IA_NA, and says to how many; commit keeps it as a
// lease. A Request for an address of another link is told so (RFC 8415 section 18.3.2).
func (t *turn) assign(typ Type, commit bool) (out Options, given int) {
	for _, ia := range t.ias() {
		if typ == Request && t.elsewhere(ia) {
			out = append(out, refused(ia.ID, NotOnLink))
			continue
		}
		addr, ok := t.pick(ia)
		if ok && commit {
			ok = t.keep(ia.ID, addr)
		}
		if !ok {
			out = append(out, refused(ia.ID, NoAddrsAvail))
			continue
		}
		out, given = append(out, t.granted(ia.ID, addr).Option()), given+1
	}
	out = append(out, t.unserved()...)
	return append(append(out, t.dns()...), t.boot()...), given
}

// elsewhere reports whether an association has an address that is not of the client's
// link.
func (t *turn) elsewhere(ia IANA) bool {
	p, ok := t.pool()
	return ok && slices.ContainsFunc(ia.Addresses, func(a Address) bool { return !p.Link.Contains(a.Addr) })
}

// unserved says of associations for temporary addresses and for prefixes that there are
// none, each number once: a server that is silent about them is asked again (RFC 8415
// section 18.3.2).
func (t *turn) unserved() (out Options) {
	for _, o := range t.q.Packet.Message.Options {
		var with Option
		switch {
		case len(out) == maxIAs:
			return out
		case o.Code == OptIATA && len(o.Data) >= 4: // its number alone (section 21.5)
			with = Option{OptIATA, Options{NoAddrsAvail.option("")}.AppendBinary(bytes.Clone(o.Data[:4]))}
		case o.Code == OptIAPD && len(o.Data) >= ianaHeader: // its number, T1 and T2 (section 21.21)
			with = Option{OptIAPD, Options{NoPrefix.option("")}.AppendBinary(append(bytes.Clone(o.Data[:4]), make([]byte, 8)...))}
		default:
			continue
		}
		if !slices.ContainsFunc(out, func(x Option) bool { return x.Code == with.Code && bytes.Equal(x.Data, with.Data) }) {
			out = append(out, with)
		}
	}
	return out
}

// ias are the client's associations that can be read, each number once.
func (t *turn) ias() (out []IANA) {
	for _, o := range t.q.Packet.Message.Options {
		if o.Code != OptIANA || len(out) == maxIAs {
			continue
		}
		ia, err := ParseIANA(o.Data)
		if err == nil && !slices.ContainsFunc(out, func(x IANA) bool { return x.ID == ia.ID }) {
			out = append(out, ia)
		}
	}
	return out
}

func refused(id uint32, s Status) Option { return IANA{ID: id, Status: &s}.Option() }

func (t *turn) granted(id uint32, a netip.Addr) IANA {
	pool, _ := t.pool()
	p, v := pool.lifetimes()
	return IANA{ID: id, T1: p / 2, T2: p * 4 / 5, Addresses: []Address{{a, p, v}}} // RFC 8415 section 21.4
}

func (t *turn) owner(id uint32) owner { return owner{string(t.duid), id} }

func (t *turn) keep(id uint32, a netip.Addr) bool {
	if _, has := t.s.Leases.byAddr[a]; !has && !t.s.Leases.room(t.now) {
		return false
	}
	pool, _ := t.pool()
	_, valid := pool.lifetimes()
	t.s.Leases.put(Lease{DUID: t.duid, IAID: id, Addr: a, MAC: t.mac, Until: t.now.Add(valid)})
	return true
}

// pool is that of the client's link.
func (t *turn) pool() (Pool, bool) {
	at := t.q.Link
	if t.link.IsValid() {
		at = []netip.Addr{t.link}
	}
	for _, p := range t.s.Pools {
		if slices.ContainsFunc(at, p.Link.Contains) {
			return p, true
		}
	}
	return Pool{}, false
}

func (t *turn) pick(ia IANA) (netip.Addr, bool) {
	p, ok := t.pool()
	if !ok {
		return netip.Addr{}, false
	}
	if a, ok := t.s.Reserved[t.mac]; ok && p.Link.Contains(a) && t.s.Leases.free(a, t.owner(ia.ID), t.now) {
		return a, true
	}
	var wish netip.Addr
	if len(ia.Addresses) > 0 {
		wish = ia.Addresses[0].Addr
	}
	return t.s.Leases.pick(p, t.owner(ia.ID), wish, t.reserved, t.now)
}

// reserved reports whether an address belongs to another port.
func (t *turn) reserved(a netip.Addr) bool {
	m, ok := t.s.held[a]
	return ok && m != t.mac
}

// extend answers Renew and Rebind. An address that nobody has is leased anew, so a server
// that has lost its table goes on; one that is not of this link is taken away by a lifetime
// of 0 (RFC 8415 section 18.3.4). Rebind goes to every server: what this one does not know
// is another's, and it keeps silent.
func (t *turn) extend(typ Type) (Type, Options, bool) {
	var out Options
	p, onLink := t.pool()
	for _, ia := range t.ias() {
		a, ok := t.current(ia)
		switch {
		case ok && onLink && t.ours(p, a) && t.keep(ia.ID, a):
			out = append(out, t.granted(ia.ID, a).Option())
		case ok && onLink && !p.Link.Contains(a):
			out = append(out, IANA{ID: ia.ID, Addresses: []Address{{Addr: a}}}.Option())
		case typ == Renew:
			out = append(out, refused(ia.ID, NoBinding))
		}
	}
	return Reply, append(out, t.dns()...), len(out) > 0
}

// current is the address that a client names in an association.
func (t *turn) current(ia IANA) (netip.Addr, bool) {
	if len(ia.Addresses) > 0 {
		return ia.Addresses[0].Addr, true
	}
	l, ok := t.s.Leases.of(t.owner(ia.ID), t.now)
	return l.Addr, ok
}

// ours reports whether the client may have the address.
func (t *turn) ours(p Pool, a netip.Addr) bool {
	if r, ok := t.s.Reserved[t.mac]; ok && r == a {
		return t.s.Leases.free(a, owner{}, t.now) || t.has(a)
	}
	return p.contains(a) && !t.reserved(a) && (t.has(a) || t.s.Leases.free(a, owner{}, t.now))
}

func (t *turn) has(a netip.Addr) bool {
	l, ok := t.s.Leases.byAddr[a]
	return ok && !l.Declined && string(l.DUID) == string(t.duid)
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
