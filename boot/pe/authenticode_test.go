package pe_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	saferwall "github.com/saferwall/pe"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/internal/oracle"
)

func digest(t *testing.T, b []byte, h crypto.Hash) []byte {
	t.Helper()
	d, err := pe.Authenticode(bytes.NewReader(b), int64(len(b)), h)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAuthenticodeOracle compares with an independent implementation. It does
// not know the rule for gaps, so there are none here; see TestSbsign.
func TestAuthenticodeOracle(t *testing.T) {
	for name, b := range map[string][]byte{
		"synthetic": buildStub(stubSpec{}),
		"grown":     writePlan(t, buildStub(stubSpec{firstVMA: 0x2000}), newSections(30)),
		"pe32":      buildStub(stubSpec{pe32: true}),
		"debian":    writePlan(t, debianStub(t), newSections(5)),
	} {
		f, err := saferwall.NewBytes(b, &saferwall.Options{})
		if err == nil {
			err = f.Parse()
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, want := digest(t, b, crypto.SHA256), f.Authentihash(); !bytes.Equal(got, want) {
			t.Errorf("%s: digest %x, saferwall/pe says %x", name, got, want)
		}
	}
}

// TestAuthenticodeGolden holds digests that pesign 0.112 printed (-h -i FILE)
// for the same bytes, one of them of an image with a gap.
func TestAuthenticodeGolden(t *testing.T) {
	for _, c := range []struct {
		name   string
		image  []byte
		sha256 string
	}{
		{"plain", buildStub(stubSpec{}), "2ffb5393811142456e6ee0f79d55cb3451b86d93267706bbad2bcbcf79dd4522"},
		{"gap", gapImage(), "27c1ddf14d73afbb36fed5d7044f860d3f3e9a3445c9e7bb49b77689326bfc4a"},
	} {
		if got := hex.EncodeToString(digest(t, c.image, crypto.SHA256)); got != c.sha256 {
			t.Errorf("%s: digest %s, want %s", c.name, got, c.sha256)
		}
	}
}

// gapImage has 512 unused bytes between its sections and a trailer, so the
// last bytes of the file are hashed twice.
func gapImage() []byte {
	b := buildStub(stubSpec{trailer: 1024})
	second := int(le.Uint32(b[atSecond+secOffset:]))
	moved := append(append(bytes.Clone(b[:second]), bytes.Repeat([]byte{0xee}, 512)...), b[second:]...)
	le.PutUint32(moved[atSecond+secOffset:], uint32(second+512))
	le.PutUint32(moved[atCOFF+8:], uint32(len(moved)-1024))
	return moved
}

// TestSbsign signs with sbsigntool: its signature holds our digest, and the
// signed image has the same digest as the unsigned one (no padding was needed).
func TestSbsign(t *testing.T) {
	sbsign, dir := oracle.Need(t, "sbsigntool", "sbsign"), t.TempDir()
	key, cert := writeKey(t, dir)
	for name, image := range map[string][]byte{
		"plain": buildStub(stubSpec{}),
		"gap":   gapImage(),
		"uki":   writePlan(t, debianStub(t), newSections(8)),
	} {
		in, out := filepath.Join(dir, name), filepath.Join(dir, name+".signed")
		if err := os.WriteFile(in, image, 0o644); err != nil {
			t.Fatal(err)
		}
		if msg, err := exec.Command(sbsign, "--key", key, "--cert", cert, "--output", out, in).CombinedOutput(); err != nil {
			t.Fatalf("sbsign: %v\n%s", err, msg)
		}
		signed, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		f := mustParse(t, signed)
		want := digest(t, image, crypto.SHA256)
		if !f.Signed() || !bytes.Contains(signed[f.Certificates.VirtualAddress:], want) {
			t.Errorf("%s: the signature does not hold the digest %x", name, want)
		}
		for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384} {
			if got, want := digest(t, signed, h), digest(t, image, h); !bytes.Equal(got, want) {
				t.Errorf("%s: %v of the signed image %x, of the unsigned %x", name, h, got, want)
			}
		}
		if again := writePlan(t, signed, newSections(2)); !bytes.Equal(again, writePlan(t, image, newSections(2))) {
			t.Errorf("%s: a signature of the stub leaves a trace", name)
		}
	}
}

// writeKey makes a throw-away key and certificate.
func writeKey(t *testing.T, dir string) (key, cert string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	key, cert = filepath.Join(dir, "key"), filepath.Join(dir, "cert")
	for path, block := range map[string]*pem.Block{
		key:  {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)},
		cert: {Type: "CERTIFICATE", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key, cert
}

// TestAuthenticodeRefuses shows images whose digest firmware would not agree on.
func TestAuthenticodeRefuses(t *testing.T) {
	inside := buildStub(stubSpec{trailer: 64})
	le.PutUint32(inside[atOptional+144:], uint32(len(inside)-64))
	le.PutUint32(inside[atOptional+148:], 32) // certificates end before the file does
	covered := buildStub(stubSpec{})
	le.PutUint32(covered[atOptional+144:], uint32(len(covered)-32))
	le.PutUint32(covered[atOptional+148:], 32) // certificates lie in the last section
	for name, b := range map[string][]byte{"data behind the certificates": inside, "certificates in a section": covered} {
		if _, err := pe.Authenticode(bytes.NewReader(b), int64(len(b)), crypto.SHA256); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := pe.Authenticode(bytes.NewReader(nil), 0, crypto.RIPEMD160); err == nil {
		t.Error("a hash that is not linked in: no error")
	}
}

// TestAuthenticodeCovers flips every byte of an image: only the checksum and
// the directory entry of the certificates may go unnoticed.
func TestAuthenticodeCovers(t *testing.T) {
	image := buildStub(stubSpec{sections: []string{".text"}})
	want := digest(t, image, crypto.SHA256)
	for i := range image {
		b := bytes.Clone(image)
		b[i] ^= 0x80
		got, err := pe.Authenticode(bytes.NewReader(b), int64(len(b)), crypto.SHA256)
		free := i >= atOptional+64 && i < atOptional+68 || i >= atOptional+144 && i < atOptional+152
		if same := err == nil && bytes.Equal(got, want); same && !free {
			t.Errorf("byte %#x is not covered", i)
		}
	}
	if sha256.Size != len(want) {
		t.Errorf("digest of %d bytes", len(want))
	}
}
