package boot_test

import (
	"bytes"
	"crypto/x509"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/testkey"
	"github.com/ingot-os/ingot/partition/gpt"
)

// secureBoot is the build of OVMF that keeps keys out of the guest's reach by
// SMM and enforces them.
const secureBoot = "amd64 secure boot"

func init() {
	firmwares[secureBoot] = firmware{"qemu-system-x86_64", "qemu-system-x86",
		[]string{"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"},
		"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf"}
}

type signer struct{ testkey.Identity }

// newSigner has a certificate that expired: firmware does not mind.
func newSigner(name string) signer {
	return signer{testkey.New(name, func(c *x509.Certificate) { c.NotAfter = time.Date(2002, 1, 1, 0, 0, 0, 0, time.UTC) })}
}

func (s signer) sign(t *testing.T, image []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := authenticode.Sign(&out, bytes.NewReader(image), int64(len(image)), s.Key, s.Cert); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// refusal is what EDK2's boot manager says of an image it may not start.
var refusal = regexp.MustCompile(`failed to load Boot[0-9A-F]{4} "([^"]+)"[^\r\n]*: (Access Denied|Security Violation)`)

// TestSecureBoot tries images one after another on firmware that enforces keys
// we wrote into its flash: the firmware names each that it refuses, and starts
// the one that two keys have signed.
func TestSecureBoot(t *testing.T) {
	db, other := newSigner("db"), newSigner("other")
	image := func(name string) []byte { return app(boot.AMD64, name, resetShutdown) }
	tampered := db.sign(t, image("tampered"))
	tampered[len(image("tampered"))-1] ^= 1 // padding of the last section: nothing executes it
	revoked := image("revoked")
	req, err := authenticode.NewRequest(bytes.NewReader(revoked), int64(len(revoked)))
	if err != nil {
		t.Fatal(err)
	}
	tries := []struct {
		name  string
		image []byte
	}{
		{"unsigned", image("unsigned")},
		{"wrong key", other.sign(t, image("wrong key"))},
		{"tampered", tampered},
		{"revoked", db.sign(t, revoked)},
		{"good", db.sign(t, other.sign(t, image("good")))},
		{"too late", db.sign(t, image("too late"))},
	}

	dir := t.TempDir()
	disk, vars := filepath.Join(dir, "disk"), filepath.Join(dir, "vars")
	files, entries := map[string][]byte{}, map[string][]byte{}
	var order []uint16
	path := func(i int) string { return "EFI/" + string(rune('A'+i)) + "/BOOTX64.EFI" }
	for i, try := range tries {
		files[path(i)] = try.image
	}
	parts := makeDisk(t, disk, []part{{"ef00", "11111111-0000-4000-8000-000000000001", files}})
	for i, try := range tries {
		order = append(order, uint16(0x10+i))
		entries[efivar.BootName(order[i])] = slot(t, parts[0], path(i), try.name)
	}
	entries[efivar.BootOrder] = efivar.MarshalOrder(order...)
	blank := oracle.ReadFile(t, "ovmf", firmwares[secureBoot].vars)
	writeVars(t, vars, enrolled(t, blank, db.Cert, req.Digest), entries)

	console := runVM(t, secureBoot, vars, disk, "")
	var refused []string
	for _, m := range refusal.FindAllStringSubmatch(console, -1) {
		refused = append(refused, m[1])
	}
	if diff := cmp.Diff([]string{"unsigned", "wrong key", "tampered", "revoked"}, refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s\n%s", diff, console)
	}
	if diff := cmp.Diff([]string{"good"}, appsIn(console)); diff != "" {
		t.Errorf("started (-want +got):\n%s\n%s", diff, console)
	}
}

// enrolled returns a variable store with one certificate in all roles and one
// revoked image.
func enrolled(t *testing.T, image []byte, cert *x509.Certificate, revoked [32]byte) []byte {
	t.Helper()
	s, err := varstore.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	owner := gpt.MustGUID("11223344-5566-4788-99aa-bbccddeeff00")
	list := esl.Marshal([]esl.List{esl.Certificate(owner, cert)})
	keys := varstore.SecureBootKeys{PK: list, KEK: list, DB: list, DBX: esl.Marshal([]esl.List{esl.Hashes(owner, revoked)})}
	if err := s.EnrollSecureBoot(keys); err != nil {
		t.Fatal(err)
	}
	return s.Bytes()
}
