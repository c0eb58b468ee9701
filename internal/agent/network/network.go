// Package network configures the links of the machine as the recipe or
// machine.yaml says: static IPv4 and IPv6 addresses, DHCPv4 with renewal,
// routes, DNS, MTU, VLAN, bond and IPv6 router advertisements (by the kernel).
//
// Limits: no DHCPv6, no DNS from router advertisements, no wireless. Links keep
// the kernel's names; a recipe matches by MAC, bus path or driver where names
// are not stable.
//
// u-root's dhclient was considered for DHCP and is not used: it has no
// renewal, always asks as "PXE UROOT", polls link state every 100 ms and links
// DHCPv6 and an HTTP-style boot parser. The client below it, insomniacslk/dhcp
// as u-root pins it, is used directly.
package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ingot-os/ingot/internal/appliance"
)

const loopback = net.FlagLoopback

// Status is one configured interface as /v1/status shows it.
type Status struct {
	Interface int      `json:"interface"` // index in the configuration
	Links     []string `json:"links"`     // that matched and belong to this device
	Device    string   `json:"device,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Gateway   string   `json:"gateway,omitempty"`
	DNS       []string `json:"dns,omitempty"`
	DHCP      string   `json:"dhcp,omitempty"`  // off, asking, bound
	Lease     string   `json:"lease,omitempty"` // seconds left when asked, and the server
	Error     string   `json:"error,omitempty"`
}

// Manager holds the configuration of one machine. Fill the fields, then Run.
type Manager struct {
	Interfaces []appliance.Interface
	Sysfs      string // "" = /sys
	Resolv     string // resolv.conf to write; "" = /etc/resolv.conf
	// Wait returns true once cond holds (device.Manager.Wait).
	Wait func(ctx context.Context, limit time.Duration, cond func() bool) bool
	// Patience bounds how long a configured link may take to appear; 0 = DeviceWait.
	Patience time.Duration
	// Load makes sure that a kernel module is there (bonding, 8021q).
	Load func(name string) error
	// Logf is told of leases, losses and errors.
	Logf func(format string, args ...any)
	// Go runs a function on a goroutine of its own; nil = a plain one.
	Go func(func())

	mu      sync.Mutex
	status  []Status
	servers map[int]string // that the lease of a row names
	boots   []string       // as BootServers
	resolv  sync.Mutex     // held while the file is written
}

// ResolvConf is where programs look for DNS servers.
const ResolvConf = "/etc/resolv.conf"

// DeviceWait bounds how long a link is waited for, before what needs none goes on.
const DeviceWait = 15 * time.Second

// Run brings up the loopback and every interface. It calls ready once each
// interface has an address or an error, then keeps leases until the context
// ends.
func (m *Manager) Run(ctx context.Context, ready func()) {
	if err := loopbackUp(); err != nil {
		m.Logf("bring up loopback: %v", err)
	}
	m.startRows()
	var settled, running sync.WaitGroup
	settled.Add(len(m.Interfaces))
	for i, c := range m.Interfaces {
		m.spawn(&running, func() {
			once := sync.OnceFunc(settled.Done)
			defer once()
			m.fail(ctx, i, m.configure(ctx, i, c, once))
		})
	}
	settled.Wait()
	ready()
	running.Wait()
}

func (m *Manager) spawn(wg *sync.WaitGroup, f func()) {
	wg.Add(1)
	run := m.Go
	if run == nil {
		run = func(f func()) { go f() }
	}
	run(func() {
		defer wg.Done()
		f()
	})
}

// startRows makes the status lines of all interfaces at once: the first one may
// add rows of its own while the next is started, and the listener reads them.
func (m *Manager) startRows() {
	rows := make([]Status, len(m.Interfaces))
	for i := range rows {
		rows[i] = Status{Interface: i, DHCP: "off"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = rows
}

// Status returns a copy of the present state.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.status)
}

// Server is the base URL of the server that a present lease announces (S14), that
// of the first interface when there are several; empty without one.
func (m *Manager) Server() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for row := range m.status {
		if url := m.servers[row]; url != "" {
			return url
		}
	}
	return ""
}

// announce keeps what the newest lease of a row names, "" included.
func (m *Manager) announce(row int, url string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.servers == nil {
		m.servers = map[int]string{}
	}
	m.servers[row] = url
}

// BootServers are base URLs of boot files that the newest lease names, the best first:
// the one that is named for it, then the boot server of firmware (RFC 2131, siaddr), which
// may serve files by HTTP, too.
func (m *Manager) BootServers() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boots
}

func (m *Manager) announceBoot(l *lease) {
	var urls []string
	if l.boot != "" {
		urls = append(urls, l.boot)
	}
	if ip := l.next.To4(); ip != nil && !ip.IsUnspecified() {
		urls = append(urls, "http://"+ip.String())
	}
	if urls == nil {
		return // what another link has named stays
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boots = urls
}

func (m *Manager) set(i int, f func(*Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.status[i])
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// configure does one interface; settled is called when it has an address. A
// bond takes all links that match, a static address the first. DHCP alone is
// done on each of them: which of a server's ports has a cable, nobody knows.
func (m *Manager) configure(ctx context.Context, i int, c appliance.Interface, settled func()) error {
	found := m.match(ctx, i)
	if len(found) == 0 {
		m.fail(ctx, i, fmt.Errorf("match %s: no such link within %s", describeMatch(c.Match), m.patience()))
		settled() // nobody waits for it any longer, but a card may need a minute for itself
		if found = m.matchLater(ctx, i); len(found) == 0 {
			return nil
		}
		m.set(i, func(s *Status) { s.Error = "" })
	}
	if c.Bond != nil || c.VLAN != 0 || len(c.Address) > 0 {
		return m.configureLink(ctx, i, c, found, settled)
	}
	var wg sync.WaitGroup
	for n := range found {
		row := i
		if n > 0 {
			row = m.addRow(i)
		}
		m.spawn(&wg, func() { m.fail(ctx, row, m.configureLink(ctx, row, c, found[n:n+1], settled)) })
	}
	wg.Wait()
	return nil
}

// addRow adds a line to the status for one more link of an interface.
func (m *Manager) addRow(i int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = append(m.status, Status{Interface: i, DHCP: "off"})
	return len(m.status) - 1
}

// fail notes the error of a row, unless it is the end of the machine.
func (m *Manager) fail(ctx context.Context, row int, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	m.set(row, func(s *Status) { s.Error = err.Error() })
	m.Logf("configure network: %v", err)
}

// configureLink does the device that found makes up: one link, or a bond.
func (m *Manager) configureLink(ctx context.Context, row int, c appliance.Interface, found []Link, settled func()) error {
	m.set(row, func(s *Status) {
		for _, l := range found {
			s.Links = append(s.Links, l.Name)
		}
	})
	link, err := m.device(c, found)
	if err != nil {
		return err
	}
	m.set(row, func(s *Status) { s.Device = link.Attrs().Name })
	if err := m.sysctls(link, c.RA); err != nil {
		m.Logf("%s: %v", link.Attrs().Name, err)
	}
	if c.MTU != 0 {
		if err := netlink.LinkSetMTU(link, c.MTU); err != nil {
			return fmt.Errorf("set mtu %d of %s: %w", c.MTU, link.Attrs().Name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", link.Attrs().Name, err)
	}
	if err := m.static(row, c, link); err != nil {
		return err
	}
	if c.DHCP {
		return m.dhcp(ctx, row, c, link, settled)
	}
	return nil
}

// match waits for links of interface i. It takes those present when the first
// appears: their siblings had the same time to come.
func (m *Manager) match(ctx context.Context, i int) (found []Link) {
	m.Wait(ctx, m.patience(), func() bool {
		all, err := links(m.sysfs())
		if err != nil {
			return false
		}
		found = slices.DeleteFunc(all, func(l Link) bool { return !Claims(m.Interfaces, i, l) })
		return len(found) > 0
	})
	return found
}

// matchLater looks until there is a link, or the context ends.
func (m *Manager) matchLater(ctx context.Context, i int) (found []Link) {
	for ctx.Err() == nil && len(found) == 0 {
		found = m.match(ctx, i)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	return found
}

func (m *Manager) patience() time.Duration {
	if m.Patience == 0 {
		return DeviceWait
	}
	return m.Patience
}

func (m *Manager) sysfs() string {
	if m.Sysfs == "" {
		return "/sys"
	}
	return m.Sysfs
}

func describeMatch(m appliance.Match) string {
	var parts []string
	for _, f := range []struct{ k, v string }{{"name", m.Name}, {"mac", m.MAC}, {"driver", m.Driver}, {"path", m.Path}} {
		if f.v != "" {
			parts = append(parts, f.k+" "+f.v)
		}
	}
	if len(parts) == 0 {
		return "any"
	}
	return strings.Join(parts, ", ")
}

// writeResolv writes the servers of all interfaces, in their order. The file is
// rewritten in place, not replaced: the namespaces of services hold it by a
// bind mount, which would keep the old file.
func (m *Manager) writeResolv() error {
	var b strings.Builder
	seen := map[string]bool{}
	for _, s := range m.Status() {
		for _, ns := range s.DNS {
			if !seen[ns] {
				seen[ns] = true
				fmt.Fprintf(&b, "nameserver %s\n", ns)
			}
		}
	}
	m.resolv.Lock()
	defer m.resolv.Unlock()
	f, err := os.OpenFile(m.resolvFile(), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write resolv.conf: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(b.String()), 0); err != nil {
		return fmt.Errorf("write resolv.conf: %w", err)
	}
	return f.Truncate(int64(b.Len()))
}

func (m *Manager) resolvFile() string {
	if m.Resolv == "" {
		return ResolvConf
	}
	return m.Resolv
}
