package authenticode_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/oracle"
)

// files writes the key and certificate of somebody, and images.
func files(t *testing.T, who string, images map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(people()[who].key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	write("cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: people()[who].cert.Raw}))
	for name, b := range images {
		write(name, b)
	}
	return dir
}

// run returns what a program says, and whether it was content.
func run(t *testing.T, dir, program string, args ...string) (string, bool) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return string(out), err == nil
}

// stub is Debian's systemd-stub: what a linker and a distribution make.
func stub(t *testing.T) []byte {
	t.Helper()
	return oracle.ReadFile(t, "systemd-boot-efi", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
}

func images(t *testing.T) map[string][]byte {
	return map[string][]byte{"plain": plain(), "odd": image(13, sec{name: ".text", content: "code"}), "stub": stub(t)}
}

// TestOthersVerifyOurs: sbverify, osslsigncode and pesign agree, and refuse
// the image with a byte changed.
func TestOthersVerifyOurs(t *testing.T) {
	for _, tool := range []struct {
		pkg, program string
		args         []string
		refusal      string
	}{
		{"sbsigntool", "sbverify", []string{"--cert", "cert"}, "verification failed"},
		{"osslsigncode", "osslsigncode", []string{"verify", "-CAfile", "cert", "-in"}, "MISMATCH"},
	} {
		t.Run(tool.program, func(t *testing.T) {
			program := oracle.Need(t, tool.pkg, tool.program)
			for name, b := range images(t) {
				signed := sign(t, b, "db")
				changed := bytes.Clone(signed)
				changed[headersSize*2-1] ^= 1
				dir := files(t, "db", map[string][]byte{"good": signed, "bad": changed})
				if out, ok := run(t, dir, program, append(tool.args, "good")...); !ok {
					t.Errorf("%s: refused:\n%s", name, out)
				}
				if out, ok := run(t, dir, program, append(tool.args, "bad")...); ok || !strings.Contains(out, tool.refusal) {
					t.Errorf("%s: changed and accepted:\n%s", name, out)
				}
			}
		})
	}
}

// TestPesignReadsOurs: pesign lists the signer of an image with two signatures.
func TestPesignReadsOurs(t *testing.T) {
	pesign := oracle.Need(t, "pesign", "pesign")
	dir := files(t, "db", map[string][]byte{"image": sign(t, sign(t, stub(t), "other"), "db")})
	out, ok := run(t, dir, pesign, "--show-signature", "--in", "image")
	for _, want := range []string{"common name is other", "common name is db", "No signer email address"} {
		if !ok || !strings.Contains(out, want) {
			t.Errorf("no %q:\n%s", want, out)
		}
	}
}

// TestWeVerifyOthers: signatures of sbsign and osslsigncode hold, with their
// signing time and other attributes.
func TestWeVerifyOthers(t *testing.T) {
	for _, tool := range []struct {
		pkg, program string
		args         []string
	}{
		{"sbsigntool", "sbsign", []string{"--key", "key", "--cert", "cert", "--output", "signed", "image"}},
		{"osslsigncode", "osslsigncode", []string{"sign", "-certs", "cert", "-key", "key", "-h", "sha256", "-in", "image", "-out", "signed"}},
	} {
		t.Run(tool.program, func(t *testing.T) {
			program := oracle.Need(t, tool.pkg, tool.program)
			for name, b := range images(t) {
				dir := files(t, "db", map[string][]byte{"image": b})
				if out, ok := run(t, dir, program, tool.args...); !ok {
					t.Fatalf("%s: %s", name, out)
				}
				signed, err := os.ReadFile(filepath.Join(dir, "signed"))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := verify(signed, trusting("db")); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if _, err := verify(signed, trusting("other")); err == nil {
					t.Errorf("%s: accepted for another key", name)
				}
			}
		})
	}
}

// TestOpensslSigns: the raw signature of a request made by hand with openssl
// gives the bytes that Sign gives.
func TestOpensslSigns(t *testing.T) {
	openssl, b := oracle.Need(t, "openssl", "openssl"), plain()
	req := request(t, b)
	dir := files(t, "db", map[string][]byte{"message": req.Message})
	if out, ok := run(t, dir, openssl, "dgst", "-sha256", "-sign", "key", "-out", "sig", "message"); !ok {
		t.Fatal(out)
	}
	sig, err := os.ReadFile(filepath.Join(dir, "sig"))
	if err != nil {
		t.Fatal(err)
	}
	p7, err := authenticode.Assemble(req.Digest, people()["db"].cert, sig)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := authenticode.Attach(&out, bytes.NewReader(b), int64(len(b)), p7); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), sign(t, b, "db")) {
		t.Error("differs from the image signed inline")
	}
}
