package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/trust"
	"github.com/ingot-os/ingot/partition"
)

// fleet is what the tests of Secure Boot share: examples/hello that trusts the
// keys in own, built signed, unsigned, and signed by somebody else.
type fleet struct {
	dir, own                string
	signed, unsigned, other string
}

var theFleet struct {
	once sync.Once
	*fleet
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	theFleet.once.Do(func() {
		f := &fleet{dir: filepath.Join(root, "fleet")}
		f.own = filepath.Join(f.dir, "own")
		foreign := filepath.Join(f.dir, "foreign")
		if err := os.CopyFS(f.dir, os.DirFS(hello)); err != nil {
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
		call("keys", "init", f.own, "--test", "--name", "own")
		call("keys", "init", foreign, "--test", "--name", "foreign")
		call("keys", "export", f.own, filepath.Join(f.dir, "trust"))
		recipe := filepath.Join(f.dir, "appliance.yaml")
		edit(t, recipe, "arch: amd64=arch: amd64\ntrust: {keys: ./trust}")
		call("check", "-f", recipe)
		call("lock", "-f", recipe, "--update", "ingot", "--update", "go")
		out := func(name string) string { return filepath.Join(f.dir, name) }
		f.signed = call("build", "-f", recipe, "-o", out("signed"), "--keys", f.own)
		f.unsigned = call("build", "-f", recipe, "-o", out("unsigned"), "--unsigned")
		f.other = call("build", "-f", recipe, "-o", out("other"), "--keys", foreign)
		theFleet.fleet = f
	})
	if theFleet.fleet == nil {
		t.Fatal("the images of this test could not be built")
	}
	return theFleet.fleet
}

// TestSecureBoot boots a signed appliance on firmware that enforces the keys
// out of that very image, and the machine says so.
func TestSecureBoot(t *testing.T) {
	needs(t, "amd64")
	f := newFleet(t)
	v := boot(t, f.signed, "--secure-boot")
	set, err := keys.Open(f.own)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(set.Certificate(keys.PK).Raw)
	if s := v.Status; s.SecureBoot != "enabled" || s.PlatformKey != hex.EncodeToString(sum[:]) {
		t.Errorf("the machine says Secure Boot %q, platform key %q; want enabled, %x", s.SecureBoot, s.PlatformKey, sum)
	}
	if s := v.Status; s.Boot.Slot != "a" || !s.Healthy || len(s.Problems) > 0 {
		t.Errorf("status %+v", s)
	}
	if n := strings.Count(v.raw, "BdsDxe: starting"); n != 1 {
		t.Errorf("%d boots, want 1", n)
	}
}

// TestSecureBootRefuses: what is not signed by the enrolled key, or was changed
// afterwards, does not start; the firmware says so, and ingot repeats it.
func TestSecureBootRefuses(t *testing.T) {
	needs(t, "amd64")
	f := newFleet(t)
	for name, set := range map[string]string{
		"unsigned": f.unsigned, "signed by another key": f.other, "tampered section": tampered(t, f.signed),
	} {
		r := ingot(t, "run", set, "--secure-boot", "--keys", f.own, "--timeout", bootLimit)
		refused(t, name, r.out)
		if r.code != 3 || !strings.Contains(r.stderr, `error: the firmware refused to start the image: Boot0010 "hello slot-a": Access Denied`) || !strings.Contains(r.stderr, "hint: ") {
			t.Errorf("%s: code %d, %s", name, r.code, r.stderr)
		}
	}
}

// TestSecureBootARM64: AAVMF, which is one build for all, enforces as well.
func TestSecureBootARM64(t *testing.T) {
	needs(t, "arm64")
	f := newFleet(t)
	recipe := filepath.Join(f.dir, "arm64.yaml")
	edit(t, recipe, "arch: arm64=arch: arm64\ntrust: {keys: ./trust}")
	set := func(args ...string) string {
		t.Helper()
		r := ingot(t, append([]string{args[0], "-f", recipe}, args[1:]...)...)
		if r.code != 0 {
			t.Fatalf("ingot %v: %s", args, r.stderr)
		}
		return strings.TrimSpace(r.out)
	}
	set("lock", "--update", "ingot", "--update", "go")
	v := boot(t, set("build", "-o", filepath.Join(f.dir, "signed"), "--keys", f.own), "--secure-boot")
	if v.Status.SecureBoot != "enabled" || v.Status.PlatformKey == "" || v.Status.Arch != "arm64" {
		t.Errorf("status %+v", v.Status)
	}
	r := ingot(t, "run", set("build", "-o", filepath.Join(f.dir, "unsigned"), "--unsigned"), "--secure-boot", "--timeout", bootLimit)
	refused(t, "unsigned", r.out)
	if r.code != 3 || !strings.Contains(r.stderr, "the firmware refused to start the image") {
		t.Errorf("unsigned: code %d, %s", r.code, r.stderr)
	}
}

// refused wants both slots refused by the firmware, and nothing of the image started.
func refused(t *testing.T, name, console string) {
	t.Helper()
	var slots []string
	for _, m := range regexp.MustCompile(`failed to load Boot001[01] "hello(?:-arm64)? (slot-[ab])"[^\r\n]*: (Access Denied|Security Violation)`).FindAllStringSubmatch(console, -1) {
		slots = append(slots, m[1])
	}
	if strings.Join(slots, " ") != "slot-a slot-b" || strings.Contains(console, "Linux version") || strings.Contains(console, `starting Boot001`) {
		t.Errorf("%s: the firmware refused %q, want slot-a and slot-b:\n%s", name, slots, tail(console))
	}
}

// tampered is a copy of an image set in which one letter of the command line
// section is another, in every copy of the boot file on the disk.
func tampered(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "set")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	set, err := release.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(set.Image(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	changed := 0
	for _, p := range set.Manifest.Disk.Partitions {
		if p.Role != partition.ESP && p.Role != partition.SlotA && p.Role != partition.SlotB {
			continue
		}
		b, err := io.ReadAll(io.NewSectionReader(disk, p.Start, p.Size))
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; ; changed++ {
			i := bytes.Index(b[at:], []byte(set.Manifest.Cmdline))
			if i < 0 {
				break
			}
			at += i
			if _, err := disk.WriteAt([]byte{b[at] ^ 1}, p.Start+int64(at)); err != nil {
				t.Fatal(err)
			}
			at++
		}
	}
	if changed < 4 { // twice on the ESP, once in each slot
		t.Fatalf("the command line is %d times on the disk, want 4 or more", changed)
	}
	return dir
}

// TestSecureBootRevoked: a boot file with a good signature whose hash is in dbx
// does not start.
func TestSecureBootRevoked(t *testing.T) {
	needs(t, "amd64")
	f := newFleet(t)
	set, err := release.Open(f.signed)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := trust.Parse(spec.Trust)
	if err != nil {
		t.Fatal(err)
	}
	k, _ := anchors.SecureBootKeys()
	k.DBX = esl.Marshal([]esl.List{esl.Hashes(anchors.Owner, hashOf(t, f.unsigned))})
	fw, err := qemu.FindSecureFirmware("amd64")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	vm, err := qemu.Start(ctx, qemu.Machine{Arch: "amd64", Image: set.Image(), Firmware: &fw, Vars: rig.Enrol(k, rig.Vars(set, spec))})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if _, err := vm.WaitLine(ctx, regexp.MustCompile("No bootable option or device was found|Linux version|healthy")); err != nil {
		t.Error(err)
	}
	refused(t, "revoked", vm.Console())
}

// hashOf is the Authenticode digest of the boot file, which is the same before
// and after signing.
func hashOf(t *testing.T, dir string) [32]byte {
	t.Helper()
	set, err := release.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(set.UKI())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	req, err := authenticode.NewRequest(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return req.Digest
}

// TestSecureBootKept: a kept machine keeps its keys; one without, or with
// others, is not taken for it.
func TestSecureBootKept(t *testing.T) {
	needs(t, "amd64")
	f := newFleet(t)
	disk := filepath.Join(t.TempDir(), "disk")
	boot(t, f.signed, "--secure-boot", "--disk", disk)
	foreign := filepath.Join(f.dir, "foreign")
	r := ingot(t, "run", f.signed, "--secure-boot", "--disk", disk, "--keys", foreign)
	if r.code != 1 || !strings.Contains(r.stderr, "other Secure Boot keys: PK differs") || !strings.Contains(r.stderr, "hint: name another --disk") {
		t.Errorf("other keys on a kept machine: code %d, %s", r.code, r.stderr)
	}
	v := boot(t, f.signed, "--secure-boot", "--disk", disk)
	if v.Status.SecureBoot != "enabled" || v.Status.Data.Created {
		t.Errorf("second boot: Secure Boot %q, data %+v", v.Status.SecureBoot, v.Status.Data)
	}
}

// TestSecureBootWithoutKeys: an image that carries no keys needs some named.
func TestSecureBootWithoutKeys(t *testing.T) {
	needs(t, "amd64")
	r := ingot(t, "run", image(t, variant{example: hello}), "--secure-boot")
	if r.code != 1 || !strings.Contains(r.stderr, "the image carries no keys for the firmware") || !strings.Contains(r.stderr, "hint: name keys with --keys DIR, or add trust:") {
		t.Errorf("code %d, %s", r.code, r.stderr)
	}
}
