package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/oracle"
)

// systemdTarget is all that the container starts: systemd's own parts, and the script.
const systemdTarget = `[Unit]
Requires=sysinit.target
After=sysinit.target
AllowIsolate=yes
`

const systemdScript = `[Unit]
DefaultDependencies=no
After=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh /root/machine.sh
ExecStopPost=/bin/systemctl exit 0
StandardOutput=file:/root/said
StandardError=inherit
`

// TestServeUnderSystemd installs the Debian package in a container of this very system
// and types what docs/serve.md says; systemd starts the unit in all its confinement.
// A machine gets an address and its boot file by TFTP and HTTP, before and after the
// server is killed; the server has two capabilities, no way to more, and one folder.
func TestServeUnderSystemd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	said := newContainer(t).run(t, 3*time.Minute)
	t.Log(said)
	if !strings.HasSuffix(said, "proof: whole\n") {
		t.Fatal("it did not come to its end")
	}
	for _, want := range []string{
		`loaded by tftp: boot/525400aabbcc/hello-`, `loaded by http: boot/525400aabbcc/hello-`,
		`Uid:\s+([1-9]\d*)\s+[1-9]\d*\s+[1-9]`, `CapInh:\s+0000000000002400`, `CapPrm:\s+0000000000002400`, `CapEff:\s+0000000000002400`, `CapBnd:\s+0000000000002400`, `CapAmb:\s+0000000000002400`,
		`NoNewPrivs:\s+1`, `Seccomp:\s+2`, `may write to /var/lib/ingot$`, `restarts 1$`, `stopped: success, inactive$`,
	} {
		if !regexp.MustCompile(`(?m)^proof: ` + want).MatchString(said) {
			t.Errorf("no line %q", want)
		}
	}
	if n := strings.Count(said, "proof: loaded by"); n != 4 {
		t.Errorf("%d loads, want 4", n)
	}
	for _, dir := range regexp.MustCompile(`(?m)^proof: may write to (.*)$`).FindAllStringSubmatch(said, -1) {
		if dir[1] != "/var/lib/ingot" {
			t.Errorf("the server could write to %s", dir[1])
		}
	}
	if m := regexp.MustCompile(`(?m)^\{.*"msg":"boot".*"stage":"last".*\}$`).FindAllString(said, -1); len(m) == 0 {
		t.Error("the journal has no object for a boot file that was loaded")
	}
}

// container is a system to start systemd in: this one, with all changes in memory.
type container struct{ root string }

func newContainer(t *testing.T) container {
	t.Helper()
	dir := t.TempDir()
	c := container{filepath.Join(dir, "root")}
	layers := filepath.Join(dir, "layers")
	upper, work := filepath.Join(layers, "upper"), filepath.Join(layers, "work")
	mkdirs(t, c.root, layers)
	mount(t, "tmpfs", layers, "tmpfs", "")
	mkdirs(t, upper, work)
	mount(t, "overlay", c.root, "overlay", "lowerdir=/,upperdir="+upper+",workdir="+work)
	if _, err := os.Stat(filepath.Join(c.root, "usr/lib/systemd/systemd")); err != nil {
		oracle.Missing(t, "systemd is not in the file system of /: %v", err)
	}
	c.fill(t)
	return c
}

func mkdirs(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func mount(t *testing.T, from, to, kind, options string) {
	t.Helper()
	if err := unix.Mount(from, to, kind, 0, options); err != nil {
		t.Fatalf("mount %s on %s: %v", kind, to, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
}

// fill puts the package, a release, its keys, and the commands into /root.
func (c container) fill(t *testing.T) {
	t.Helper()
	f := warm(t)
	_, set := f.built(t, "signed with SPDX")
	program := filepath.Join(t.TempDir(), "ingot")
	static(t, program)
	home, units := filepath.Join(c.root, "root"), filepath.Join(c.root, "etc/systemd/system")
	for _, old := range []string{home, units} { // what this system starts is none of the container's
		if err := os.RemoveAll(old); err != nil {
			t.Fatal(err)
		}
	}
	mkdirs(t, filepath.Join(home, "out"), filepath.Join(units, "proof.target.wants"))
	deb := exec.Command("../../packaging/deb.sh", "amd64", filepath.Join(home, "out"))
	deb.Env = append(os.Environ(), "INGOT="+program)
	if out, err := deb.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	oracle.Run(t, "cp", "-r", set, filepath.Join(home, "set"))
	oracle.Run(t, "cp", "-r", filepath.Join(f.root, "keys"), filepath.Join(home, "keys"))
	oracle.Run(t, "cp", "testdata/systemd/machine.sh", "testdata/systemd/lease.sh", home)
	if err := os.Chmod(filepath.Join(home, "lease.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(home, "docs.sh"):          documented(t),
		filepath.Join(home, "site.yaml"):        edited(t),
		filepath.Join(units, "proof.target"):    systemdTarget,
		filepath.Join(units, "proof.service"):   systemdScript,
		filepath.Join(c.root, "etc/machine-id"): "",
	} {
		writeFile(t, path, text)
	}
	if err := os.Symlink("../proof.service", filepath.Join(units, "proof.target.wants/proof.service")); err != nil {
		t.Fatal(err)
	}
}

// static builds the program as make build does: the unit lets no loader run, and the
// container has none.
func static(t *testing.T, path string) {
	t.Helper()
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// documented are the commands of docs/serve.md that install and start the service.
func documented(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/serve.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```sh\n(sudo apt install [^`]*systemctl enable --now ingot[^`]*)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("docs/serve.md does not say how to install the package")
	}
	return string(m[1])
}

// edited is the sample of the package as a network without a DHCP server has it.
func edited(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../packaging/serve.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("# default: hello", "default: hello", "dhcp:\n  mode: proxy\n", "").Replace(string(b))
	return regexp.MustCompile(`(?m)^# (dhcp:|  +(mode|subnets|- subnet|pools|router):)`).ReplaceAllString(text, "$1")
}

// run starts systemd and returns what the script said.
func (c container) run(t *testing.T, limit time.Duration) string {
	t.Helper()
	nspawn := oracle.Need(t, "systemd-container", "systemd-nspawn")
	oracle.Need(t, "curl", "curl")
	oracle.Need(t, "busybox", "busybox")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, nspawn, "--directory="+c.root, "--register=no", "--keep-unit", "--private-network", "--link-journal=no", "--console=pipe", "--boot", "systemd.unit=proof.target")
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // it stops systemd
	cmd.WaitDelay = 20 * time.Second
	console, err := cmd.CombinedOutput()
	said, _ := os.ReadFile(filepath.Join(c.root, "root/said"))
	if err != nil {
		t.Errorf("systemd-nspawn: %v\n%s", err, console)
	}
	return string(said)
}
