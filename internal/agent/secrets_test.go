package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/measure"
	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/agent/supervise"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/machine"
)

// holdsFile wants a file with this content, mode and owner.
func holdsFile(t *testing.T, path, want string, mode os.FileMode, uid int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return
	}
	if string(b) != want || info.Mode().Perm() != mode || !owned(info, uid, uid) {
		t.Errorf("%s: %q, %s; want %q, %s of %d", path, b, info.Mode(), want, mode, uid)
	}
}

// TestSecrets: a service waits for all of its secrets, finds them under its
// user, and sees what is exchanged while it runs; others do not see them.
func TestSecrets(t *testing.T) {
	asRoot(t)
	m := waitingMachine(t)
	state := func() listener.Service { return m.Status().Services[0] }
	if s := state(); s.State != string(supervise.Waiting) || s.Detail != "secrets db-password, key have not come" {
		t.Fatalf("%+v", s)
	}
	deliver := func(secrets ...proof.Secret) {
		t.Helper()
		if err := m.deliver(proof.Delivery{Secrets: secrets}); err != nil {
			t.Fatal(err)
		}
	}
	deliver(proof.Secret{Name: "key", Value: []byte("k")}, proof.Secret{Name: "unasked", Value: []byte("u")})
	waitFor(t, func() bool { return state().Detail == "secret db-password has not come" })
	deliver(proof.Secret{Name: "db-password", Value: []byte("one")})
	waitFor(t, func() bool { return state().State == string(supervise.Running) })
	dir := m.place(secretsDir, "web")
	holdsFile(t, filepath.Join(dir, "db-password"), "one", 0o400, 1000)
	holdsFile(t, filepath.Join(dir, "key"), "k", 0o400, 1000)
	old, err := os.Stat(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	deliver(proof.Secret{Name: "db-password", Value: []byte("two")}, proof.Secret{Name: "key", Value: []byte("k")})
	holdsFile(t, filepath.Join(dir, "db-password"), "two", 0o400, 1000)
	if now, err := os.Stat(filepath.Join(dir, "key")); err != nil || now.Mode() != old.Mode() {
		t.Errorf("%v %v", now, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the service's directory has %v, %v", entries, err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o500, filepath.Dir(dir): 0o711} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want %s", path, info.Mode(), want)
		}
	}
}

// TestSecretInTheWay: what a service puts into its directory is a problem, and not
// for the attester.
func TestSecretInTheWay(t *testing.T) {
	asRoot(t)
	m := waitingMachine(t)
	if err := os.MkdirAll(m.place(secretsDir, "web", "key", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.deliver(proof.Delivery{Secrets: []proof.Secret{{Name: "key", Value: []byte("k")}}}); err != nil {
		t.Errorf("the delivery failed: %v", err)
	}
	if p := m.Status().Problems; len(p) != 1 || !strings.Contains(p[0], "write secret key of web") {
		t.Errorf("problems %q", p)
	}
}

// waitingMachine has one service of user web (1000) that names two secrets.
func waitingMachine(t *testing.T) *Machine {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := testMachine(t)
	m.runtime = dir
	m.spec.Services = []appliance.Service{{Name: "web", Command: "/bin/sleep", Args: []string{"60"}, User: "web", Secrets: []string{"db-password", "key"}}}
	m.startServices()
	return m
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to that")
		}
	}
}

// TestIdentity is for no service, not even one that is root.
func TestIdentity(t *testing.T) {
	asRoot(t)
	m := testMachine(t)
	m.runtime = t.TempDir()
	for _, cert := range []string{"first", "second"} {
		if err := m.deliver(proof.Delivery{Certificate: []byte(cert), Key: []byte("key")}); err != nil {
			t.Fatal(err)
		}
		holdsFile(t, m.place(identityDir, "cert.pem"), cert, 0o400, nobodys)
		holdsFile(t, m.place(identityDir, "key.pem"), "key", 0o400, nobodys)
	}
	if info, err := os.Stat(m.place(identityDir)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	if reads(t, m, m.place(identityDir, "key.pem")) {
		t.Error("a service without user reads the key of the machine's identity")
	}
}

// TestServerInOrder: machine.yaml, then DHCP, then the recipe (S14).
func TestServerInOrder(t *testing.T) {
	m := testMachine(t)
	if url, by := m.server(); url != "" || by != "" {
		t.Errorf("%q by %q", url, by)
	}
	m.spec.Attest = &appliance.Attest{Server: "https://recipe"}
	if url, by := m.server(); url != "https://recipe" || by != "recipe" {
		t.Errorf("%q by %q", url, by)
	}
	m.machine = machine.Machine{Server: "https://own"}
	if url, by := m.server(); url != "https://own" || by != "machine.yaml" {
		t.Errorf("%q by %q", url, by)
	}
}

func TestWrongVariantIsTold(t *testing.T) {
	m := testMachine(t)
	m.attest()
	m.spec.Attest = &appliance.Attest{}
	m.attest()
	if p := m.Status().Problems; len(p) != 1 || !strings.Contains(p[0], "wrong variant") {
		t.Errorf("problems %q", p)
	}
}

// TestFloorBase: the attester speaks of the floor of images that seal their
// data, and knows its base when the volume is open.
func TestFloorBase(t *testing.T) {
	m := testMachine(t)
	p, base := m.prover(appliance.Attest{}), int64(57)
	if got, sealed := p.FloorBase(); got != nil || sealed {
		t.Errorf("plain data: %v, %v", got, sealed)
	}
	m.spec.Data.Encrypt = "tpm"
	if got, sealed := p.FloorBase(); got != nil || !sealed {
		t.Errorf("closed: %v, %v", got, sealed)
	}
	m.volume.Base = &base
	if got, sealed := p.FloorBase(); got == nil || *got != 57 || !sealed {
		t.Errorf("open: %v, %v", got, sealed)
	}
}

// TestAttesterPanics: what the attester does wrong is a problem, not the end.
func TestAttesterPanics(t *testing.T) {
	m := testMachine(t)
	m.options.Attest = func(context.Context, proof.Machine) { panic("out of range") }
	m.attestOnce(m.prover(appliance.Attest{}))
	if s := m.Status(); s.Attestation.State != "failed" || s.Attestation.Error != "out of range" || len(s.Problems) != 1 {
		t.Errorf("%+v, problems %q", s.Attestation, s.Problems)
	}
}

func TestNetworkBoot(t *testing.T) {
	mac := efivar.Node{Type: messaging, SubType: macNode}
	for want, path := range map[string]efivar.DevicePath{
		"ram": nil, "pxe": {mac, {Type: messaging, SubType: 12}}, "http": {mac, {Type: messaging, SubType: 12}, {Type: messaging, SubType: uriNode}},
	} {
		if got := networkBoot(path); got != want {
			t.Errorf("%s: %q", want, got)
		}
	}
}

// TestStatement: what a boot says of itself.
func TestStatement(t *testing.T) {
	m := testMachine(t)
	for _, c := range []struct {
		boot       listener.Boot
		slot, path string
	}{
		{listener.Boot{Role: roleAppliance, Path: "disk", Slot: "b"}, "b", "disk"},
		{listener.Boot{Role: roleAppliance, Path: roleSelector}, "esp", "disk"},
		{listener.Boot{Role: roleAppliance, Path: systemdBoot}, "esp", "disk"},
		{listener.Boot{Role: roleRAM, Path: roleRAM}, "", "ram"},
	} {
		m.update(func(s *listener.Status) { s.Boot = c.boot })
		if slot, path := m.statedSlot(), m.statedBoot(); slot != c.slot || path != c.path {
			t.Errorf("%+v: slot %q, path %q", c.boot, slot, path)
		}
	}
}

// TestWithoutTPM: nothing is measured, and nothing is wrong.
func TestWithoutTPM(t *testing.T) {
	if exists(tpmDevice) || exists(tpmTable) {
		t.Skip("this machine has a TPM, whose registers are not for tests")
	}
	m := testMachine(t)
	m.measureBoot(machineFile{})
	m.spec.Data.Encrypt = "tpm"
	if !m.endPhase() || len(m.Status().Problems) != 0 || m.measured.Bytes() != nil {
		t.Errorf("problems %q", m.Status().Problems)
	}
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "file")
	for _, text := range []string{"one", "two"} {
		left := filepath.Join(filepath.Dir(path), ".file~")
		if err := os.WriteFile(left, []byte("left"), 0o444); err != nil && text == "two" {
			t.Fatal(err)
		}
		if err := replace(path, []byte(text), 0o444, os.Getuid(), os.Getgid()); err != nil {
			t.Fatal(err)
		}
		holdsFile(t, path, text, 0o444, os.Getuid())
	}
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(list) != 1 {
		t.Errorf("left behind: %v %v", list, err)
	}
}

// TestSecretsOfLikeNames: a secret whose name is another's with an ending does not
// get in its way.
func TestSecretsOfLikeNames(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		for _, name := range []string{"x.new", "x", "x.new.new", "x~"} {
			if err := replace(filepath.Join(dir, name), []byte(name), 0o444, os.Getuid(), os.Getgid()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"x.new", "x", "x.new.new", "x~"} {
		holdsFile(t, filepath.Join(dir, name), name, 0o444, os.Getuid())
	}
}

func TestFirmware(t *testing.T) {
	dir := t.TempDir()
	if got := firmware(dir); got != "" {
		t.Errorf("%q", got)
	}
	for name, text := range map[string]string{"sys_vendor": "QEMU\n", "bios_version": " 1\x1b[2J\xff", "bios_vendor": strings.Repeat("é", 100), "product_name": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := firmware(dir); !strings.HasPrefix(got, "QEMU, é") || !strings.HasSuffix(got, ", 1.[2J?") || len(got) > 200 {
		t.Errorf("%q", got)
	}
}

// TestLogOfInit is read by the verifier's parser.
func TestLogOfInit(t *testing.T) {
	m := testMachine(t)
	digests := []measure.Digest{{Bank: 0x0b, Value: make([]byte, 32)}}
	if err := m.measured.Append(phasePCR, []byte("services"), digests); err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Parse(m.initLogBytes())
	if err != nil || !slices.ContainsFunc(l.Events, func(e eventlog.Event) bool { return e.PCR == phasePCR && e.Type == eventlog.IPL }) {
		t.Errorf("%v %v", l, err)
	}
}
