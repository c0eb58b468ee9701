package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
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
	other := netlab.New(t, "other")
	netlab.Cable(l.space, "dhcp0", other, "up0")
	l.space.Plug("dhcp0", "br0")
	other.Address("up0", "fd00:77::2/64")
	other.Start(oracle.Need(t, "dnsmasq-base", "dnsmasq"), "-k", "-C", "/dev/null", "-p", "0", "--interface=up0", "--bind-interfaces", "--user=root", "--pid-file=", "--enable-ra",
		"--dhcp-leasefile="+filepath.Join(l.dir, "leases"), "--dhcp-range=fd00:77::200,fd00:77::2ff,64,1h", "--log-dhcp", "--log-facility=-").Await("DHCP, sockets bound", 10*time.Second)
	cable := l.space.Tap("vm0", "br0")
	// EDK II throws a datagram away that it has not read for 50 ms. On a busy computer the
	// machine stands still for longer, and says "No valid offer received" now and then.
	for range 3 {
		g := l.on(cable, func(m *qemu.Machine) {
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

// TestNetbootHTTP6: on a link where this server gives addresses of both kinds and its rules
// boot nothing over IPv4, OVMF boots by HTTP over IPv6, and is trusted by the reference of
// the disk.
func TestNetbootHTTP6(t *testing.T) {
	needs(t, qemu.AMD64)
	f, set := chainRelease(t)
	l := startChainLab(t, f.keys, set, "rules: rules.yaml\ndhcp6: {mode: full, subnets: [{subnet: \"fd00:77::/64\", pool: \"fd00:77::100-fd00:77::1ff\", advertise: true}]}\n")
	l.put("rules.yaml", "format: 1\nrules:\n  - {name: old, subnet: [10.77.0.0/24], boot: local}\ndefault: "+set.Manifest.Name+"\n")
	l.server.Signal(syscall.SIGHUP)
	l.server.Await("configuration is read", 10*time.Second)
	cable := l.space.Tap("vm0", "br0")
	for range 3 { // as above
		g := l.on(cable, func(m *qemu.Machine) { m.Options["opt/org.tianocore/IPv4PXESupport"] = []byte("n") })
		g.wait(healthy + `|failed to load Boot\d+ "UEFI HTTPv6`)
		if regexp.MustCompile(healthy).MatchString(g.Console()) {
			break
		}
		t.Log("the firmware has missed an answer; it is started again")
		g.unplug()
	}
	name := l.approve()
	l.server.Await(name+" is trusted", 2*time.Minute)
	l.story(`asks: Discover on br0, HTTP x86-64`, `rule 1 "old"`, "asks: Solicit on br0, HTTP x86-64", "is offered tally-1.0.0 by HTTP: Advertise on 547: default",
		"looks at tally-1.0.0 by HTTP", "has loaded tally-1.0.0 by HTTP", name+" is trusted")
}
