package dhcp

import "github.com/ingot-os/ingot/pxe/netboot"

// Sub-options of option 43 for PXE clients (PXE 2.1 table 2-2).
const (
	pxeControl = 6  // what the client shall do to find a boot server
	pxeMenu    = 9  // what the user may choose
	pxePrompt  = 10 // how long he has
	pxeItem    = 71 // what was chosen
)

// proxy answers beside another DHCP server, on its port: a DISCOVER with an offer that has no
// address; the REQUEST of firmware that looks for its boot server by broadcast; an
// INFORM of what has an address already. Other requests are for the other server.
func (t *turn) proxy() Output {
	m := &t.q.Message
	switch m.Type() {
	case Discover:
		// ingot-init takes the first offer that comes, and one without an address would
		// make it ask for 0.0.0.0: it is told by INFORM.
		if t.kind != agent {
			return t.named(Offer)
		}
	case Request:
		if t.kind == pxe && sub(m.Options.Get(optVendor), pxeItem, true) != nil {
			return t.named(Ack)
		}
	case Inform:
		return t.inform()
	}
	return Output{}
}

// bootServer answers on port 4011: firmware has its address, and asks the boot server that
// an offer has named. PXE 2.1 section 2.2.3 has a REQUEST there, some send INFORM.
func (t *turn) bootServer() Output {
	switch t.q.Message.Type() {
	case Discover, Request, Inform:
		return t.named(Ack)
	}
	return Output{}
}

// named is an answer that names a boot file and gives no address.
func (t *turn) named(as Type) Output {
	if t.answer.Verb == netboot.Ignore {
		return Output{}
	}
	r := t.q.reply(as, t.p.TrustCircuit)
	if as == Ack {
		r.Client = t.q.Message.Client
	}
	e := t.tell(r)
	if item := sub(t.q.Message.Options.Get(optVendor), pxeItem, true); len(item) == 4 && t.kind == pxe {
		// PXE 2.1 section 3.3: the server says which of its kinds it is, and that layer 0 follows
		v := appendSub(nil, pxeItem, []byte{item[0], item[1], 0, 0})
		r.Options.Set(optVendor, append(v, r.Options.Get(optVendor)...))
	}
	return t.send(r, e)
}
