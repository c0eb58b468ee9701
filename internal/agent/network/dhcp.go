package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// VendorClass is option 60 of every request: what `ingot serve` answers with
// its own base URL.
const VendorClass = netboot.InitClass

// settleAfter bounds how long services wait for a first lease.
const settleAfter = 10 * time.Second

// dhcp holds a lease until the context ends. It returns only then.
func (m *Manager) dhcp(ctx context.Context, i int, c appliance.Interface, link netlink.Link, settled func()) error {
	timer := time.AfterFunc(settleAfter, settled)
	defer timer.Stop()
	var held *lease
	for ctx.Err() == nil {
		m.set(i, func(s *Status) { s.DHCP = "asking" })
		l, err := m.acquire(ctx, link)
		if err != nil {
			m.set(i, func(s *Status) { s.Error = err.Error() })
			sleep(ctx, 2*time.Second) // acquire itself waits with growing intervals
			continue
		}
		if held != nil && !held.addr.Equal(*l.addr) {
			_ = netlink.AddrDel(link, held.addr) // gone with the link is fine
		}
		held = l
		if err := m.apply(i, c, link, l); err != nil {
			m.set(i, func(s *Status) { s.Error = err.Error() })
			m.Logf("%s: %v", link.Attrs().Name, err)
		}
		settled()
		m.inform(ctx, i, link, l)
		m.keep(ctx, i, c, link, l)
	}
	return ctx.Err()
}

// lease is what of an acknowledgement is applied.
type lease struct {
	raw     *nclient4.Lease
	addr    *netlink.Addr
	gateway net.IP
	routes  []*dhcpv4.Route
	dns     []string
	time    time.Duration // lease time
	renew   time.Duration // T1
	rebind  time.Duration // T2
	server  net.IP
	base    string // of the server that the machine belongs to (S14)
	asked   bool   // base is no part of the lease: another server has named it
	boot    string // base URL of boot files, by the same word
	next    net.IP // siaddr: the boot server of firmware
}

// minLease keeps a server that says "1 second" from making the machine flood
// its network; RFC 2131 section 4.4.5 asks for at least 60 s between renewals.
const minLease = 120 * time.Second

func newLease(raw *nclient4.Lease) (*lease, error) {
	ack := raw.ACK
	if ack.YourIPAddr == nil || ack.YourIPAddr.IsUnspecified() {
		return nil, errors.New("read dhcp lease: no address")
	}
	mask := ack.SubnetMask()
	if mask == nil {
		mask = ack.YourIPAddr.DefaultMask() // RFC 2131 lets a server leave it out
	}
	l := &lease{
		raw: raw, server: ack.ServerIdentifier(),
		addr: &netlink.Addr{IPNet: &net.IPNet{IP: ack.YourIPAddr, Mask: mask}},
		base: announced(ack.Options.Get(dhcpv4.OptionVendorSpecificInformation)),
		boot: announcedBoot(ack.Options.Get(dhcpv4.OptionVendorSpecificInformation)), next: ack.ServerIPAddr,
		time: max(ack.IPAddressLeaseTime(time.Hour), minLease),
	}
	// T1 and T2 default to 0.5 and 0.875 of the lease (RFC 2131 section 4.4.5).
	l.renew = clamp(ack.IPAddressRenewalTime(0), l.time/2, l.time)
	l.rebind = clamp(ack.IPAddressRebindingTime(0), l.time/8*7, l.time)
	for _, ip := range ack.DNS() {
		l.dns = append(l.dns, ip.String())
	}
	// Option 121 replaces option 3 when both are there (RFC 3442).
	if l.routes = ack.ClasslessStaticRoute(); len(l.routes) == 0 {
		if r := ack.Router(); len(r) > 0 {
			l.gateway = r[0]
		}
	}
	return l, nil
}

// maxServer bounds a URL in bytes; the code's length is one byte anyway.
const maxServer = 200

// announced is the base URL of the attestation server in option 43, announcedBoot that
// of boot files. The address itself is not trusted, but it is shown.
func announced(vendor []byte) string { return vendorURL(vendor, netboot.InitServer, "https://") }

func announcedBoot(vendor []byte) string { return vendorURL(vendor, netboot.InitBoot, "http://") }

// vendorURL reads option 43: codes, lengths and values (RFC 2132 section 8.4). Only a
// URL of printable ASCII is taken.
func vendorURL(vendor []byte, code byte, scheme string) string {
	for len(vendor) >= 2 && vendor[0] != 255 {
		if vendor[0] == 0 { // padding has no length
			vendor = vendor[1:]
			continue
		}
		size := int(vendor[1])
		if len(vendor) < 2+size {
			return ""
		}
		if text := string(vendor[2 : 2+size]); vendor[0] == code && isURL(text, scheme) {
			return text
		}
		vendor = vendor[2+size:]
	}
	return ""
}

func isURL(text, scheme string) bool {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return strings.HasPrefix(text, scheme) && len(text) <= maxServer
}

func clamp(d, def, limit time.Duration) time.Duration {
	if d <= 0 || d >= limit {
		return def
	}
	return max(d, minLease/2)
}

func (m *Manager) acquire(ctx context.Context, link netlink.Link) (*lease, error) {
	cl, err := newClient(link)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	raw, err := cl.Request(ctx, modifiers(link)...)
	if err != nil {
		return nil, fmt.Errorf("ask for a dhcp lease on %s: %w", link.Attrs().Name, err)
	}
	return newLease(raw)
}

