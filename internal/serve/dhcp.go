package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/dhcpd"
)

// openDHCP opens DHCP for IPv4.
func (s *Server) openDHCP(context.Context) error {
	if s.c.DHCP.Mode == ModeOff {
		return nil
	}
	o := dhcpd.Options{
		Config: s.dhcpConfig(s.c), Decider: deciding{s.site, s.metrics}, Watcher: s.site.watch,
		Leases: filepath.Join(s.c.State, "leases"), Port: uint16(s.c.DHCP.Port), BootPort: uint16(s.c.DHCP.ProxyPort),
	}
	for _, l := range s.links {
		o.Interfaces = append(o.Interfaces, l.Name)
	}
	d, err := dhcpd.Listen(o)
	if err != nil {
		return s.troubled(listener{Part: "dhcp", Network: "udp", Address: net.JoinHostPort("", strconv.Itoa(s.c.DHCP.Port))}, s.dhcpError(err))
	}
	for _, l := range d.Listeners() {
		s.listeners = append(s.listeners, &listener{Part: "dhcp", Network: "udp", Address: netip.AddrPortFrom(l.Local, l.Port).String(), Link: l.Link})
	}
	s.dhcp = d
	s.countDHCP(d)
	s.parts = append(s.parts, part{name: "dhcp", run: d.Serve, close: d.Close})
	return nil
}

// dhcpMessages is what the counter of messages is, of both families.
const dhcpMessages = "DHCP messages that came in, by type and by what became of them (answered; silent: taken note of, or of somebody who is not answered; malformed; foreign: for another server; refused: of a relay or client that is not served; limited: too many of one machine; busy: too many at once; failed: the answer could not be sent, or its lease not be kept)."

// countDHCP tells what the DHCP server counts itself.
func (s *Server) countDHCP(d *dhcpd.Server) {
	for _, t := range []dhcp.Type{0, dhcp.Discover, dhcp.Request, dhcp.Decline, dhcp.Release, dhcp.Inform} {
		for _, o := range dhcpd.Outcomes() {
			if o == dhcpd.Malformed && t != 0 {
				continue // what cannot be read has no type
			}
			s.metrics.counter("ingot_dhcp_messages_total", dhcpMessages,
				prometheus.Labels{"family": "4", "type": typeLabel(t), "outcome": o.String()}, func() float64 { return float64(received(d, t, o)) })
		}
	}
	for _, t := range []dhcp.Type{dhcp.Offer, dhcp.Ack, dhcp.Nak} {
		s.metrics.counter("ingot_dhcp_answers_total", "DHCP messages that left, by type.",
			prometheus.Labels{"family": "4", "type": typeLabel(t)}, func() float64 { return float64(d.Answers(t)) })
	}
	for _, standing := range []dhcp.Standing{dhcp.Offered, dhcp.Bound, dhcp.Declined} {
		s.metrics.leases("4", string(standing), func() int {
			n, now := 0, time.Now()
			for _, l := range d.Leases() {
				if l.Standing == standing && now.Before(l.Expires) {
					n++
				}
			}
			return n
		})
	}
	s.metrics.gauge("ingot_dhcp_pool_addresses", "Addresses of all pools, by IP version.", prometheus.Labels{"family": "4"}, func() float64 { return float64(d.Pooled()) })
}

// received counts messages of a type; those that only servers send are of no type.
func received(d *dhcpd.Server, t dhcp.Type, o dhcpd.Outcome) uint64 {
	n := d.Count(t, o)
	if t == 0 {
		n += d.Count(dhcp.Offer, o) + d.Count(dhcp.Ack, o) + d.Count(dhcp.Nak, o)
	}
	return n
}

func typeLabel(t dhcp.Type) string {
	if t == 0 {
		return "other"
	}
	return strings.ToLower(t.String())
}

// dhcpError says which of the two ports cannot be had.
func (s *Server) dhcpError(err error) error {
	for key, port := range map[string]int{"dhcp.port": s.c.DHCP.Port, "dhcp.proxyPort": s.c.DHCP.ProxyPort} {
		if errors.Is(err, syscall.EADDRINUSE) && owner("/proc", "udp", port) == "" {
			continue // it is the other one
		}
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
			return s.c.bindError(key, "dhcp", "udp", port, err)
		}
	}
	return s.c.policyError(err)
}

// policyError is what the policy of DHCP does not take. The file was checked before, but for
// how much it is.
func (c *Config) policyError(err error) error {
	hint := ""
	if errors.Is(err, dhcp.ErrMany) {
		hint = fmt.Sprintf("pools of a subnet may have %d addresses, all pools and reservations together %d: write smaller pools, or give some subnets to another server", dhcp.MaxPool, dhcp.MaxAddresses)
	}
	return c.wrong("dhcp.subnets", "dhcp", hint, "%v", err)
}

