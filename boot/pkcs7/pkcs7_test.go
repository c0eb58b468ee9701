package pkcs7_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-os/ingot/boot/pkcs7"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/testkey"
)

type identity struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

var people = sync.OnceValue(func() [2]identity {
	var out [2]identity
	for i, name := range []string{"one", "two"} {
		x := testkey.New([]string{"db", "other"}[i], func(c *x509.Certificate) { c.SerialNumber, c.Subject.CommonName = big.NewInt(200), name })
		out[i] = identity{x.Key.(*rsa.PrivateKey), x.Cert}
	}
	return out
})

// message signs content; with attributes unless it is detached.
func message(t testing.TB, content []byte, detached bool) []byte {
	t.Helper()
	who := people()[0]
	m := pkcs7.Message{ContentType: pkcs7.Data, Certificate: who.cert, Bare: detached}
	signed := content
	if !detached {
		digest := sha256.Sum256(content)
		m.Content = append([]byte{4, byte(len(content))}, content...) // an OCTET STRING
		m.Attributes = pkcs7.Attributes(pkcs7.Data, digest[:])
		signed = m.Attributes
	}
	var err error
	if m.Signature, err = pkcs7.SignMessage(who.key, who.cert, signed); err != nil {
		t.Fatal(err)
	}
	der, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRoundTrip(t *testing.T) {
	content := []byte("what is signed")
	for _, detached := range []bool{false, true} {
		der := message(t, content, detached)
		if !bytes.Equal(der, message(t, content, detached)) {
			t.Error("signed twice, different bytes")
		}
		s, err := pkcs7.Parse(append(der, "behind"...))
		if err != nil {
			t.Fatal(err)
		}
		if s.Size != len(der) || (s.Content == nil) != detached {
			t.Errorf("size %d of %d, content %q", s.Size, len(der), s.Content)
		}
		cert, err := s.Verify(0, content)
		if err != nil || !cert.Equal(people()[0].cert) {
			t.Errorf("detached %v: %v", detached, err)
		}
		if !detached {
			continue
		}
		if _, err := s.Verify(0, []byte("something else")); !errors.Is(err, pkcs7.ErrSignature) {
			t.Errorf("other content: %v", err)
		}
	}
}

// TestAttributesOfAnotherType: a signature over one type of content is none
// over another that happens to have the same bytes.
func TestAttributesOfAnotherType(t *testing.T) {
	who, digest := people()[0], sha256.Sum256([]byte("x"))
	m := pkcs7.Message{ContentType: asn1.ObjectIdentifier{1, 2, 3}, Content: []byte{0x30, 1, 'x'}, Certificate: who.cert, Attributes: pkcs7.Attributes(pkcs7.Data, digest[:])}
	var err error
	if m.Signature, err = pkcs7.SignMessage(who.key, who.cert, m.Attributes); err != nil {
		t.Fatal(err)
	}
	der, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, nil); !errors.Is(err, pkcs7.ErrSignature) {
		t.Errorf("%v, want ErrSignature", err)
	}
}

// TestOpenssl: openssl verifies ours, and we verify openssl's.
func TestOpenssl(t *testing.T) {
	openssl := oracle.Need(t, "openssl", "openssl")
	dir, content := t.TempDir(), []byte("what is signed")
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, b := range map[string][]byte{
		"ours": message(t, content, false), "key": x509.MarshalPKCS1PrivateKey(people()[0].key), "cert": people()[0].cert.Raw, "content": content,
	} {
		if err := os.WriteFile(path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		out, err := exec.Command(openssl, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("x509", "-inform", "DER", "-in", path("cert"), "-out", path("cert.pem"))
	run("rsa", "-inform", "DER", "-in", path("key"), "-out", path("key.pem"))
	if out := run("smime", "-verify", "-inform", "DER", "-in", path("ours"), "-CAfile", path("cert.pem"), "-purpose", "any"); !strings.Contains(out, string(content)) {
		t.Errorf("openssl says %q", out)
	}
	for _, args := range [][]string{{"-nodetach"}, {}, {"-noattr"}} {
		run(append([]string{"smime", "-sign", "-binary", "-md", "sha256", "-in", path("content"), "-signer", path("cert.pem"), "-inkey", path("key.pem"), "-outform", "DER", "-out", path("theirs")}, args...)...)
		der, err := os.ReadFile(path("theirs"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := pkcs7.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Verify(0, content); err != nil {
			t.Errorf("openssl %q: %v", args, err)
		}
	}
}

// TestEveryByteCounts: a changed byte is refused, or the signer is another.
func TestEveryByteCounts(t *testing.T) {
	der := message(t, []byte("what is signed"), false)
	for i := range der {
		for bit := byte(1); bit != 0; bit <<= 1 {
			b := bytes.Clone(der)
			b[i] ^= bit
			s, err := pkcs7.Parse(b)
			if err != nil {
				var fe *pkcs7.FormatError
				if !errors.As(err, &fe) || fe.Off < 0 || fe.Off > int64(len(b)) || fe.Field == "" {
					t.Fatalf("byte %#x: %v is no error about a place", i, err)
				}
				continue
			}
			if cert, err := s.Verify(0, nil); err == nil && cert.Equal(people()[0].cert) {
				t.Errorf("byte %#x ^ %#x is accepted", i, bit)
			}
		}
	}
}

// TestFormatErrorSaysWhere changes the version of the SignerInfo.
func TestFormatErrorSaysWhere(t *testing.T) {
	der := message(t, []byte("what is signed"), false)
	raw := append(people()[0].cert.RawIssuer, 2, 2, 0, 200)
	at := bytes.LastIndex(der, raw) - 3
	der[at] = 7
	var fe *pkcs7.FormatError
	if _, err := pkcs7.Parse(der); !errors.As(err, &fe) || fe.Field != "SignerInfo.version" || fe.Off < int64(at)-4 || fe.Off > int64(at)+1 {
		t.Errorf("%v, want SignerInfo.version near %#x", err, at)
	}
}

func TestNoCertificate(t *testing.T) {
	who := people()[0]
	sig, err := pkcs7.SignMessage(who.key, who.cert, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	stranger := *people()[1].cert
	stranger.RawIssuer = who.cert.RawIssuer
	der, err := pkcs7.Message{ContentType: pkcs7.Data, Certificate: &stranger, Signature: sig}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, []byte("content")); !errors.Is(err, pkcs7.ErrNoCertificate) {
		t.Errorf("%v, want ErrNoCertificate", err)
	}
}

func TestParseRefusesTooMuch(t *testing.T) {
	if _, err := pkcs7.Parse(make([]byte, 1<<20+1)); err == nil {
		t.Error("more than 1 MiB: no error")
	}
	for n := range 60 {
		if _, err := pkcs7.Parse(message(t, []byte("x"), n%2 == 0)[:n]); err == nil {
			t.Errorf("the first %d bytes: no error", n)
		}
	}
}

// FuzzParse: hostile input ends in an error or in values that can be used.
func FuzzParse(f *testing.F) {
	f.Add(message(f, []byte("what is signed"), false))
	f.Add(message(f, []byte("what is signed"), true))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := pkcs7.Parse(b)
		if err != nil {
			return
		}
		if s.Size > len(b) || len(s.Certificates) > 16 || len(s.Signers) > 8 {
			t.Errorf("%d bytes of %d, %d certificates, %d signers", s.Size, len(b), len(s.Certificates), len(s.Signers))
		}
		for i := range s.Signers {
			s.Verify(i, b)
		}
	})
}