// inform asks the others on the network when the server that has given the address names no
// base URL: one that gives no addresses (ingot serve beside another DHCP server) answers an
// INFORM (RFC 2131 section 3.4). An offer of it could not be told from one to take. It asks
// three times in 7 s, after services have started, and again with each renewal.
func (m *Manager) inform(ctx context.Context, i int, link netlink.Link, l *lease) {
	if l.base != "" {
		return
	}
	cl, err := nclient4.New(link.Attrs().Name, nclient4.WithTimeout(time.Second), nclient4.WithRetry(3))
	if err != nil {
		return // the lease is there, and that is what counts
	}
	defer cl.Close()
	q, err := dhcpv4.NewInform(link.Attrs().HardwareAddr, l.addr.IP, modifiers(link)...)
	if err != nil {
		return
	}
	names := func(r *dhcpv4.DHCPv4) bool {
		return r.MessageType() == dhcpv4.MessageTypeAck && announced(r.Options.Get(dhcpv4.OptionVendorSpecificInformation)) != ""
	}
	if r, err := cl.SendAndRead(ctx, nclient4.DefaultServers, q, names); err == nil {
		vendor := r.Options.Get(dhcpv4.OptionVendorSpecificInformation)
		l.base, l.boot, l.asked = announced(vendor), announcedBoot(vendor), true
		m.announce(i, l.base)
		m.announceBoot(l)
	}
}

func newClient(link netlink.Link) (*nclient4.Client, error) {
	cl, err := nclient4.New(link.Attrs().Name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(3))
	if err != nil {
		return nil, fmt.Errorf("open dhcp client on %s: %w", link.Attrs().Name, err)
	}
	return cl, nil
}

func modifiers(link netlink.Link) []dhcpv4.Modifier {
	id := append([]byte{1}, link.Attrs().HardwareAddr...) // hardware type Ethernet, RFC 2132 section 9.14
	out := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(VendorClass)),
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(id)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionVendorSpecificInformation),
	}
	if name, err := os.Hostname(); err == nil && name != "" && name != "(none)" { // the kernel's own until one is set
		out = append(out, dhcpv4.WithOption(dhcpv4.OptHostName(name)))
	}
	return out
}

// apply puts the lease on the link. The kernel's own lifetime on the address
// is the last resort: it removes the address when this program cannot.
func (m *Manager) apply(i int, c appliance.Interface, link netlink.Link, l *lease) error {
	addr := *l.addr
	addr.ValidLft = int(l.time / time.Second)
	addr.PreferedLft = addr.ValidLft
	if err := netlink.AddrReplace(link, &addr); err != nil {
		return fmt.Errorf("add address %s: %w", addr.IPNet, err)
	}
	if err := addRoutes(link, l); err != nil {
		return err
	}
	m.set(i, func(s *Status) {
		s.Error, s.DHCP = "", "bound"
		s.Addresses = append(append([]string(nil), c.Address...), l.addr.IPNet.String())
		s.Lease = fmt.Sprintf("%s from %s", l.time, l.server)
		s.DNS = append(append([]string(nil), c.DNS...), l.dns...)
		s.Gateway = c.Gateway
		if s.Gateway == "" && l.gateway != nil {
			s.Gateway = l.gateway.String()
		}
	})
	m.announce(i, l.base)
	m.announceBoot(l)
	m.Logf("%s: %s for %s from %s", link.Attrs().Name, l.addr.IPNet, l.time, l.server)
	return m.writeResolv()
}

func addRoutes(link netlink.Link, l *lease) error {
	if l.gateway != nil {
		return addGateway(link, l.gateway)
	}
	for _, r := range l.routes {
		if ones, _ := r.Dest.Mask.Size(); ones == 0 {
			if err := addGateway(link, r.Router); err != nil {
				return err
			}
			continue
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: r.Dest, Gw: r.Router}
		if r.Router.IsUnspecified() {
			route.Gw, route.Scope = nil, unix.RT_SCOPE_LINK // RFC 3442: router 0.0.0.0 is on-link
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("add route to %s: %w", r.Dest, err)
		}
	}
	return nil
}

// keep renews until the lease is lost: unicast-style from T1, rebinding with
// any server from T2 (both broadcast here; servers accept it). On the end of
// the lease the address is removed.
func (m *Manager) keep(ctx context.Context, i int, c appliance.Interface, link netlink.Link, l *lease) {
	start := time.Now()
	next := l.renew
	for sleep(ctx, time.Until(start.Add(next))) {
		renewed, err := m.renew(ctx, link, l)
		if err == nil {
			if l.asked && renewed.base == "" {
				renewed.base, renewed.boot, renewed.asked = l.base, l.boot, true
			}
			if err := m.apply(i, c, link, renewed); err != nil {
				m.Logf("%s: %v", link.Attrs().Name, err)
			}
			l, start, next = renewed, time.Now(), renewed.renew
			m.inform(ctx, i, link, l)
			continue
		}
		m.Logf("%s: renew lease: %v", link.Attrs().Name, err)
		var nak *nclient4.ErrNak
		left := l.time - time.Since(start)
		if errors.As(err, &nak) || left <= 0 {
			_ = netlink.AddrDel(link, l.addr) // the kernel may have been first
			m.announce(i, "")
			m.set(i, func(s *Status) { s.Addresses, s.Lease = c.Address, "" })
			return
		}
		// RFC 2131 section 4.4.5: half of the time left until T2 (then until
		// the end), but not under 60 s.
		until := l.rebind - time.Since(start)
		if until <= 0 {
			until = left
		}
		next = time.Since(start) + min(max(until/2, time.Minute), left)
	}
}

func (m *Manager) renew(ctx context.Context, link netlink.Link, l *lease) (*lease, error) {
	cl, err := newClient(link)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	raw, err := cl.Renew(ctx, l.raw, modifiers(link)...)
	if err != nil {
		return nil, err
	}
	return newLease(raw)
}

// sleep returns false when the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
