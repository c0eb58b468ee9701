package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
)

// TestNetbootBesideDHCP6: on a link where dnsmasq advertises and gives IPv6 addresses,
// OVMF boots by PXE over IPv6 what this server names, which gives none: it asks for it
// once more on port 4011, and the service is healthy.
func TestNetbootBesideDHCP6(t *testing.T) {
	needs(t, qemu.AMD64)
	f, set := chainRelease(t)
	l := startChainLab(t, f.keys, set, "dhcp6: {mode: proxy}\n")
	l.beside("fd00:77::2/64", "DHCP, sockets bound", "--enable-ra", "--dhcp-range=fd00:77::200,fd00:77::2ff,64,1h")
	cable := l.space.Tap("vm0", "br0")
	// EDK II throws a datagram away that it has not read for 50 ms. On a busy computer the
	// machine stands still for longer, and says "No valid offer received" now and then.
	for range 3 {
		g := l.on(cable, func(m *qemu.Machine) {
			*m = enforcing(t, *m, set)
			m.TPM = false
			m.Options = map[string][]byte{"opt/org.tianocore/IPv4PXESupport": []byte("n")}
		})
		g.wait(healthy)
		if !strings.Contains(g.Console(), "PXE-E16: No valid offer received") {
			break
		}
		t.Log("the firmware has missed an answer; it is started again")
		g.unplug()
	}
	l.story("asks: Solicit on br0, UEFI x86-64", "is offered tally-1.0.0 by TFTP: Advertise on 547: default", "asks: Request",
		"is offered tally-1.0.0 by TFTP: Reply on 4011: default", "looks at tally-1.0.0 by TFTP", "has loaded tally-1.0.0 by TFTP")
}

// TestNetbootHTTP6: on a link whose own DHCP server names a boot file that is not there,
// OVMF goes on to HTTP over IPv6, with address and URL from this server, and the service
// is healthy.
func TestNetbootHTTP6(t *testing.T) {
	needs(t, qemu.AMD64)
	f, set := chainRelease(t)
	l := startChainLab(t, f.keys, set, "dhcp: {mode: off}\ndhcp6: {mode: full, subnets: [{subnet: \"fd00:77::/64\", pool: \"fd00:77::100-fd00:77::1ff\", advertise: true}]}\n")
	l.beside("10.77.0.2/24", "DHCP, IP range", "--dhcp-range=10.77.0.200,10.77.0.210", "--dhcp-vendorclass=set:http,HTTPClient",
		"--dhcp-boot=tag:http,http://10.77.0.2:8/none.efi", "--dhcp-option-force=tag:http,60,HTTPClient")
	cable := l.space.Tap("vm0", "br0")
	for range 3 { // as above
		g := l.on(cable, func(m *qemu.Machine) {
			*m = enforcing(t, *m, set)
			m.TPM = false
			m.Options["opt/org.tianocore/IPv4PXESupport"] = []byte("n")
		})
		g.wait(healthy + `|failed to load Boot\d+ "UEFI HTTPv6`)
		if regexp.MustCompile(healthy).MatchString(g.Console()) {
			break
		}
		t.Log("the firmware has missed an answer; it is started again")
		g.unplug()
	}
	l.story(`asks: Solicit on br0, UEFI x86-64 over HTTP`, `is offered tally-1.0.0 by HTTP: Advertise on 547: default`, `asks: Request`,
		"looks at tally-1.0.0 by HTTP", "has loaded tally-1.0.0 by HTTP")
	if strings.Contains(l.server.Said(), "DISCOVER") {
		t.Error("this server was asked over IPv4")
	}
}

// beside starts dnsmasq on a host of its own at the same link.
func (l *chainLab) beside(address, said string, more ...string) {
	l.t.Helper()
	other := netlab.New(l.t, "other")
	netlab.Cable(l.space, "dhcp0", other, "up0")
	l.space.Plug("dhcp0", "br0")
	other.Address("up0", address)
	other.Start(oracle.Need(l.t, "dnsmasq-base", "dnsmasq"), append([]string{"-k", "-C", "/dev/null", "-p", "0", "--interface=up0", "--bind-interfaces", "--user=root", "--pid-file=",
		"--dhcp-leasefile=" + filepath.Join(l.dir, "leases"), "--log-dhcp", "--log-facility=-"}, more...)...).Await(said, 10*time.Second)
}
