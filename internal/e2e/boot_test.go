package e2e

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const hello = "../../examples/hello"

func TestHello(t *testing.T) {
	needs(t, "amd64")
	file := filepath.Join(t.TempDir(), "machine.yaml")
	if err := os.WriteFile(file, []byte(machineYAML), 0o644); err != nil {
		t.Fatal(err)
	}
	v := boot(t, image(t, variant{example: hello}), "--machine", file)
	s := v.Status
	if v.Name != "hello" || s.Name != "hello" || !s.Healthy || len(v.Tests) == 0 {
		t.Errorf("the verdict is not about a healthy hello: %s", v.raw)
	}
	if !v.Machine.TPM || !s.TPM {
		t.Errorf("TPM: rig %v, machine %v", v.Machine.TPM, s.TPM)
	}
	checkMachine(t, s)
	if s.Boot.Role != "appliance" || s.Boot.Slot != "a" {
		t.Errorf("booted by %+v, want slot a at once", s.Boot)
	}
	if len(s.Problems) > 0 {
		t.Errorf("the machine has problems: %q", s.Problems)
	}
	if n := strings.Count(v.raw, "BdsDxe: starting"); n != 1 {
		t.Errorf("the run took %d boots, want 1", n)
	}
}

// TestRunAndInterrupt is a person at a terminal: ingot run, a look at the
// service, Ctrl-C.
func TestRunAndInterrupt(t *testing.T) {
	needs(t, "amd64")
	set := image(t, variant{example: hello})
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe, "run", set, "--timeout", bootLimit)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	console := bufio.NewScanner(out)
	healthy := false
	for !healthy && console.Scan() {
		healthy = strings.Contains(console.Text(), "healthy after")
	}
	if !healthy {
		c.Wait()
		t.Fatalf("never healthy: %s", stderr.String())
	}
	for port, want := range map[string]string{"8080": "hello from", "9443": "ok"} {
		path := map[string]string{"8080": "/", "9443": "/healthz"}[port]
		if got := ask(t, stderr.String(), port, path); !strings.Contains(got, want) {
			t.Errorf("port %s answers %q, want %q", port, got, want)
		}
	}
	c.Process.Signal(syscall.SIGINT)
	rest, _ := io.ReadAll(out)
	if err := c.Wait(); err != nil || !strings.Contains(string(rest), "Power down") {
		t.Errorf("after an interrupt: %v; console ends %q; %s", err, tail(string(rest)), stderr.String())
	}
}

// ask finds the address of a guest's port in what ingot run says.
func ask(t *testing.T, said, port, path string) string {
	t.Helper()
	m := regexp.MustCompile(`port ` + port + ` is at (http://\S+)`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("no address of port %s in %q", port, said)
	}
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get(m[1] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func tail(s string) string { return s[max(0, len(s)-600):] }

// TestSelector starts with an empty variable store: the firmware falls back to
// the ESP, the image sees that and acts as selector, and slot A is booted.
func TestSelector(t *testing.T) {
	needs(t, "amd64")
	v := boot(t, image(t, variant{example: hello}), "--selector")
	if v.Status.Boot.Role != "appliance" || v.Status.Boot.Slot != "a" {
		t.Errorf("booted by %+v, want slot a", v.Status.Boot)
	}
	if n := strings.Count(v.raw, "BdsDxe: starting"); n != 2 {
		t.Errorf("%d boots, want the selector and slot a:\n%s", n, v.raw)
	}
	if !strings.Contains(v.raw, "selector:") {
		t.Errorf("the selector says nothing on the console:\n%s", v.raw)
	}
}

// TestDisks boots one release from disks of other kinds.
func TestDisks(t *testing.T) {
	needs(t, "amd64")
	large := variant{example: hello, edit: "arch: amd64=arch: amd64\ndisk: {sector: 4096}"}
	for _, c := range []struct {
		v      variant
		bus    string
		sector int
		device string
	}{
		{large, "virtio", 4096, "/dev/vda"},
		{variant{example: hello}, "nvme", 512, "/dev/nvme0n1"},
		{large, "nvme", 4096, "/dev/nvme0n1"},
	} {
		v := boot(t, image(t, c.v), "--bus", c.bus)
		if v.Machine.Bus != c.bus || v.Machine.Sector != c.sector || v.Status.Boot.Disk != c.device || v.Status.Data.State != "mounted" {
			t.Errorf("%s %d: machine %+v, disk %s, data %+v", c.bus, c.sector, v.Machine, v.Status.Boot.Disk, v.Status.Data)
		}
	}
}

func TestARM64(t *testing.T) {
	needs(t, "arm64")
	// Debian's arm64 kernel has the driver of QEMU's TPM as a module.
	v := boot(t, image(t, variant{example: hello, file: "arm64.yaml"}))
	if v.Machine.Arch != "arm64" || v.Status.Arch != "arm64" || !v.Status.TPM || v.Status.Boot.Slot != "a" {
		t.Errorf("got machine %+v, status %+v", v.Machine, v.Status)
	}
}
