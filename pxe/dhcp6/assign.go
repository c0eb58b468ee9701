package dhcp6

import (
	"bytes"
	"net/netip"
	"slices"
)

// assign gives an address to each IA_NA, and says to how many; commit keeps it as a
// lease. A Request for an address of another link is told so (RFC 8415 section 18.3.2).
func (t *turn) assign(typ Type, commit bool) (out Options, given int) {
	t.given = nil
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
	t.given = append(t.given, a)
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
	if a, ok := t.s.Reserved[t.mac]; ok && p.Link.Contains(a) && !t.spoken(a) && t.s.Leases.free(a, t.owner(ia.ID), t.now) {
		return a, true
	}
	var wish netip.Addr
	if len(ia.Addresses) > 0 {
		wish = ia.Addresses[0].Addr
	}
	return t.s.Leases.pick(p, want{owner: t.owner(ia.ID), wish: wish, reserved: t.reserved, more: len(t.given) > 0}, t.now)
}

// reserved reports whether an address belongs to another port, or is spoken for.
func (t *turn) reserved(a netip.Addr) bool {
	m, ok := t.s.held[a]
	return ok && m != t.mac || t.spoken(a)
}

// spoken reports whether an address is the server's own, or of another association of the
// same answer: that of an Advertise is no lease yet.
func (t *turn) spoken(a netip.Addr) bool {
	return slices.Contains(t.q.Link, a) || slices.Contains(t.given, a)
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
	if r, ok := t.s.Reserved[t.mac]; ok && r == a && !t.spoken(a) {
		return t.s.Leases.free(a, owner{}, t.now) || t.has(a)
	}
	return p.contains(a) && !t.reserved(a) && (t.has(a) || t.s.Leases.free(a, owner{}, t.now))
}

func (t *turn) has(a netip.Addr) bool {
	l, ok := t.s.Leases.byAddr[a]
	return ok && !l.Declined && string(l.DUID) == string(t.duid)
}
