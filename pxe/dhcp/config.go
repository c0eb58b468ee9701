package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Mode is what the server does.
type Mode string

// The modes. The zero Mode is Proxy.
const (
	Proxy Mode = "proxy" // names boot files; another server gives the addresses
	Full  Mode = "full"  // gives addresses, too
	Off   Mode = "off"
)

// Config is what the operator wants. It is not changed while a State uses it.
//
// An address is not probed before it is offered (RFC 2131 section 2.2 has a server
// "should"): a probe costs a second or more of each first boot, needs a raw socket for
// ICMP, and says nothing of a machine that is off or does not answer. The client
// itself probes by ARP and declines (RFC 5227); an address that was declined rests for
// DeclineTime.
type Config struct {
	Mode Mode
	Base Base
	// Relays are the agents that may forward to this server. Without any, Full takes those
	// whose giaddr is in one of Subnets, and Proxy none.
	Relays  []netip.Prefix
	Subnets []Subnet // for Full
	// TrustCircuit takes option 82 from clients on the own link, too: where a switch adds
	// it to their messages, takes away what clients forge, and takes it out of answers.
	TrustCircuit bool
}

// Base is where boot files are. In each, "{address}" stands for the server's address on
// the link that heard the client.
type Base struct {
	TFTP  string // address of the TFTP server; "" is {address}
	HTTP  string // URL below which paths are: http://{address}; "" when there is none
	HTTPS string
	// Server is what ingot-init is told (DESIGN S14), in order: https URLs.
	Server []string
}

// Subnet is a range of addresses that this server gives.
type Subnet struct {
	Prefix       netip.Prefix
	Pools        []Range // none: only Reservations
	Reservations []Reservation
	Router       []netip.Addr
	DNS          []netip.Addr
	NTP          []netip.Addr
	Domain       string
	// Lease is how long an address is given. Zero is an hour.
	Lease time.Duration
	// Renew and Rebind are T1 and T2 (RFC 2131 section 4.4.5). Zero: half and 7/8 of it.
	Renew, Rebind time.Duration
}

// Range is from an address to another, both included.
type Range struct{ From, To netip.Addr }

// Reservation is an address for one machine: by its MAC, or by where it is plugged in, as a
// relay agent says it in option 82.
type Reservation struct {
	MAC  netboot.MAC
	Port Port // when MAC is zero
	Addr netip.Addr
	Name string // host name (option 12) that it is told; may be ""
}

// Port is a place on the network (RFC 3046 section 3), byte for byte as the agent names it.
// What is "" may be anything, but not both: circuit ids are those of one switch, and the
// remote id says which.
type Port struct{ Circuit, Remote string }

// String is the port for people.
func (p Port) String() string {
	switch {
	case p.Remote == "":
		return fmt.Sprintf("circuit id %q", p.Circuit)
	case p.Circuit == "":
		return fmt.Sprintf("remote id %q", p.Remote)
	}
	return fmt.Sprintf("circuit id %q of remote id %q", p.Circuit, p.Remote)
}

// Times.
const (
	DefaultLease = time.Hour
	MinLease     = 2 * time.Minute
	MaxLease     = 30 * 24 * time.Hour
	DeclineTime  = 10 * time.Minute
	// offerTime is how long an offer waits for its request. OVMF takes 4 s, and up to 60
	// when other offers were bad.
	offerTime = time.Minute
	// offerGrace is how long an offer is safe when there is no other address left.
	offerGrace = 10 * time.Second
)

// MaxPool is how many addresses the pools of one subnet may have together.
const MaxPool = 1 << 16

// MaxAddresses is how many addresses all pools and reservations may have together: with
// that the file of leases is bounded.
const MaxAddresses = 4 * MaxPool

// Errors, to be tested with errors.Is.
var (
	// ErrConfig is in each error of Check.
	ErrConfig = errors.New("dhcp configuration")
	// ErrMany is in those about MaxPool and MaxAddresses, before the number.
	ErrMany = errors.New("more than")
)

// Check finds what is wrong with a configuration, all of it.
func (c *Config) Check() error {
	var errs []error
	add := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
	}
	if !slices.Contains([]Mode{"", Proxy, Full, Off}, c.Mode) {
		add("mode %q is none of proxy, full, off", c.Mode)
	}
	if c.Mode == Full && len(c.Subnets) == 0 {
		add("mode full has no subnets to give addresses of")
	}
	if c.Mode != Full && len(c.Subnets) > 0 {
		add("subnets are for mode full, this is %s", c.mode())
	}
	for _, p := range c.Relays {
		if !p.Addr().Is4() {
			add("relay %s is not IPv4", p)
		}
	}
	c.Base.check(add)
	all := 0
	for i := range c.Subnets {
		all += c.Subnets[i].check(add) + len(c.Subnets[i].Reservations)
		for _, o := range c.Subnets[:i] {
			if o.Prefix.Overlaps(c.Subnets[i].Prefix) {
				add("subnets %s and %s overlap", o.Prefix, c.Subnets[i].Prefix)
			}
		}
	}
	if all > MaxAddresses {
		add("pools and reservations of %d addresses together, %w %d", all, ErrMany, MaxAddresses)
	}
	return errors.Join(errs...)
}

