package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	kept "github.com/ingot-os/ingot/internal/fleet" // fleet is a test's own word here
	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/trust"
	"github.com/ingot-os/ingot/internal/verifier"
)

// canary is the secret of the site: hosts that are trusted have it, and no wire.
const canary = "canary-7f3e0b1c9a524d68"

// netRecipe makes testdata/update an appliance that boots over any network: it
// takes the server that DHCP names before the one that stands in the image, and its
// service waits for the site's secret.
const netRecipe = "trust:=attest: {server: \"https://10.77.0.1:9444\", interval: 2s}\ntrust:;    stateDirectory: tally=    secrets: [token]\n    stateDirectory: tally"

// netFoundry makes the releases of all netboot tests: building takes longer than booting.
var netFoundry = struct {
	once sync.Once
	*foundry
}{}

func newNetFoundry(t *testing.T) *foundry {
	t.Helper()
	netFoundry.once.Do(func() { netFoundry.foundry = foundryAt(t, filepath.Join(root, "netboot"), netRecipe) })
	if netFoundry.foundry == nil {
		t.Fatal("the keys of this test could not be made")
	}
	return netFoundry.foundry
}

// site is a boot server and its network.
type site struct {
	t      *testing.T
	f      *foundry
	dir    string
	exe    string
	api    string        // where the server attests
	power  time.Time     // when the newest machine was started
	space  *netlab.Space // of the server: bridge br0, 10.77.0.1
	server *netlab.Process
}

// siteConfig is serve.yaml of a site, but for who gives addresses and where the
// attestation API is: byDHCP is not where the image looks, inImage is.
const (
	siteConfig = "releases: [releases]\nstate: state\nmachines: machines\nnames: [10.77.0.1, localhost]\ninterfaces: [br0]\ntrial: {tries: 1, health: 3s, limit: 20s}\n"
	byDHCP     = "attest: {interval: 2s, secrets: secrets, listen: \":9555\"}\n"
	inImage    = "attest: {interval: 2s, secrets: secrets, listen: \":9444\"}\n"
)

