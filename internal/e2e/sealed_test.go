package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/tpm"
	efiboot "github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/agent/crypt"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/trust"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// sealedSets are releases of one appliance whose data partition is encrypted:
// of epoch 0, of epoch 2, and one that differs from it in its command line.
type sealedSets struct {
	keys              string
	old, new, changed string
}

func newSealed(t *testing.T) sealedSets {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sealed")
	if err := os.CopyFS(dir, os.DirFS(hello)); err != nil {
		t.Fatal(err)
	}
	call := func(args ...string) string {
		t.Helper()
		r := ingot(t, args...)
		if r.code != 0 {
			t.Fatalf("ingot %v: %s", args, r.stderr)
		}
		return strings.TrimSpace(r.out)
	}
	s := sealedSets{keys: filepath.Join(dir, "keys")}
	call("keys", "init", s.keys, "--test", "--name", "own")
	call("keys", "export", s.keys, filepath.Join(dir, "trust"))
	recipe := filepath.Join(dir, "appliance.yaml")
	build := func(edits string) string {
		t.Helper()
		edit(t, recipe, edits)
		call("lock", "-f", recipe, "--update", "ingot", "--update", "go", "--update", "kernel")
		return call("build", "-f", recipe, "-o", filepath.Join(dir, "out"), "--keys", s.keys)
	}
	s.old = build("arch: amd64=arch: amd64\ntrust: {keys: ./trust}\ndata: {encrypt: tpm}")
	s.new = build("version: 1.0.0=version: 1.1.0;arch: amd64=arch: amd64\nsecurityEpoch: 2")
	s.changed = build("version: 1.1.0=version: 1.2.0;cmdline: [quiet]=cmdline: [quiet, ingot.changed]")
	return s
}

// sealedMachine is one machine over several boots.
type sealedMachine struct {
	t    *testing.T
	sets sealedSets
	dir  string
}

func (m *sealedMachine) disk() string { return filepath.Join(m.dir, "disk") }

