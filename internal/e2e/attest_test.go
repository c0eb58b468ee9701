package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/agent/listener"
	hosts "github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/internal/verify"
)

// host is where a guest in QEMU's user network finds the machine that runs it.
const host = "10.0.2.2"

// attested is a server and an image that attests to it.
type attested struct {
	t      *testing.T
	store  *hosts.SQLite
	set    *release.Set
	server string // base URL, as the guest reaches it
}

// newAttested builds examples/hello with the keys attest and secrets, and starts
// a server that knows it.
func newAttested(t *testing.T) *attested {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(hello)); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "own")
	recipe := filepath.Join(dir, "appliance.yaml")
	edit(t, recipe, "arch: amd64=arch: amd64\ntrust: {keys: ./trust}\nattest: {interval: 2s};    user: hello=    user: hello\n    secrets: [greeting]")
	for _, args := range [][]string{
		{"keys", "init", own, "--test", "--name", "own"}, {"keys", "export", own, filepath.Join(dir, "trust")},
		{"lock", "-f", recipe, "--update", "ingot", "--update", "go", "--update", "kernel"},
		{"build", "-f", recipe, "-o", filepath.Join(dir, "out"), "--keys", own},
	} {
		if r := ingot(t, args...); r.code != 0 {
			t.Fatalf("ingot %v: %s", args, r.stderr)
		}
	}
	sets, err := filepath.Glob(filepath.Join(dir, "out", "*-*"))
	if err != nil || len(sets) != 1 {
		t.Fatal(sets, err)
	}
	a := &attested{t: t}
	if a.set, err = release.Open(sets[0]); err != nil {
		t.Fatal(err)
	}
	a.serve(dir, serverAuthority(t, own))
	return a
}

func serverAuthority(t *testing.T, dir string) verifier.Authority {
	t.Helper()
	set, err := keys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := set.Signer(t.Context(), keys.Server, "test")
	if err != nil {
		t.Fatal(err)
	}
	return verifier.Authority{Certificate: set.Certificate(keys.Server), Key: key}
}

func (a *attested) serve(dir string, by verifier.Authority) {
	t := a.t
	t.Helper()
	secrets := filepath.Join(dir, "secrets")
	if err := os.MkdirAll(secrets, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(secrets, "greeting"), []byte("good morning"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if a.store, err = hosts.Open(filepath.Join(dir, "state"), hosts.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.store.Close() })
	cert, err := verifier.ServerCertificate(dir, by, []string{host}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := verifier.New(verifier.Options{Store: a.store, Certificate: cert, Hosts: &by, Interval: 2 * time.Second, Secrets: secrets,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := verifier.LoadCatalog([]string{a.set.Dir}, verify.Trust{}, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.SetCatalog(ctx, catalog); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	a.server = fmt.Sprintf("https://%s:%d", host, l.Addr().(*net.TCPAddr).Port)
}

// testWriter writes a server's log into the test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// boot starts the image with a machine.yaml that names the server.
func (a *attested) boot(ctx context.Context) *qemu.VM {
	t := a.t
	t.Helper()
	spec, err := rig.Spec(a.set)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := qemu.Start(ctx, qemu.Machine{Arch: qemu.AMD64, Image: a.set.Image(), TPM: true, Accel: qemu.AccelTCG, Vars: rig.Vars(a.set, spec),
		State:    rig.State(fmt.Appendf(nil, "hostname: edge-1\nserver: %s\n", a.server)),
		Forwards: []qemu.Forward{{Guest: 8080}, {Guest: 9443}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", vm.Console())
		}
		vm.Close()
	})
	return vm
}

// status waits until the machine says what is wanted of it.
func (a *attested) status(ctx context.Context, vm *qemu.VM, want func(listener.Status) bool) listener.Status {
	a.t.Helper()
	var s listener.Status
	for ctx.Err() == nil {
		r, err := http.Get("http://" + vm.Forward(9443) + "/v1/status")
		if err == nil {
			var b []byte
			b, err = io.ReadAll(r.Body)
			r.Body.Close()
			if err == nil && json.Unmarshal(b, &s) == nil && want(s) {
				return s
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	a.t.Fatalf("the machine says %+v, services %+v", s.Attestation, s.Services)
	return s
}

// TestAttest: a machine that nobody knows enrols, waits for an operator and is
// then trusted: this image, from slot a, with this machine.yaml. The service that
// waits for a secret starts with it, and not before.
func TestAttest(t *testing.T) {
	needs(t, "amd64")
	a := newAttested(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	vm := a.boot(ctx)

	s := a.status(ctx, vm, func(s listener.Status) bool { return s.Attestation.State == "pending" })
	if s.Attestation.Name != "edge-1" || s.Attestation.Server != a.server || s.Attestation.Source != "machine.yaml" || s.Clock.Source == "ntp" {
		t.Errorf("pending: %+v, clock %+v", s.Attestation, s.Clock)
	}
	if w := s.Services[0]; w.State != "waiting" || w.Detail != "secret greeting has not come" || s.Healthy {
		t.Errorf("before the secret has come the service is %+v, healthy %t", w, s.Healthy)
	}
	err := a.store.Update(ctx, "edge-1", func(c *hosts.Change) error {
		c.Host.Record.State = attest.Active
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s = a.status(ctx, vm, func(s listener.Status) bool { return s.Attestation.State == "trusted" && s.Healthy })
	if len(s.Attestation.Findings) > 0 || s.Attestation.Error != "" || len(s.Problems) > 0 || s.Clock.Source != "server" {
		t.Errorf("trusted: %+v, clock %+v, problems %q", s.Attestation, s.Clock, s.Problems)
	}
	t.Logf("healthy after %.1f s", s.HealthyAt)
	for line := range strings.Lines(string(vm.Console())) {
		if strings.Contains(line, "attestation:") || strings.Contains(line, "listening on") || strings.Contains(line, " for 24h") {
			t.Log(strings.TrimSpace(line))
		}
	}

	h, err := a.store.Host(ctx, "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	if h.Last == nil || h.Last.Slot != "a" || h.Last.Boot != "disk" || h.Last.Release != "hello" || h.Last.Version != a.set.Manifest.Version {
		t.Errorf("the server keeps %+v", h.Last)
	}
	if slices.ContainsFunc(s.Services, func(s listener.Service) bool { return s.State != "running" }) {
		t.Errorf("services %+v", s.Services)
	}
}