// dhcpConfig is what a configuration means for DHCP. The addresses of files are
// those of this server on the link that asks, unless the operator has named one.
func (s *Server) dhcpConfig(c *Config) dhcp.Config {
	out := dhcp.Config{Mode: dhcp.Mode(c.DHCP.Mode), Base: s.base(c), TrustCircuit: c.DHCP.Trust}
	for _, r := range c.DHCP.Relays {
		out.Relays = append(out.Relays, netip.PrefixFrom(r.Addr, 32))
	}
	for _, x := range c.DHCP.Subnets {
		sub := dhcp.Subnet{Prefix: x.Subnet.Prefix, DNS: plain(x.DNS), NTP: plain(x.NTP), Domain: x.Domain, Lease: time.Duration(x.Lease)}
		if x.Router.IsValid() {
			sub.Router = []netip.Addr{x.Router.Addr}
		}
		for _, p := range x.Pools {
			sub.Pools = append(sub.Pools, dhcp.Range{From: p.First, To: p.Last})
		}
		for _, r := range x.Reservations {
			sub.Reservations = append(sub.Reservations, dhcp.Reservation{MAC: r.MAC.MAC, Port: r.port(), Addr: r.Address.Addr, Name: r.Hostname})
		}
		out.Subnets = append(out.Subnets, sub)
	}
	return out
}

// port is where the machine of a reservation is plugged in.
func (r Reservation) port() dhcp.Port {
	return dhcp.Port{Circuit: string(r.Circuit), Remote: string(r.Remote)}
}

func plain(list []Addr) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, a.Addr)
	}
	return out
}

// hereMark stands for the server's address on the link of a client.
const hereMark = "{address}"

// base is where boot files are.
func (s *Server) base(c *Config) dhcp.Base {
	at := hereMark
	if c.Address.IsValid() {
		at = c.Address.String()
	}
	b := dhcp.Base{TFTP: at}
	if !c.HTTP.Off {
		b.HTTP = "http://" + hostPort(at, s.bound("http", c.HTTP.Listen), 80)
	}
	if c.HTTPS.On {
		b.HTTPS = "https://" + hostPort(at, s.bound("https", c.HTTPS.Listen), 443)
	}
	if !c.Attest.Off {
		b.Server = []string{"https://" + hostPort(at, s.bound("attest", c.Attest.Listen), 443)}
	}
	return b
}

// hostPort leaves a port out that goes without saying.
func hostPort(host string, port, usual int) string {
	if port == usual {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// bound is the port on which a part listens: with 0 the one that it got.
func (s *Server) bound(part, address string) int {
	for _, l := range s.listeners {
		if l.Part == part {
			return port(l.Address)
		}
	}
	return port(address)
}

// Derive makes subnets of the links' own, for full DHCP by flags alone: the upper
// part of each subnet, at most 100 addresses, without the server's.
func (c *Config) Derive() error {
	if c.DHCP.Mode != ModeFull || len(c.DHCP.Subnets) > 0 {
		return nil
	}
	if len(c.Interfaces) == 0 {
		return c.wrong("interfaces", "interface", "ingot serve --dhcp full --interface NAME", "full DHCP needs to know on which interface: a second DHCP server on a network breaks it")
	}
	links, err := c.named0()
	if err != nil {
		return err
	}
	for _, l := range links {
		p := l.Prefixes[0]
		if p.Bits() < 8 || p.Bits() > 29 {
			return c.wrong("dhcp", "dhcp", "write subnets with pools into serve.yaml", "interface %s is in %s: no pool can be chosen in a subnet of that size", l.Name, p)
		}
		last := lastAddr(p.Masked()).Prev()
		first := last
		for n := 1; n < min(100, 1<<(31-p.Bits())) && first.Prev() != p.Addr(); n++ {
			first = first.Prev()
		}
		if last == p.Addr() {
			return c.wrong("dhcp", "dhcp", "write subnets with pools into serve.yaml", "interface %s has the last address of %s: no pool can be chosen", l.Name, p.Masked())
		}
		sub := Subnet{Subnet: Prefix{p.Masked()}, Pools: []Range{{first, last}}}
		orHour(&sub.Lease)
		c.DHCP.Subnets = append(c.DHCP.Subnets, sub)
	}
	return nil
}

func (c *Config) named0() ([]Link, error) {
	links, err := c.links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if !l.Prefixes[0].Addr().Is4() {
			return nil, fmt.Errorf("interface %s has no IPv4 address", l.Name)
		}
	}
	return links, nil
}