// newSite lays the network of a server with releases of its own, copies that tests
// may change. config is what serve.yaml has beside siteConfig.
func newSite(t *testing.T, config string, sets ...*release.Set) *site {
	t.Helper()
	s := &site{t: t, f: newNetFoundry(t), dir: t.TempDir(), space: netlab.New(t, "server"), api: "https://10.77.0.1:9444"}
	s.space.Bridge("br0", "10.77.0.1/24", "fd00:77::1/64")
	var err error
	if s.exe, err = program(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(config, byDHCP) {
		s.api = "https://10.77.0.1:9555"
	}
	for _, name := range []string{"releases", "machines"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, set := range sets {
		oracle.Run(t, "cp", "-r", "--sparse=always", set.Dir, filepath.Join(s.dir, "releases"))
	}
	s.put("secrets/token", canary)
	s.put("serve.yaml", "keys: "+s.f.keys+"\n"+siteConfig+config)
	return s
}

// uki is the boot file of a release as the server has it.
func (s *site) uki(set *release.Set) string {
	return filepath.Join(s.dir, "releases", filepath.Base(set.Dir), filepath.Base(set.UKI()))
}

// put writes a file of the site.
func (s *site) put(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// serve starts ingot serve.
func (s *site) serve() {
	s.t.Helper()
	s.server = s.space.Start(s.exe, "serve", "-c", filepath.Join(s.dir, "serve.yaml"), "-v")
	s.server.Await("serving: parts", time.Minute)
}

// reconfigure ends the server and starts it with more in serve.yaml.
func (s *site) reconfigure(more string) {
	s.t.Helper()
	if err := s.server.Stop(); err != nil {
		s.t.Errorf("ingot serve: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "serve.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.put("serve.yaml", string(b)+more)
	s.serve()
}

// kill ends the server without a word, and starts it again.
func (s *site) kill() {
	s.t.Helper()
	s.server.Signal(os.Kill)
	<-s.server.Done()
	s.serve()
}

// name names the machine with a MAC address.
func (s *site) name(mac, name string) {
	s.t.Helper()
	s.put("machines/"+strings.ReplaceAll(mac, ":", "-")+".yaml", "hostname: "+name+"\n")
}

// ingot calls the program beside the server; code is its exit code.
func (s *site) ingot(args ...string) result {
	s.t.Helper()
	args = append(args, "--server", s.api, "--keys", s.f.keys)
	var out, stderr strings.Builder
	cmd := exec.Command(s.exe, args...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	p := s.space.StartCommand(cmd)
	<-p.Done()
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// hosts is ingot hosts, which has to succeed.
func (s *site) hosts(args ...string) string {
	s.t.Helper()
	r := s.ingot(append([]string{"hosts"}, args...)...)
	if r.code != 0 {
		s.t.Fatalf("ingot hosts %q: code %d: %s%s", args, r.code, r.out, r.stderr)
	}
	return r.out
}

// slots are the slots that the server keeps for a host, in short.
func (s *site) slots(name string) kept.Brief {
	s.t.Helper()
	var x verifier.Detail
	s.decode(&x, name)
	if x.Slots == nil {
		return kept.Brief{}
	}
	return x.Slots.Brief()
}

// decode reads what ingot hosts --json says.
func (s *site) decode(into any, args ...string) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.hosts(append(args, "--json")...)), into); err != nil {
		s.t.Fatal(err)
	}
}

// boots are the boots of a host's machine over the network, oldest first; none before
// it has said which one it is.
func (s *site) boots(name string) []timeline.Boot {
	s.t.Helper()
	var d verifier.BootDetail
	if s.decode(&d, name, "--timeline"); len(d.Machines) == 0 {
		return nil
	}
	return d.Machines[0].Boots
}

// says wants what the program tells about a host to match patterns.
func (s *site) says(args []string, patterns ...string) {
	s.t.Helper()
	r := s.ingot(args...)
	if r.code != 0 {
		s.t.Errorf("ingot %q: code %d: %s", args, r.code, r.stderr)
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(r.out) {
			s.t.Errorf("ingot %s does not say %q:\n%s", strings.Join(args, " "), p, r.out)
		}
	}
	s.t.Logf("ingot %s:\n%s", strings.Join(args, " "), r.out)
}

// approve lets a host in that waits for it.
func (s *site) approve(name string) {
	s.t.Helper()
	s.server.Await(name+" waits for approval", 4*time.Minute)
	s.hosts(name, "--approve")
}

// trusted waits until a host was trusted with a version, by this run of the server.
func (s *site) trusted(name, version string) {
	s.t.Helper()
	s.server.Await(name+" is trusted: tally "+version, 4*time.Minute)
}

// diskless is a machine that boots from a cable, with what is kept of it (TPM,
// firmware variables) from start to start.
func (s *site) diskless(cable *netlab.Tap, mac string) qemu.Machine {
	return qemu.Machine{Arch: qemu.AMD64, Accel: qemu.AccelTCG, CPUs: 1, TPM: true, WorkDir: s.t.TempDir(), Disk: filepath.Join(s.t.TempDir(), "node"),
		Options: map[string][]byte{}, Net: &qemu.Net{Open: cable.Open, MAC: mac, First: true}}
}

// node is a machine that boots from a site, over all its boots.
type node struct {
	*guest
	at    qemu.Position // what the console said before it was looked at already
	power time.Time
}

// on starts a machine.
func (s *site) on(m qemu.Machine) *node {
	s.t.Helper()
	vm, err := qemu.Start(context.WithoutCancel(s.t.Context()), m)
	if err != nil {
		s.t.Fatal(err)
	}
	s.power = time.Now()
	n := &node{guest: &guest{VM: vm, t: s.t}, power: s.power}
	s.t.Cleanup(n.unplug)
	return n
}

// sees waits for a line of the console that was not looked at yet.
func (n *node) sees(line string) {
	n.t.Helper()
	limit, _ := time.ParseDuration(bootLimit)
	ctx, cancel := context.WithTimeout(n.t.Context(), limit)
	defer cancel()
	_, next, err := n.WaitLineFrom(ctx, n.at, regexp.MustCompile(line))
	if err != nil {
		n.t.Fatal(err)
	}
	n.at = next
	n.t.Logf("%6.1f s after power-on: %s", time.Since(n.power).Seconds(), line)
}

// runs waits until a boot of a version is healthy.
func (n *node) runs(version string) {
	n.t.Helper()
	n.sees(`ingot: tally ` + regexp.QuoteMeta(version) + ` healthy after`)
}

// Options by which OVMF leaves out ways to boot. PXE over IPv4 off leaves HTTP Boot
// over IPv4 on.
const (
	noPXE4 = "opt/org.tianocore/IPv4PXESupport"
	noPXE6 = "opt/org.tianocore/IPv6PXESupport"
)

func without(m qemu.Machine, options ...string) qemu.Machine {
	for _, name := range options {
		m.Options[name] = []byte("n")
	}
	return m
}

// enforcing gives a machine firmware that starts nothing but what the fleet has signed.
func enforcing(t *testing.T, m qemu.Machine, set *release.Set) qemu.Machine {
	t.Helper()
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := trust.Parse(spec.Trust)
	if err != nil {
		t.Fatal(err)
	}
	k, _ := anchors.SecureBootKeys()
	fw, err := qemu.FindSecureFirmware(m.Arch)
	if err != nil {
		t.Fatal(err)
	}
	m.Firmware, m.Vars = &fw, rig.Enrol(k, nil)
	return m
}

// flipBit changes a bit in the middle of a file.
func flipBit(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
