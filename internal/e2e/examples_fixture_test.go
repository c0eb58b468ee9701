package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
)

// guest is a booted machine that a test talks to for longer than ingot test does.
type guest struct {
	*qemu.VM
	t    *testing.T
	port int // of the machine's own listener
}

// healthy is the line of a machine all of whose services are ready.
const healthy = `ingot: \S+ \S+ healthy after`

// powerOn starts an image set as ingot run does and waits for a line of its
// console. tweak, which may be nil, changes the machine before.
func powerOn(t *testing.T, dir, until string, tweak func(*qemu.Machine)) *guest {
	t.Helper()
	set, err := release.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	m := qemu.Machine{
		Arch: set.Manifest.Arch, Image: set.Image(), SectorSize: set.Manifest.Disk.SectorSize, TPM: true,
		Vars: rig.Vars(set, spec), WorkDir: t.TempDir(),
	}
	for _, port := range rig.Ports(spec) {
		m.Forwards = append(m.Forwards, qemu.Forward{Guest: port})
	}
	if tweak != nil {
		tweak(&m)
	}
	vm, err := qemu.Start(context.WithoutCancel(t.Context()), m)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{vm, t, rig.ManagementPort(spec)}
	t.Cleanup(g.unplug)
	g.wait(until)
	return g
}

// wait waits for a console line since power-on.
func (g *guest) wait(line string) {
	g.t.Helper()
	limit, err := time.ParseDuration(bootLimit)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), limit)
	defer cancel()
	if _, err := g.WaitLine(ctx, regexp.MustCompile(line)); err != nil {
		g.t.Fatal(err)
	}
}

// unplug ends the machine at once; a failed test shows what it has said.
func (g *guest) unplug() {
	if g.t.Failed() {
		g.t.Logf("console:\n%s", g.Console())
	}
	g.Close()
}

// off presses the power button and wants an orderly end.
func (g *guest) off() {
	g.t.Helper()
	if err := g.PowerDown(context.Background()); err != nil {
		g.t.Error(err)
	}
}

// get asks a forwarded port of the machine.
func (g *guest) get(port int, path string) (status int, body string) {
	g.t.Helper()
	return g.do(http.MethodGet, port, path, "")
}

func (g *guest) do(method string, port int, path, send string) (status int, body string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://"+g.Forward(port)+path, strings.NewReader(send))
	if err != nil {
		g.t.Fatal(err)
	}
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("%s port %d %s: %v", method, port, path, err)
	}
	return resp.StatusCode, string(b)
}

// status is what the machine says of itself.
func (g *guest) status() (s listener.Status) {
	g.t.Helper()
	code, body := g.get(g.port, "/v1/status")
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK {
		g.t.Fatalf("/v1/status: %d, %v\n%s", code, err, body)
	}
	return s
}

// service finds one service in a status.
func service(t *testing.T, s listener.Status, name string) listener.Service {
	t.Helper()
	for _, v := range s.Services {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("/v1/status has no service %s: %+v", name, s.Services)
	return listener.Service{}
}

// eventually tries until ok holds, at most a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
