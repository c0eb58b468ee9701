package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/trust"
)

// prover is an image that has ingot attest collect on board, with its keys.
type prover struct {
	t      *testing.T
	dir    string
	recipe string
	set    *release.Set
}

func newProver(t *testing.T) *prover {
	t.Helper()
	p := &prover{t: t, dir: t.TempDir()}
	if err := os.CopyFS(p.dir, os.DirFS("testdata/offline")); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", p.file("ingot"), "github.com/ingot-os/ingot/cmd/ingot")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the image has no C library
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build ingot: %v\n%s", err, out)
	}
	p.recipe = p.file("appliance.yaml")
	p.ingot(0, "keys", "init", p.file("own"), "--test", "--name", "own")
	p.ingot(0, "keys", "export", p.file("own"), p.file("trust"))
	p.ingot(0, "lock", "-f", p.recipe)
	out := p.ingot(0, "build", "-f", p.recipe, "-o", p.file("out"), "--keys", p.file("own"))
	var err error
	if p.set, err = release.Open(strings.TrimSpace(out)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *prover) file(name string) string { return filepath.Join(p.dir, name) }

// ingot runs the program and wants an exit code; it gives what was printed.
func (p *prover) ingot(code int, args ...string) string {
	p.t.Helper()
	r := ingot(p.t, args...)
	if r.code != code {
		p.t.Fatalf("ingot %v: exit code %d, want %d\n%s%s", args, r.code, code, r.out, r.stderr)
	}
	return r.out
}

// start boots the image, with Secure Boot by its own keys.
func (p *prover) start(ctx context.Context) *qemu.VM {
	t := p.t
	t.Helper()
	spec, err := rig.Spec(p.set)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := trust.Parse(spec.Trust)
	if err != nil {
		t.Fatal(err)
	}
	keys, ok := anchors.SecureBootKeys()
	fw, err := qemu.FindSecureFirmware(qemu.AMD64)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	vm, err := qemu.Start(ctx, qemu.Machine{Arch: qemu.AMD64, Image: p.set.Image(), TPM: true, Accel: qemu.AccelTCG, Firmware: &fw,
		Vars: rig.Enrol(keys, rig.Vars(p.set, spec)), Forwards: []qemu.Forward{{Guest: 8080}}})
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

// evidence asks the machine until it answers, and keeps the document.
func (p *prover) evidence(ctx context.Context, vm *qemu.VM, nonce, name string) string {
	p.t.Helper()
	for ctx.Err() == nil {
		b, err := get(ctx, "http://"+vm.Forward(8080)+"/evidence?nonce="+nonce)
		if err == nil {
			if err := os.WriteFile(p.file(name), b, 0o644); err != nil {
				p.t.Fatal(err)
			}
			return p.file(name)
		}
		var refused *refusedError
		if errors.As(err, &refused) {
			p.t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	p.t.Fatal("no evidence")
	return ""
}

// refusedError is an answer that is not the wanted one.
type refusedError struct{ status, body string }

// Error implements error.
func (e *refusedError) Error() string { return e.status + ": " + e.body }

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // before the machine listens QEMU takes what nobody answers
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = &refusedError{r.Status, string(b)}
	}
	return b, err
}

// TestOffline goes the way of docs/attestation.md without a server, on a machine
// with real firmware: collect, accept, verify.
func TestOffline(t *testing.T) {
	needs(t, "amd64")
	p := newProver(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	const nonce = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	vm := p.start(ctx)
	e, host := p.evidence(ctx, vm, nonce, "edge-1.json"), p.file("host.json")

	p.ingot(0, "attest", "accept", "--evidence", e, "--nonce", nonce, "-o", host)
	args := []string{"attest", "verify", "--evidence", e, "--nonce", nonce, "--enrolled", host, "--reference", p.set.Dir, "--keys", p.file("trust"), "--json"}
	var v struct {
		Trusted    bool
		Host       string
		Release    string
		Boot       string
		SecureBoot bool
		Slot       string
		SlotBy     string
		NotChecked []string
		References []struct{ Signers []string }
		Registers  []struct {
			PCR     int
			Against string
		}
	}
	out := p.ingot(0, args...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatal(err)
	}
	if !v.Trusted || v.Host != "edge-1" || v.Release != "prover" || v.Boot != "disk" || !v.SecureBoot || v.Slot != "a" || v.SlotBy != "init" || len(v.References) != 1 || len(v.References[0].Signers) != 1 {
		t.Errorf("%s", out)
	}
	for _, r := range v.Registers {
		if r.PCR == 7 && !strings.Contains(r.Against, "prover") {
			t.Errorf("the keys of Secure Boot were compared with %q", r.Against)
		}
	}
	t.Logf("%s", p.ingot(0, args[:len(args)-1]...))

	// The same again later, and what was asked for before is old then.
	const later = "aa" + nonce
	second := p.evidence(ctx, vm, later, "second.json")
	p.ingot(0, "attest", "verify", "--evidence", second, "--nonce", later, "--enrolled", host, "--reference", p.set.Dir, "--remember")
	if out := p.ingot(3, args...); !strings.Contains(out, `"clock.rewound"`) {
		t.Errorf("%s", out)
	}
	// Evidence of this machine under keys of another fleet.
	p.ingot(0, "keys", "init", p.file("foreign"), "--test")
	p.ingot(3, "attest", "verify", "--evidence", second, "--nonce", later, "--enrolled", host, "--reference", p.set.Dir, "--keys", p.file("foreign"))
}
