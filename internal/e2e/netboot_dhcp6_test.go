package e2e

import (
	"path/filepath"
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
