package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/appliance"
)

func TestRoomFor(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		size, available int64
		want            string
	}{
		{100 * mib, 1000 * mib, ""},
		{100 * mib, 100*mib + ramReserve, ""},
		{100 * mib, 100*mib + ramReserve - 1, "give the machine 1 MiB more"},
		{800*mib + 1, 400 * mib, "has 801 MiB and 400 MiB of memory are free: give the machine 497 MiB more"},
		{100 * mib, 0, ""}, // not known
	} {
		err := roomFor(c.size, c.available)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d of %d: %v, want %q", c.size, c.available, err, c.want)
		}
	}
	if memoryAvailable() < mib {
		t.Errorf("this machine has %d bytes of memory", memoryAvailable())
	}
}

// TestComeBack: a machine without its root is not reset while it writes a disk, and is
// afterwards.
func TestComeBack(t *testing.T) {
	m := &Machine{stop: make(chan stopRequest, 1)}
	m.installing.Store(true)
	if m.requestIdle(stopRequest{why: "no root"}) || len(m.stop) != 0 {
		t.Error("the machine is reset within an install")
	}
	m.installing.Store(false)
	if !m.requestIdle(stopRequest{why: "no root"}) || len(m.stop) != 1 {
		t.Error("the machine is not reset")
	}
}

func TestBootServers(t *testing.T) {
	m := &Machine{}
	m.spec.Netboot = &appliance.Netboot{Server: "http://192.0.2.9:8080"}
	m.machine.Server = "https://[2001:db8::1]:9444/site"
	if got := m.bootServers(); !slices.Equal(got, []string{"http://192.0.2.9:8080", "http://[2001:db8::1]"}) {
		t.Errorf("%q", got)
	}
	for base, want := range map[string]string{"https://ingot.example.com": "http://ingot.example.com", "https://192.0.2.1:9444/x": "http://192.0.2.1"} {
		if got := plainHost(base); got != want {
			t.Errorf("%s: %s", base, got)
		}
	}
}

// TestHardware: what two machines may have alike is not said.
func TestHardware(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range [][3]string{{"eth0", "1", "52:54:00:AA:00:01"}, {"lo", "772", "00:00:00:00:00:00"}, {"bond0", "1", "52:54:00:AA:00:01"}, {"ib0", "32", "80:00:02:08:fe:80"}} {
		put("class/net/"+l[0]+"/type", l[1])
		put("class/net/"+l[0]+"/address", l[2])
		if l[0] != "lo" && l[0] != "bond0" {
			put("class/net/"+l[0]+"/device/vendor", "x")
		}
	}
	put("class/dmi/id/product_serial", "To be filled by O.E.M.")
	put("class/dmi/id/chassis_asset_tag", "rack-7")
	m := &Machine{}
	if h := m.hardware(dir); h.Serial != "" || h.Asset != "rack-7" {
		t.Errorf("%+v", h)
	}
	for id, want := range map[string]string{
		"00000000-0000-0000-0000-000000000000": "", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF": "",
		"4C4C4544-0031-3010-8052-B4C04F4A4D32": "4c4c4544-0031-3010-8052-b4c04f4a4d32",
	} {
		put("class/dmi/id/product_uuid", id)
		h := m.hardware(dir)
		if h.UUID != want || !slices.Equal(h.MACs, []string{"52:54:00:aa:00:01"}) {
			t.Errorf("%s: %+v", id, h)
		}
	}
}
