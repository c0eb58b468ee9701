package serve

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-os/ingot/pxe/dhcp6"
	"github.com/ingot-os/ingot/pxe/dhcpd6"
)

// openDHCP6 opens DHCPv6 and, where the operator wants them, router advertisements.
func (s *Server) openDHCP6(context.Context) error {
	if s.c.DHCP6.Mode == ModeOff {
		return nil
	}
	o := dhcpd6.Options{
		Config: dhcp6.Config{Assign: s.c.DHCP6.Mode == ModeFull}, Base: s.base6(), Decider: deciding{s.site, s.metrics}, Watcher: s.site.watch,
		LeaseFile: filepath.Join(s.c.State, "leases6"),
	}
	for _, l := range s.links {
		o.Links = append(o.Links, l.Name)
	}
	for _, r := range s.c.DHCP6.Relays {
		o.Relays = append(o.Relays, netip.PrefixFrom(r.Addr, 128))
	}
	for _, x := range s.c.DHCP6.Subnets {
		o.Advertise = o.Advertise || x.Advertise
		lease := time.Duration(x.Lease)
		o.Config.Pools = append(o.Config.Pools, dhcp6.Pool{Link: x.Subnet.Prefix, First: x.Pool.First, Last: x.Pool.Last, DNS: plain(x.DNS), Preferred: lease, Valid: 2 * lease})
	}
	d, err := dhcpd6.Listen(o)
	if err != nil {
		err = s.c.wrong("dhcp6", "dhcp", "", "%v", err)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = s.c.bindError("dhcp6", "dhcp", "udp", dhcp6.ServerPort, err)
		}
		return s.troubled(listener{Part: "dhcp6", Network: "udp", Address: netip.AddrPortFrom(netip.IPv6Unspecified(), dhcp6.ServerPort).String()}, err)
	}
	for _, l := range s.links {
		for _, port := range []uint16{dhcp6.ServerPort, dhcp6.PXEPort} {
			s.listeners = append(s.listeners, &listener{Part: "dhcp6", Network: "udp", Address: netip.AddrPortFrom(netip.IPv6Unspecified(), port).String(), Link: l.Name})
		}
	}
	s.countDHCP6(d)
	s.parts = append(s.parts, part{name: "dhcp6", run: d.Serve, close: func() { d.Close() }})
	return nil
}

// countDHCP6 tells what the DHCPv6 server counts itself.
func (s *Server) countDHCP6(d *dhcpd6.Server) {
	for t := range dhcp6.RelayReply + 1 {
		for _, o := range dhcpd6.Outcomes() {
			if o == dhcpd6.Malformed && t != 0 {
				continue // what cannot be read has no type
			}
			name := "other"
			if t != 0 {
				name = strings.ToLower(t.String())
			}
			s.metrics.counter("ingot_dhcp_messages_total", dhcpMessages, prometheus.Labels{"family": "6", "type": name, "outcome": o.String()},
				func() float64 { return float64(d.Count(t, o)) })
		}
	}
	for _, declined := range []bool{false, true} {
		state := map[bool]string{false: "bound", true: "declined"}[declined]
		s.metrics.leases("6", state, func() int {
			n, now := 0, time.Now()
			for _, l := range d.Leases() {
				if l.Declined == declined && now.Before(l.Until) {
					n++
				}
			}
			return n
		})
	}
}

// base6 is where boot files are for clients of IPv6.
func (s *Server) base6() dhcp6.Base {
	b := dhcp6.Base{TFTP: "tftp://" + hereMark}
	if !s.c.HTTP.Off {
		b.HTTP = "http://" + hereMark + portSuffix(s.bound("http", s.c.HTTP.Listen), 80)
	}
	if s.c.HTTPS.On {
		b.HTTPS = "https://" + hereMark + portSuffix(s.bound("https", s.c.HTTPS.Listen), 443)
	}
	return b
}

// portSuffix leaves a port out that goes without saying.
func portSuffix(port, usual int) string {
	if port == usual {
		return ""
	}
	return ":" + strconv.Itoa(port)
}
