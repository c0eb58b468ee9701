package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
)

// ramLab is a boot server with an attested appliance whose service lives on a verity
// root, and a cable for a machine without a disk.
type ramLab struct {
	t      *testing.T
	space  *netlab.Space
	cable  *netlab.Tap
	server *netlab.Process
	exe    string
	dir    string
	set    *release.Set
}

const ramMAC = "52:54:00:12:34:56"

func newRAMLab(t *testing.T, edits, config string) *ramLab {
	t.Helper()
	f := newFoundry(t, "go:\n  - package: ./service\n    name: tally\n    tags: [nethttpomithttp2]\n=root: {directory: rootfs, format: erofs}\n;slot: 64M=slot: 80M, root: 16M;trust:=attest: {interval: 2s}\n"+edits+"trust:")
	serviceRoot(t, f)
	l := &ramLab{t: t, dir: t.TempDir(), set: f.release(t, "1.0.0", "")}
	l.space = netlab.New(t, "server")
	l.space.Bridge("br0", "10.77.0.1/24")
	l.cable = l.space.Tap("vm0", "br0")
	var err error
	if l.exe, err = program(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(l.dir, "machines"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.put("machines/"+strings.ReplaceAll(ramMAC, ":", "-")+".yaml", "hostname: ram-1\n")
	l.put("serve.yaml", "releases: ["+l.set.Dir+"]\nkeys: "+f.keys+"\nstate: state\nmachines: machines\nnames: [10.77.0.1, localhost]\ninterfaces: [br0]\n"+
		"dhcp: {mode: full, subnets: [{subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.120]}]}\nattest: {interval: 2s}\n"+config)
	l.server = l.space.Start(l.exe, "serve", "-c", filepath.Join(l.dir, "serve.yaml"), "-v")
	l.server.Await("serving: parts", time.Minute)
	l.hosts() // the keys are this server's
	return l
}

func (l *ramLab) put(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// hosts is ingot hosts, asked on the server's side of the network.
func (l *ramLab) hosts(args ...string) string {
	l.t.Helper()
	keys := regexp.MustCompile(`(?m)^keys: (.*)$`).FindStringSubmatch(l.config())[1]
	return l.space.Run(l.exe, append([]string{"hosts", "--server", "https://10.77.0.1:9444", "--keys", keys}, args...)...)
}

func (l *ramLab) config() string {
	b, err := os.ReadFile(filepath.Join(l.dir, "serve.yaml"))
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// boot starts a machine without a disk.
func (l *ramLab) boot(tweak func(*qemu.Machine)) *guest {
	l.t.Helper()
	m := qemu.Machine{Arch: qemu.AMD64, Accel: qemu.AccelTCG, TPM: true, WorkDir: l.t.TempDir(),
		Options: map[string][]byte{"opt/org.tianocore/IPv6PXESupport": []byte("n")}, Net: &qemu.Net{Open: l.cable.Open, MAC: ramMAC, First: true}}
	if tweak != nil {
		tweak(&m)
	}
	vm, err := qemu.Start(context.WithoutCancel(l.t.Context()), m)
	if err != nil {
		l.t.Fatal(err)
	}
	g := &guest{VM: vm, t: l.t}
	l.t.Cleanup(g.unplug)
	return g
}

// TestRAM: a machine without a disk boots by PXE, takes its machine.yaml from the server
// and its root over HTTP by digest, runs its service from memory, and is trusted with
// the reference of the release as it was built for disks.
func TestRAM(t *testing.T) {
	needs(t, qemu.AMD64)
	l := newRAMLab(t, "", "")
	g := l.boot(nil)
	g.wait(`machine.yaml from https://10.77.0.1:9444`)
	g.wait(`root: [0-9.]+ MiB from http://10.77.0.1(:\d+)? in`)
	g.wait(healthy)
	l.server.Await("ram-1 waits for approval", 2*time.Minute)
	l.hosts("ram-1", "--approve")
	l.server.Await("ram-1 is trusted", 2*time.Minute)
	shown := l.hosts("ram-1")
	for _, want := range []string{`(?m)^ *boot +pxe`, `(?i)trusted`} {
		if !regexp.MustCompile(want).MatchString(shown) {
			t.Errorf("ingot hosts does not say %s:\n%s", want, shown)
		}
	}
	if status := l.status(); !strings.Contains(status, `"state": "ram"`) && !strings.Contains(status, `"state":"ram"`) {
		t.Errorf("the status does not say that data is in memory: %s", status)
	}
}

// status asks the machine itself.
func (l *ramLab) status() string {
	l.t.Helper()
	addr := regexp.MustCompile(`(\S+) has loaded \S+ by HTTP`).FindStringSubmatch(l.server.Said())
	if addr == nil {
		l.t.Fatal("the server has given no address")
	}
	curl := oracle.Need(l.t, "curl", "curl")
	return l.space.Run(curl, "-s", fmt.Sprintf("http://%s:9443/v1/status", addr[1]))
}
