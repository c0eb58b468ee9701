package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
)

// podmanConf is for hosts with one hierarchy of cgroups for each controller, and where
// root may not raise its own limits.
const podmanConf = `[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "%[1]s/tmp"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
`

const podmanStorage = `[storage]
driver = "vfs"
graphroot = "%[1]s/graph"
runroot = "%[1]s/run"
`

// TestServeInContainer types what packaging/Containerfile says. A machine gets an address
// and its boot file from the container; the server has two capabilities, and may write
// where its state is.
func TestServeInContainer(t *testing.T) {
	p := newPodman(t)
	build, run := p.documented(t)
	if out, err := p.command(build).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	lab := p.serve(t, run)
	lab.boots(t)
	pid := strings.TrimSpace(p.output(t, "podman inspect --latest --format {{.State.Pid}}"))
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
		if !regexp.MustCompile(`(?m)^` + set + `:\s+0000000000002400$`).Match(status) {
			t.Errorf("%s is not CAP_NET_BIND_SERVICE and CAP_NET_RAW:\n%s", set, status)
		}
	}
	for dir, want := range map[string]bool{"/": false, "/usr/bin": false, "/etc/ingot/keys": false, "/srv/ingot/releases": false, "/var/lib/ingot": true} {
		err := os.WriteFile("/proc/"+pid+"/root"+dir+"/written", nil, 0o600) // as root: only its mounts are in the way
		if (err == nil) != want {
			t.Errorf("write to %s: %v", dir, err)
		}
	}
	if err := lab.server.Stop(); err != nil || !strings.Contains(lab.server.Said(), `"stopped"`) {
		t.Errorf("stop: %v", err)
	}
}

// podman is Podman with a store of its own.
type podman struct {
	dir string // of the commands; what they name lies in it
	set string
	env []string
}

func newPodman(t *testing.T) *podman {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	oracle.Need(t, "podman", "podman")
	oracle.Need(t, "runc", "runc")
	f := warm(t)
	_, set := f.built(t, "signed with SPDX")
	dir := t.TempDir()
	p := &podman{dir: dir, set: set}
	conf, storage := filepath.Join(dir, "containers.conf"), filepath.Join(dir, "storage.conf")
	writeFile(t, conf, fmt.Sprintf(podmanConf, dir))
	writeFile(t, storage, fmt.Sprintf(podmanStorage, dir))
	for _, v := range os.Environ() { // which may name an engine with containers of somebody's
		if !strings.HasPrefix(v, "CONTAINER") && !strings.HasPrefix(v, "PODMAN") && !strings.HasPrefix(v, "DOCKER") {
			p.env = append(p.env, v)
		}
	}
	p.env = append(p.env, "CONTAINERS_CONF="+conf, "CONTAINERS_STORAGE_CONF="+storage)
	t.Cleanup(func() {
		p.output(t, "podman rm --all --force && podman volume rm --all --force")
	})
	mkdirs(t, filepath.Join(dir, "releases"), filepath.Join(dir, "bin"))
	oracle.Run(t, "cp", "-r", set, filepath.Join(dir, "releases"))
	oracle.Run(t, "cp", "-r", filepath.Join(f.root, "keys"), filepath.Join(dir, "keys"))
	oracle.Run(t, "cp", "-r", "../../packaging", dir)
	static(t, filepath.Join(dir, "bin/ingot"))
	return p
}

// documented are the commands of the first lines of packaging/Containerfile.
func (p *podman) documented(t *testing.T) (build, run string) {
	t.Helper()
	b, err := os.ReadFile("../../packaging/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)\n#   make build && (podman build [^\n]*)\n#   (podman run .*? ingot)\n`).FindStringSubmatch(string(b))
	if m == nil {
		t.Fatal("packaging/Containerfile does not say how to run it")
	}
	return m[1], strings.ReplaceAll(m[2], "\\\n#", "")
}

func (p *podman) command(line string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", "exec "+line)
	cmd.Dir, cmd.Env = p.dir, p.env
	return cmd
}

func (p *podman) output(t *testing.T, line string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env = p.dir, p.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v\n%s", line, err, &stderr)
	}
	return string(out)
}

// serve starts the container on a host with a cable to a machine.
func (p *podman) serve(t *testing.T, line string) *bootLab {
	t.Helper()
	text := strings.NewReplacer("releases: [releases]\ninsecureReleases: true\nstate: state\n", "releases: [/srv/ingot/releases]\nkeys: /etc/ingot/keys\nstate: /var/lib/ingot\n").Replace(usualPorts(labConfig))
	writeFile(t, filepath.Join(p.dir, "serve.yaml"), text)
	lab := &bootLab{set: p.set, dir: p.dir, host: netlab.New(t, "server"), client: netlab.New(t, "client")}
	netlab.Cable(lab.host, "up0", lab.client, "down0")
	lab.host.Address("up0", "10.88.0.1/24")
	lab.client.Address("down0", "10.88.0.2/24")
	check := p.command(strings.Replace(line, "-v ingot:", "-v check:", 1) + " serve -c /etc/ingot/serve.yaml --check")
	checked := lab.host.StartCommand(check)
	if <-checked.Done(); check.ProcessState.ExitCode() != 0 {
		t.Errorf("--check: %s", checked.Said())
	}
	lab.server = lab.host.StartCommand(p.command(line))
	lab.server.Await(`"serving"`, time.Minute)
	return lab
}
