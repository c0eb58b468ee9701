package network

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/ingot-os/ingot/internal/appliance"
)

func TestMatches(t *testing.T) {
	nic := Link{Name: "eth0", MAC: "52:54:00:12:34:56", Driver: "virtio_net", Path: "pci-0000:00:02.0"}
	bridge := Link{Name: "br0", MAC: "52:54:00:12:34:57"}
	for _, c := range []struct {
		m    appliance.Match
		l    Link
		want bool
	}{
		{appliance.Match{}, nic, true},
		{appliance.Match{}, bridge, false},
		{appliance.Match{Name: "br*"}, bridge, true},
		{appliance.Match{Name: "eth?"}, nic, true},
		{appliance.Match{Name: "en*"}, nic, false},
		{appliance.Match{MAC: "52:54:00:12:34:56"}, nic, true},
		{appliance.Match{MAC: "52:54:00:AB:34:56"}, nic, false},
		{appliance.Match{Driver: "virtio_net", Path: "pci-0000:00:*"}, nic, true},
		{appliance.Match{Driver: "e1000e", Path: "pci-0000:00:*"}, nic, false},
		{appliance.Match{Name: "["}, nic, false},
	} {
		if got := Matches(c.m, c.l); got != c.want {
			t.Errorf("Matches(%+v, %s) = %v, want %v", c.m, c.l.Name, got, c.want)
		}
	}
}

func TestEarlierInterfacesClaimLinks(t *testing.T) {
	eth := Link{Name: "eth0", Path: "pci-1"}
	all := []appliance.Interface{
		{Match: appliance.Match{Name: "eth0"}}, {}, {Match: appliance.Match{Name: "eth0"}, VLAN: 42}, {Match: appliance.Match{Name: "eth1"}},
	}
	for i, want := range []bool{true, false, true, false} {
		if got := Claims(all, i, eth); got != want {
			t.Errorf("Claims(%d, eth0) = %v, want %v", i, got, want)
		}
	}
	if !Claims(all, 1, Link{Name: "eth2", Path: "pci-2"}) {
		t.Error("the interface without match does not take what is left")
	}
}

// TestBusPath has a virtio card as sysfs shows it: the device of the link is
// the virtio one, which hangs on a PCI function.
func TestBusPath(t *testing.T) {
	sys := t.TempDir()
	virtio := filepath.Join(sys, "devices/pci0000:00/0000:00:02.0/virtio0")
	if err := os.MkdirAll(virtio, 0o755); err != nil {
		t.Fatal(err)
	}
	os.Symlink("../../../../bus/virtio", filepath.Join(virtio, "subsystem"))
	os.Symlink("../../../bus/pci", filepath.Join(virtio, "../subsystem"))
	dev := filepath.Join(sys, "device")
	os.Symlink(virtio, dev)
	if got := busPath(dev); got != "pci-0000:00:02.0" {
		t.Errorf("busPath = %q, want pci-0000:00:02.0", got)
	}
	if got := busPath(filepath.Join(sys, "none")); got != "" {
		t.Errorf("busPath of nothing = %q", got)
	}
}

func ack(t *testing.T, mods ...dhcpv4.Modifier) *nclient4.Lease {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 7))}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return &nclient4.Lease{ACK: m}
}

func TestNewLeaseTimes(t *testing.T) {
	opt := func(code uint8, s uint32) dhcpv4.Modifier {
		return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), []byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)})
	}
	for _, c := range []struct {
		mods                []dhcpv4.Modifier
		time, renew, rebind time.Duration
	}{
		{nil, time.Hour, 30 * time.Minute, 3150 * time.Second},
		{[]dhcpv4.Modifier{opt(51, 1000)}, 1000 * time.Second, 500 * time.Second, 875 * time.Second},
		{[]dhcpv4.Modifier{opt(51, 1000), opt(58, 300), opt(59, 600)}, 1000 * time.Second, 300 * time.Second, 600 * time.Second},
		{[]dhcpv4.Modifier{opt(51, 1), opt(58, 0)}, minLease, minLease / 2, minLease / 8 * 7},
		{[]dhcpv4.Modifier{opt(51, 1000), opt(58, 5000), opt(59, 4000)}, 1000 * time.Second, 500 * time.Second, 875 * time.Second},
	} {
		l, err := newLease(ack(t, c.mods...))
		if err != nil || l.time != c.time || l.renew != c.renew || l.rebind != c.rebind {
			t.Errorf("lease %v %v %v, %v; want %v %v %v", l.time, l.renew, l.rebind, err, c.time, c.renew, c.rebind)
		}
	}
}

func TestNewLeaseAddressAndRoutes(t *testing.T) {
	l, err := newLease(ack(t, dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 2)), dhcpv4.WithDNS(net.IPv4(192, 0, 2, 53))))
	if err != nil || l.addr.IPNet.String() != "192.0.2.7/24" || !l.gateway.Equal(net.IPv4(192, 0, 2, 1)) || len(l.dns) != 1 {
		t.Errorf("lease = %+v, %v", l, err)
	}
	route := &dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(10, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, Router: net.IPv4(192, 0, 2, 9).To4()}
	l, err = newLease(ack(t, dhcpv4.WithNetmask(net.CIDRMask(20, 32)), dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(route))))
	if err != nil || l.gateway != nil || len(l.routes) != 1 || l.addr.IPNet.String() != "192.0.2.7/20" {
		t.Errorf("lease with option 121 = %+v, %v; want its routes and no router", l, err)
	}
	if _, err := newLease(&nclient4.Lease{ACK: &dhcpv4.DHCPv4{}}); err == nil {
		t.Error("a lease without address is accepted")
	}
}
