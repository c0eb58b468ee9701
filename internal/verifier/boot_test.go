package verifier

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/attestapi"
)

// TestBootCertificate: RSA with key exchange, an address, and valid for clocks
// that are as slow as the authority is old; beside the server's own.
func TestBootCertificate(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	by := authority(t, "boot", nil, 0)
	c, err := BootCertificate(dir, *by, []string{"192.0.2.1", "boot.example"}, now)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := c.Leaf.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != 2048 || c.Leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment ||
		len(c.Leaf.IPAddresses) != 1 || !c.Leaf.NotBefore.Equal(by.Certificate.NotBefore) || !slices.Equal(c.Leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("%+v", c.Leaf)
	}
	again, err := BootCertificate(dir, *by, []string{"192.0.2.1"}, now)
	if err != nil || !bytes.Equal(again.Leaf.Raw, c.Leaf.Raw) {
		t.Errorf("not kept: %v", err)
	}
	server, err := ServerCertificate(dir, *by, []string{"192.0.2.1"}, now)
	if err != nil || bytes.Equal(attestapi.KeyID(server.Leaf.RawSubjectPublicKeyInfo), attestapi.KeyID(c.Leaf.RawSubjectPublicKeyInfo)) {
		t.Errorf("the server's key is that of the boot listener: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "boot.key")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestNoOldSuites: what the boot listener has to take is not taken here, even
// with a certificate that would do for it.
func TestNoOldSuites(t *testing.T) {
	s := serve(t, func(o *Options) {
		var err error
		if o.Certificate, err = BootCertificate(t.TempDir(), *authority(t, "boot", nil, 0), []string{"127.0.0.1"}, time.Now()); err != nil {
			t.Fatal(err)
		}
	})
	for _, suites := range [][]uint16{
		{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA},
		{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	} {
		conn, err := tls.Dial("tcp", s.address, &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: suites, InsecureSkipVerify: true})
		if err == nil {
			t.Errorf("took %s", tls.CipherSuiteName(conn.ConnectionState().CipherSuite))
			conn.Close()
		}
	}
	conn, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("TLS 1.3: %v", err)
	}
	conn.Close()
}
