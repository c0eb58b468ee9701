package dhcp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// State is what the server remembers. The zero value has given no address.
type State struct {
	Leases Leases
}

// Reload sorts what is remembered into another configuration. No lease is lost that has
// not expired.
func (s *State) Reload(p *Policy, now time.Time) { s.Leases.adopt(p, now) }

// Reply is an answer, and where it goes.
type Reply struct {
	Message Message
	To      netip.AddrPort
	Port    uint16 // from which it is sent
	Limit   int    // bytes of it that the client takes
}

// Output is what follows from a message.
type Output struct {
	Reply  *Reply // nil: nothing is answered
	Events []netboot.Event
	// Alarm names what Events are about when one cause makes many of them, whoever asks: it
	// is enough to tell the first. "" tells each.
	Alarm string
	// Durable asks that the leases are kept before Reply leaves: it acknowledges one.
	Durable bool
}

// Drop is why a message is not answered.
type Drop struct {
	Kind   string // few, for counting
	Detail string
}

// The kinds of Drop that are worth telling; others are ordinary traffic that is not meant
// for this server.
const (
	DropRelay  = "relay"  // giaddr is not one that may forward
	DropSubnet = "subnet" // no subnet for where it is
	DropSelf   = "client" // no client could be this one
)

// Look is what is known of a message before anything is decided.
type Look struct {
	Client netboot.Client
	Drop   *Drop
	// Ask says that a Decider is to be asked. Otherwise Answer is the answer.
	Ask    bool
	Answer netboot.Answer
}

// Look says who asks, and whether there is something to decide. It is cheap, and done
// before any work for a stranger.
func (p *Policy) Look(q *Packet) Look {
	m := &q.Message
	l := Look{Client: Facts(m, q.Link)}
	k := kindOf(l.Client)
	switch {
	case p.Mode == Off, m.Op != opRequest, m.Type() == 0:
		l.Drop = &Drop{"other", "no request of DHCP"}
	case l.Client.MAC.IsZero() || l.Client.MAC[0]&1 != 0:
		l.Drop = &Drop{DropSelf, fmt.Sprintf("hardware type %d, %d bytes, address %x: not a machine on Ethernet", m.HType, m.HLen, m.Hardware[:6])}
	case q.Port == BootPort && k != pxe, p.Mode == Proxy && k == other:
		l.Drop = &Drop{"other", "not for a boot server"}
	default:
		if err := p.checkRelay(q); err != nil {
			l.Drop = &Drop{DropRelay, err.Error()}
		}
	}
	if l.Drop == nil && (k == pxe || k == http) {
		l.Answer, l.Ask = unknown(l.Client)
	}
	return l
}

// unknown refuses firmware of an architecture without a meaning; what is left is for a
// Decider.
func unknown(c netboot.Client) (a netboot.Answer, ask bool) {
	if c.Arch.Known() {
		return a, true
	}
	return netboot.Answer{Verb: netboot.Refuse, Reason: fmt.Sprintf("no image for architecture %s, vendor class %q", c.Arch, c.Class)}, false
}

// Step answers a message. The answer a is what a Decider, or Look, has said of its client.
func (s *State) Step(p *Policy, q *Packet, a netboot.Answer, now time.Time) Output {
	l := p.Look(q)
	if l.Drop != nil {
		return dropped(l.Client, l.Drop, now)
	}
	if !l.Ask {
		a = l.Answer
	}
	t := &turn{s, p, q, l.Client, kindOf(l.Client), a, now}
	var out Output
	switch {
	case q.Port == BootPort:
		out = t.bootServer()
	case p.Mode == Full:
		out = t.full()
	default:
		out = t.proxy()
	}
	switch typ := t.q.Message.Type(); {
	case typ == Discover && (t.kind == pxe || t.kind == http):
		out.Events = append([]netboot.Event{t.event(netboot.Asked, t.describe())}, out.Events...)
	case t.kind == agent && (typ == Discover || typ == Inform): // and not when it renews
		out.Events = append([]netboot.Event{t.event(netboot.Started, "")}, out.Events...)
	}
	return out
}

// dropped tells what somebody should know of.
func dropped(c netboot.Client, d *Drop, now time.Time) Output {
	if d.Kind == "other" {
		return Output{}
	}
	return Output{Alarm: d.Kind, Events: []netboot.Event{{Time: now, Stage: netboot.Refused, MAC: c.MAC, Detail: "dhcp: " + d.Detail}}}
}

// turn is one message on its way through the policy.
type turn struct {
	s      *State
	p      *Policy
	q      *Packet
	client netboot.Client
	kind   kind
	answer netboot.Answer
	now    time.Time
}

func (t *turn) event(stage netboot.Stage, detail string) netboot.Event {
	e := netboot.Event{Time: t.now, Stage: stage, MAC: t.client.MAC, Host: t.answer.Host, Release: t.answer.Release, Detail: detail}
	if a := t.client.Addr; a.IsValid() {
		e.Addr = netip.AddrPortFrom(a, ClientPort)
	}
	return e
}

// describe is what a client says of itself, for people.
func (t *turn) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s, %s", t.q.Message.Type(), t.q.Link, t.client.Arch)
	if t.client.IPXE {
		b.WriteString(", iPXE")
	}
	if t.kind == http {
		b.WriteString(", wants a URL")
	}
	if t.q.relayed() {
		fmt.Fprintf(&b, ", by relay agent %s", t.q.Message.Relay)
	}
	return b.String()
}

// send finishes an answer.
func (t *turn) send(r *Message, events ...netboot.Event) Output {
	return Output{
		Reply:  &Reply{Message: *r, To: t.q.destination(r), Port: t.q.Port, Limit: t.q.Message.limit()},
		Events: events,
	}
}