func (c *Config) mode() Mode {
	if c.Mode == "" {
		return Proxy
	}
	return c.Mode
}

func (b *Base) check(add func(string, ...any)) {
	if a, err := netip.ParseAddr(b.TFTP); b.TFTP != "" && b.TFTP != hereMark && (err != nil || !a.Is4()) {
		add("TFTP server %q is not an IPv4 address", b.TFTP)
	}
	for _, u := range []struct{ url, scheme string }{{b.HTTP, "http://"}, {b.HTTPS, "https://"}} {
		if u.url != "" && !isURL(u.url, u.scheme) {
			add("base URL %q does not begin with %s", u.url, u.scheme)
		}
	}
	for _, u := range b.Server {
		if !isURL(u, "https://") || len(u) > 200-len("255.255.255.255") {
			add("server %q is not an https URL of less than 185 printable characters", u)
		}
	}
}

func isURL(s, scheme string) bool {
	return strings.HasPrefix(s, scheme) && len(s) > len(scheme) && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// check gives the number of addresses in the pools.
func (s *Subnet) check(add func(string, ...any)) (total int) {
	if !s.Prefix.IsValid() || !s.Prefix.Addr().Is4() || s.Prefix != s.Prefix.Masked() || s.Prefix.Bits() < 8 || s.Prefix.Bits() > 30 {
		add("subnet %s is not an IPv4 network of /8 to /30", s.Prefix)
		return 0
	}
	for i, r := range s.Pools {
		if !s.host(r.From) || !s.host(r.To) || r.To.Less(r.From) {
			add("subnet %s: pool %s-%s is not a range of its hosts", s.Prefix, r.From, r.To)
			continue
		}
		total += r.size()
		for _, o := range s.Pools[:i] {
			if !o.To.Less(r.From) && !r.To.Less(o.From) {
				add("subnet %s: pools %s-%s and %s-%s overlap", s.Prefix, o.From, o.To, r.From, r.To)
			}
		}
	}
	if total > MaxPool {
		add("subnet %s: pools of %d addresses, %w %d", s.Prefix, total, ErrMany, MaxPool)
	}
	s.checkTimes(add)
	s.checkReservations(add)
	for _, a := range slices.Concat(s.Router, s.DNS, s.NTP) {
		if !a.Is4() {
			add("subnet %s: %s is not an IPv4 address", s.Prefix, a)
		}
	}
	return total
}

func (s *Subnet) checkTimes(add func(string, ...any)) {
	if s.Lease != 0 && (s.Lease < MinLease || s.Lease > MaxLease) {
		add("subnet %s: lease of %s is not between %s and %s", s.Prefix, s.Lease, MinLease, MaxLease)
	}
	if t1, t2 := s.timers(s.lease()); t1 <= 0 || t2 < t1 || t2 > s.lease() {
		add("subnet %s: renewal after %s, rebinding after %s and lease of %s are not in this order", s.Prefix, t1, t2, s.lease())
	}
}

func (s *Subnet) checkReservations(add func(string, ...any)) {
	seen := map[any]bool{}
	for _, r := range s.Reservations {
		if !s.host(r.Addr) {
			add("subnet %s: reserved address %s is not one of its hosts", s.Prefix, r.Addr)
		}
		if r.MAC.IsZero() == (r.Port == Port{}) {
			add("subnet %s: reservation of %s wants either a MAC address, or a circuit id or remote id", s.Prefix, r.Addr)
		}
		if len(r.Port.Circuit) > 255 || len(r.Port.Remote) > 255 {
			add("subnet %s: reservation of %s: an id of option 82 has at most 255 bytes", s.Prefix, r.Addr)
		}
		var who any = r.MAC
		if r.MAC.IsZero() {
			who = r.Port
		}
		for _, key := range []any{who, r.Addr} {
			if seen[key] {
				add("subnet %s: two reservations of or for %v", s.Prefix, key)
			}
			seen[key] = true
		}
	}
}

// host reports whether an address is one of the subnet that a host can have.
func (s *Subnet) host(a netip.Addr) bool {
	return a.Is4() && s.Prefix.Contains(a) && a != s.Prefix.Addr() && a != last(s.Prefix)
}

func (s *Subnet) lease() time.Duration {
	if s.Lease == 0 {
		return DefaultLease
	}
	return s.Lease
}

func (s *Subnet) timers(lease time.Duration) (t1, t2 time.Duration) {
	t1, t2 = s.Renew, s.Rebind
	if t1 == 0 || t1 >= lease {
		t1 = lease / 2
	}
	if t2 == 0 || t2 > lease || t2 < t1 {
		t2 = lease / 8 * 7
	}
	return t1, max(t1, t2)
}
