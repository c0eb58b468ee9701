package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
)

const gateway = "../../examples/gateway"

// TestGateway is the life of a machine with data: a reading that is published
// through the portal goes over the broker to the recorder and onto the data
// partition; the plug is pulled; the next boot repairs the file system and
// shows the reading again.
func TestGateway(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "e2fsprogs", "e2fsck")
	set := image(t, variant{example: gateway})
	disk := filepath.Join(t.TempDir(), "gateway.disk")
	persistent := func(m *qemu.Machine) { m.Disk = disk }

	g := powerOn(t, set, healthy, persistent)
	checkGateway(g)
	if code, body := g.get(80, "/"); code != http.StatusOK || !strings.Contains(body, "gateway: 0 readings recorded") {
		t.Errorf("the portal starts with %d, %q", code, body)
	}
	if code, body := g.do(http.MethodPost, 80, "/publish/sensors/x", "21.5"); code != http.StatusOK {
		t.Fatalf("publish: %d, %q", code, body)
	}
	recorded(g)
	// The page shows what the recorder has written, the line that it is on the disk.
	g.wait(`recorder: .*recorded sensors/x`)
	g.unplug()

	g = powerOn(t, set, healthy, persistent)
	if d := g.status().Data; d.Created || !d.Dirty || d.State != "mounted" {
		t.Errorf("data after the plug was pulled: %+v", d)
	}
	recorded(g)
	g.off()
	checkData(t, disk)
}

// recorded wants the one published reading on the portal's page.
func recorded(g *guest) {
	g.t.Helper()
	eventually(g.t, "the reading is on the page", func() bool {
		_, body := g.get(80, "/")
		return strings.Contains(body, "gateway: 1 readings recorded") &&
			strings.Contains(body, `"topic":"sensors/x","value":"21.5"`)
	})
}

func checkGateway(g *guest) {
	s := g.status()
	if !s.Healthy || len(s.Problems) > 0 || len(s.Services) != 3 {
		g.t.Errorf("status: healthy %v, problems %q, services %+v", s.Healthy, s.Problems, s.Services)
	}
	if len(s.Network) != 1 || len(s.Network[0].Addresses) == 0 || s.Network[0].Addresses[0] != "10.0.2.15/24" || s.Network[0].DHCP != "off" {
		g.t.Errorf("network: %+v, want the recipe's static address", s.Network)
	}
	if d := s.Data; !d.Created || d.State != "mounted" || d.Mount != "/data" {
		g.t.Errorf("data on the first boot: %+v", d)
	}
	at := 0.0
	for _, name := range []string{"broker", "recorder", "portal"} { // each after the one before
		v := service(g.t, s, name)
		if v.Since <= at || v.Health != "healthy" || v.Restarts != 0 {
			g.t.Errorf("service %+v, want it healthy and started after %.3f", v, at)
		}
		at = v.Since
	}
}
