package serve

import (
	"testing"

	"github.com/ingot-os/ingot/pxe/dhcp"
	"github.com/ingot-os/ingot/pxe/dhcp6"
	"github.com/ingot-os/ingot/pxe/dhcpd"
	"github.com/ingot-os/ingot/pxe/dhcpd6"
)

// TestFamilies: DHCP for both IP versions counts under the same names.
func TestFamilies(t *testing.T) {
	d4, err := dhcpd.Listen(dhcpd.Options{Config: dhcp.Config{Mode: dhcp.Off}})
	if err != nil {
		t.Fatal(err)
	}
	defer d4.Close()
	lo, err := dhcpd6.Listen(dhcpd6.Options{Links: []string{"lo"}, Config: dhcp6.Config{DUID: dhcp6.ServerDUID(known)}, Decider: ruled(t, someRules),
		Watcher: watchers{}, Port: 30547, BootPort: 30411})
	if err != nil {
		t.Skip(err) // a host without IPv6
	}
	defer lo.Close()
	s := &Server{metrics: newMetrics("")}
	s.countDHCP(d4)
	s.countDHCP6(lo)
	list, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]bool{}
	for _, f := range list {
		if f.GetName() != "ingot_dhcp_messages_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				families[l.GetName()+"="+l.GetValue()] = true
			}
		}
	}
	for _, want := range []string{"family=4", "family=6", "type=discover", "type=solicit", "type=other", "outcome=limited"} {
		if !families[want] {
			t.Errorf("no message with %s", want)
		}
	}
}