// signatures are those of a release.
func (m *sealedMachine) signatures(set string) []byte {
	m.t.Helper()
	s, err := release.Open(set)
	if err != nil {
		m.t.Fatal(err)
	}
	b, err := os.ReadFile(strings.TrimSuffix(s.UKI(), ".efi") + release.PolicySuffix)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// install writes a boot file and signatures into slot A, as an update does.
func (m *sealedMachine) install(set string, signatures []byte) {
	m.t.Helper()
	s, err := release.Open(set)
	if err != nil {
		m.t.Fatal(err)
	}
	uki, err := os.ReadFile(s.UKI())
	if err != nil {
		m.t.Fatal(err)
	}
	disk, err := os.OpenFile(m.disk(), os.O_RDWR, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	defer disk.Close()
	p := m.part(disk, partition.SlotA)
	var files tree.Tree
	err = files.Add(tree.Node{Path: "EFI/BOOT/BOOTX64.EFI", Mode: 0o644, Content: tree.Bytes(uki)})
	if err == nil && signatures != nil {
		err = files.Add(tree.Node{Path: efiboot.PolicyPath, Mode: 0o644, Content: tree.Bytes(signatures)})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	img, err := fat.Plan(&files, fat.Options{Size: p.Size, Serial: 1, Epoch: s.Manifest.Epoch, Label: "SLOT"})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := img.WriteTo(io.NewOffsetWriter(disk, p.Start)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *sealedMachine) part(disk *os.File, role string) partition.Part {
	m.t.Helper()
	info, err := disk.Stat()
	if err != nil {
		m.t.Fatal(err)
	}
	l, err := partition.Read(disk, info.Size())
	if err != nil {
		m.t.Fatal(err)
	}
	p, ok := l.Part(role)
	if !ok {
		m.t.Fatalf("no partition %s", role)
	}
	return p
}

// data is a copy of the start of the data partition, or of all of it.
func (m *sealedMachine) data(limit int64) string {
	m.t.Helper()
	disk, err := os.Open(m.disk())
	if err != nil {
		m.t.Fatal(err)
	}
	defer disk.Close()
	p := m.part(disk, partition.Data)
	f, err := os.CreateTemp(m.dir, "data")
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, io.NewSectionReader(disk, p.Start, min(p.Size, limit))); err != nil {
		m.t.Fatal(err)
	}
	return f.Name()
}

// seen is what a boot told.
type seen struct {
	console string
	status  listener.Status
}

var dataSettled = regexp.MustCompile(`problem: data: |healthy after |The data partition is locked`)

// boot starts the machine until its data partition is open or refused. typed
// is entered at the console when it asks for a recovery key.
func (m *sealedMachine) boot(secure bool, typed string) seen {
	m.t.Helper()
	set, err := release.Open(m.sets.old)
	if err != nil {
		m.t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		m.t.Fatal(err)
	}
	machine := qemu.Machine{Arch: "amd64", Image: set.Image(), Disk: m.disk(), TPM: true, Vars: rig.Vars(set, spec), Forwards: []qemu.Forward{{Guest: 9443}}}
	if secure {
		anchors, err := trust.Parse(spec.Trust)
		if err != nil {
			m.t.Fatal(err)
		}
		k, _ := anchors.SecureBootKeys()
		fw, err := qemu.FindSecureFirmware("amd64")
		if err != nil {
			m.t.Fatal(err)
		}
		machine.Firmware, machine.Vars = &fw, rig.Enrol(k, machine.Vars)
	}
	in, keyboard := io.Pipe()
	defer keyboard.Close()
	machine.Input = in
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Minute)
	defer cancel()
	vm, err := qemu.Start(ctx, machine)
	if err != nil {
		m.t.Fatal(err)
	}
	defer vm.Close()
	line, at, err := vm.WaitLineFrom(ctx, qemu.Position(0), dataSettled)
	if err == nil && strings.Contains(line, "locked") {
		if typed != "" {
			fmt.Fprintf(keyboard, "%s\r", typed)
		}
		_, _, err = vm.WaitLineFrom(ctx, at, regexp.MustCompile(`problem: data: |healthy after `))
	}
	if err != nil {
		m.t.Fatalf("%v\n%s", err, tail(vm.Console()))
	}
	out := seen{status: m.status(ctx, vm)}
	if err := vm.PowerDown(ctx); err != nil {
		m.t.Errorf("power down: %v", err)
	}
	out.console = vm.Console()
	return out
}

func (m *sealedMachine) status(ctx context.Context, vm *qemu.VM) (s listener.Status) {
	m.t.Helper()
	var last error
	for range 50 {
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+vm.Forward(9443)+"/v1/status", nil)
		r, err := http.DefaultClient.Do(req)
		if err == nil {
			err = json.NewDecoder(r.Body).Decode(&s)
			r.Body.Close()
		}
		if err == nil && s.Data.State != "" {
			return s
		}
		last = err
		time.Sleep(200 * time.Millisecond)
	}
	m.t.Fatalf("the machine does not answer: %v", last)
	return s
}

// opens boots and wants the data partition open by the TPM.
func (m *sealedMachine) opens(what, version string) seen {
	m.t.Helper()
	s := m.boot(true, "")
	d := s.status.Data
	if d.State != "mounted" || !d.Encrypted || d.UnlockedBy != volume.ByTPM || s.status.Version != version {
		m.t.Fatalf("%s: version %s, data %+v\n%s", what, s.status.Version, d, tail(s.console))
	}
	m.t.Logf("%s: healthy after %.1f s", what, s.status.HealthyAt)
	return s
}

// refuses boots and wants the data partition closed, and the machine to say why.
func (m *sealedMachine) refuses(what, cause string, secure bool) {
	m.t.Helper()
	before := m.sum()
	s := m.boot(secure, "")
	if d := s.status.Data; d.State != "failed" || d.Cause != cause || s.status.Healthy {
		m.t.Errorf("%s: healthy %v, data %+v, want %s\n%s", what, s.status.Healthy, d, cause, tail(s.console))
	}
	if m.sum() != before {
		m.t.Errorf("%s: the data partition was changed", what)
	}
}

func (m *sealedMachine) sum() [32]byte {
	m.t.Helper()
	b, err := os.ReadFile(m.data(1 << 62))
	if err != nil {
		m.t.Fatal(err)
	}
	return sha256.Sum256(b)
}

func (m *sealedMachine) withTPM(f func(socket string) error) {
	m.t.Helper()
	withTPM(m.t, m.disk(), f)
}

// withTPM runs f on the TPM of the machine with a disk while it is off; its registers
// are of no boot then.
func withTPM(t *testing.T, disk string, f func(socket string) error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "sock")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(disk+".machine", "tpm"),
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for range 200 {
		if c, err := tpm.Open(socket); err == nil {
			c.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := f(socket); err != nil {
		t.Fatal(err)
	}
}

var recoveryKey = regexp.MustCompile(`\b([0-9a-z]{5}-){7}[0-9a-z]{5}\b`)

// TestSealedData is the life of an encrypted data partition on enforcing
// firmware (S3, S10): made in the first boot, opened by the TPM in the next and
// by a new release, refused to what was not signed, to a firmware without
// Secure Boot that measures the same PCR 11, and to an old release below the
// floor; opened elsewhere by the recovery key; lost with its counter, and back
// by the recovery key. The cases that need no firmware are in the tests of
// internal/agent/crypt.
func TestSealedData(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "cryptsetup-bin", "cryptsetup")
	m := &sealedMachine{t: t, sets: newSealed(t), dir: t.TempDir()}
	image, err := release.Open(m.sets.old)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "--sparse=always", image.Image(), m.disk()).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	old, next := m.signatures(m.sets.old), m.signatures(m.sets.new)

	first := m.opens("first boot", "1.0.0")
	shown := recoveryKey.FindString(first.console)
	if !first.status.Data.Created || shown == "" {
		t.Fatalf("created %v, recovery key %q\n%s", first.status.Data.Created, shown, tail(first.console))
	}
	second := m.opens("second boot", "1.0.0")
	if second.status.Data.Created || second.status.Data.Dirty || recoveryKey.MatchString(second.console) {
		t.Errorf("second boot: %+v", second.status.Data)
	}
	m.openedElsewhere(shown)

	m.install(m.sets.changed, old)
	m.refuses("a changed release with the signatures of another", volume.Changed, true)
	m.install(m.sets.new, next)
	m.opens("a new release", "1.1.0")
	m.withoutSecureBoot()
	m.withTPM(func(socket string) error {
		_, err := crypt.Floor{}.Raise(t.Context(), m.data(1<<20), func(context.Context) (string, error) { return socket, nil }, 2)
		return err
	})
	m.install(m.sets.old, old)
	m.refuses("the old release below the floor", volume.BelowFloor, true)
	m.install(m.sets.new, next)
	if s := m.opens("the new release at the floor", "1.1.0"); s.status.Data.Floor != 2 {
		t.Errorf("floor %d", s.status.Data.Floor)
	}
	m.withTPM(func(socket string) error { // as if somebody had reset the floor
		c, err := tpm.Open(socket)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.DefineCounter(tpm.FloorIndex)
		return errors.Join(c.DeleteCounter(tpm.FloorIndex), err, defined(c))
	})
	m.refuses("a counter that was deleted and made anew", volume.FloorLost, true)
	byHand := func() {
		s := m.boot(true, strings.ToUpper(shown))
		if d := s.status.Data; d.State != "mounted" || d.UnlockedBy != volume.ByRecovery {
			t.Fatalf("by the recovery key: %+v\n%s", d, tail(s.console))
		}
	}
	byHand()
	m.refuses("beside a counter that counts from elsewhere nothing is sealed anew", volume.FloorLost, true)
	m.withTPM(func(socket string) error {
		c, err := tpm.Open(socket)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.DeleteCounter(tpm.FloorIndex)
	})
	byHand()
	m.opens("after the recovery", "1.1.0")
}

