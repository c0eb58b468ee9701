package dhcp6

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Config is what a server says. It is a value: nothing in it changes.
type Config struct {
	DUID DUID // required; see ServerDUID
	// Assign makes it the DHCPv6 server of the link: it gives out addresses of Pools.
	// Without it, it only names boot files, beside another server or where clients make
	// their own addresses, and answers nobody who does not boot.
	Assign bool
	Pools  []Pool
	// Reserved are addresses that belong to a port, in a pool or not.
	Reserved map[netboot.MAC]netip.Addr
}

const (
	// quarantine is how long a declined address is left alone.
	quarantine = time.Hour
	// maxIAs bounds the associations of one client that are answered. Firmware has one.
	maxIAs = 4
)

// Check says what is wrong with a configuration.
func (c Config) Check() error {
	var errs []error
	if !c.DUID.Valid() {
		errs = append(errs, fmt.Errorf("server DUID: %d bytes, not %d to %d", len(c.DUID), minDUID, maxDUID))
	}
	if c.Assign && len(c.Pools) == 0 {
		errs = append(errs, errors.New("no pool to give addresses from"))
	}
	for i, p := range c.Pools {
		errs = append(errs, p.check())
		if slices.ContainsFunc(c.Pools[:i], func(o Pool) bool { return o.Link.Overlaps(p.Link) }) {
			errs = append(errs, fmt.Errorf("pool %s: overlaps another one", p.Link))
		}
	}
	seen := map[netip.Addr]bool{}
	for m, a := range c.Reserved {
		if !a.Is6() || a.Is4In6() || seen[a] {
			errs = append(errs, fmt.Errorf("reservation of %s: %s is no IPv6 address, or there twice", m, a))
		}
		seen[a] = true
	}
	return errors.Join(errs...)
}

// Question is a message with what is known of how it came.
type Question struct {
	Packet Packet
	Source netip.Addr   // of the datagram
	Link   []netip.Addr // our addresses on the interface that heard it
	// Unicast: it was sent to an address of ours, not to ff02::1:2.
	Unicast bool
	// BootServer: it came to PXEPort, where the offer of Config without Assign has sent
	// the firmware.
	BootServer bool
	// Boot is the decision about the machine, URL the boot file's. They count only for
	// clients for which Boots is true.
	Boot netboot.Answer
	URL  string
}

// Boots reports whether a message is by something that boots: firmware and boot loaders
// say their architecture or their class, or ask for a boot file.
func Boots(m Message) bool {
	if m.Options.Has(OptArch) || isFirmware(class(m.Options)) {
		return true
	}
	wanted, _ := m.Options.Get(OptRequest)
	for ; len(wanted) >= 2; wanted = wanted[2:] {
		if Code(binary.BigEndian.Uint16(wanted)) == OptBootURL {
			return true
		}
	}
	return false
}

// Server answers messages. Make it by New. Not for concurrent use.
type Server struct {
	Config
	Leases *Leases
	held   map[netip.Addr]netboot.MAC // Reserved the other way round
}

// New is a server with the leases of before; nil for none.
func New(c Config, l *Leases) (*Server, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if l == nil {
		l = &Leases{}
	}
	s := &Server{c, l, map[netip.Addr]netboot.MAC{}}
	for m, a := range c.Reserved {
		s.held[a] = m
	}
	return s, nil
}

// Answer is the answer to a message, nil when there is none: the message is not for
// servers, not for this one, not valid (RFC 8415 section 16), or of nobody it serves. Only
// Leases change by it, and only when an address is given, given back or declined.
func (s *Server) Answer(q Question, now time.Time) *Packet {
	m := q.Packet.Message
	boots := Boots(m)
	if !s.Hears(m) || boots && q.Boot.Verb == netboot.Ignore || !boots && !s.Assign {
		return nil
	}
	t := turn{s: s, q: q, now: now, boots: boots, link: link(q.Packet)}
	t.duid, _ = m.Options.Get(OptClientID)
	t.mac = mac(q.Packet, q.Source.WithZone(""), t.duid)
	typ, opts, ok := t.answer(m.Type)
	if !ok {
		return nil
	}
	head := Options{{OptServerID, s.DUID}}
	if t.duid != nil {
		head = append(Options{{OptClientID, t.duid}}, head...)
	}
	return &Packet{back(q.Packet.Relays), Message{typ, m.TransactionID, append(head, opts...)}}
}

// Hears reports whether a message is one for this server: it holds it against RFC 8415
// sections 16.2 to 16.12. Nothing needs to be decided for another.
func (s *Server) Hears(m Message) bool {
	client, hasClient := m.Options.Get(OptClientID)
	server, hasServer := m.Options.Get(OptServerID)
	if hasClient && !DUID(client).Valid() {
		return false
	}
	ours := hasServer && bytes.Equal(server, s.DUID)
	switch m.Type {
	case Solicit, Confirm, Rebind:
		return hasClient && !hasServer
	case Request, Renew, Release, Decline:
		return hasClient && ours
	case InformationRequest:
		return (ours || !hasServer) && !m.Options.Has(OptIANA) && !m.Options.Has(OptIATA) && !m.Options.Has(OptIAPD)
	}
	return false
}

// back are the relays that an answer goes through (RFC 8415 section 19.3): each gets its
// interface and port back, the rest was for the server.
func back(in []Relay) []Relay {
	var out []Relay
	for _, r := range in {
		keep := Relay{Hops: r.Hops, Link: r.Link, Peer: r.Peer}
		for _, o := range r.Options {
			if o.Code == OptInterfaceID || o.Code == OptRelayPort {
				keep.Options = append(keep.Options, o)
			}
		}
		out = append(out, keep)
	}
	return out
}
