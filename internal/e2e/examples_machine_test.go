package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/agent/listener"
)

// machineYAML gives a machine a name and a static network in place of the
// recipe's DHCP. The address is the one that QEMU forwards ports to, the
// resolver one that its DHCP server does not name.
const machineYAML = `hostname: rack7
labels: {site: cellar, ring: canary}
network:
  - match: {driver: virtio_net}
    address: [10.0.2.15/24]
    gateway: 10.0.2.2
    dns: [10.0.2.53]
`

// checkMachine compares the status with machineYAML.
func checkMachine(t *testing.T, s listener.Status) {
	t.Helper()
	if s.Machine.State != "applied" || s.Machine.SHA256 != digestOf(machineYAML) {
		t.Errorf("machine.yaml: %+v, want it applied, with the digest of the file", s.Machine)
	}
	if s.Hostname != "rack7" || !maps.Equal(s.Labels, map[string]string{"site": "cellar", "ring": "canary"}) {
		t.Errorf("hostname %q, labels %q", s.Hostname, s.Labels)
	}
	if len(s.Network) != 1 {
		t.Fatalf("network: %+v", s.Network)
	}
	n := s.Network[0]
	if n.DHCP != "off" || n.Gateway != "10.0.2.2" || !slices.Equal(n.Addresses, []string{"10.0.2.15/24"}) || !slices.Equal(n.DNS, []string{"10.0.2.53"}) {
		t.Errorf("network: %+v, want that of machine.yaml", n)
	}
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// brokenYAML has two errors. Its network must not be used in part.
const brokenYAML = `hostname: Rack 7
network:
  - adress: [192.0.2.1/24]
`

// checkRefused: a machine with a broken file is reached as the recipe says, and
// tells every error.
func checkRefused(g *guest) {
	s := g.status()
	if s.Machine.State != "refused" || s.Machine.SHA256 != digestOf(brokenYAML) {
		g.t.Errorf("machine.yaml: %+v, want it refused", s.Machine)
	}
	errs := strings.Join(s.Machine.Errors, "\n")
	for _, want := range []string{"machine.yaml:1:11: ", "machine.yaml:3:5: ", "did you mean address:?"} {
		if !strings.Contains(errs, want) {
			g.t.Errorf("errors %q, want %q among them", s.Machine.Errors, want)
		}
	}
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "machine.yaml is refused") {
		g.t.Errorf("problems: %q", s.Problems)
	}
	if s.Hostname != "behaviour" || len(s.Network) != 1 || s.Network[0].DHCP != "bound" {
		g.t.Errorf("hostname %q, network %+v, want those of the recipe", s.Hostname, s.Network)
	}
	if code, _ := g.get(g.port, "/healthz"); code != http.StatusOK {
		g.t.Errorf("/healthz is %d: services do not depend on machine.yaml", code)
	}
	if len(g.said("ingot", "problem: machine.yaml is refused, the recipe's settings are used")) != 1 {
		g.t.Error("the log says nothing of the refusal")
	}
}

// TestBrokenMachineFile: the operator is told before anything boots.
func TestBrokenMachineFile(t *testing.T) {
	needs(t, "amd64")
	file := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(file, []byte(brokenYAML), 0o644); err != nil {
		t.Fatal(err)
	}
	r := ingot(t, "test", image(t, variant{example: hello}), "--machine", file)
	if r.code != 1 || !strings.Contains(r.stderr, file+":1:11: ") || !strings.Contains(r.stderr, file+":3:5: ") || r.out != "" {
		t.Errorf("code %d, %q, want both places\n%s", r.code, r.out, r.stderr)
	}
}