func defined(c *tpm.TPM) error {
	_, err := c.DefineCounter(tpm.FloorIndex)
	return err
}

// openedElsewhere opens the partition with the tools of another system.
func (m *sealedMachine) openedElsewhere(key string) {
	m.t.Helper()
	data := m.data(1 << 62)
	cmd := oracle.Command("cryptsetup", "open", "--test-passphrase", data)
	cmd.Stdin = strings.NewReader(key + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Errorf("cryptsetup does not take the recovery key: %v\n%s", err, out)
	}
	b, err := os.ReadFile(data)
	if err != nil {
		m.t.Fatal(err)
	}
	for i := 16 << 20; i+2048 < len(b); i += 4096 {
		if b[i+1080] == 0x53 && b[i+1081] == 0xef && b[i+1024+0x38] == 0x53 {
			m.t.Errorf("a superblock of ext4 is readable at %d", i)
			break
		}
	}
}

// withoutSecureBoot boots the same disk and TPM on firmware that checks
// nothing: PCR 11 is the same, PCR 7 is not.
func (m *sealedMachine) withoutSecureBoot() {
	m.t.Helper()
	vars := filepath.Join(m.disk()+".machine", "vars.fd")
	if err := os.Rename(vars, vars+".kept"); err != nil {
		m.t.Fatal(err)
	}
	m.refuses("firmware without Secure Boot", volume.SecureBoot, false)
	if err := os.Rename(vars+".kept", vars); err != nil {
		m.t.Fatal(err)
	}
}
