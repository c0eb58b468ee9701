package httpboot

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// certificate signs itself and is its own authority, for 127.0.0.1.
func certificate(t testing.TB, key crypto.Signer, edit func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "boot"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 1)}}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// secure is a server of HTTPS, with its authority in a file.
func secure(t testing.TB, s *shelf) (addr, ca string, d *diary) {
	t.Helper()
	c := certificate(t, rsaKey(t), nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	d = &diary{}
	go func() {
		ended <- (&Server{Source: s, Watcher: d}).ServeTLS(ctx, l, func() *tls.Certificate { return c })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), ca, d
}

// TestSuites: OpenSSL, which EDK2's TLS is, gets each suite that its firmware
// offers, and none that is broken.
func TestSuites(t *testing.T) {
	openssl := oracle.Need(t, "openssl", "openssl")
	addr, ca, _ := secure(t, newShelf(t))
	for suite, want := range map[string]bool{
		"AES128-GCM-SHA256": true, "AES256-GCM-SHA384": true, "AES128-SHA256": true, "AES128-SHA": true, "AES256-SHA": true,
		"ECDHE-RSA-AES128-GCM-SHA256": true, "ECDHE-RSA-AES256-GCM-SHA384": true,
		"NULL-SHA256": false, "ADH-AES128-SHA256": false,
	} {
		cmd := exec.Command(openssl, "s_client", "-connect", addr, "-CAfile", ca, "-verify_return_error", "-tls1_2", "-cipher", suite+":@SECLEVEL=0")
		out, err := cmd.CombinedOutput()
		if got := err == nil && strings.Contains(string(out), "Cipher is "+suite); got != want {
			t.Errorf("%s: %v, want %v: %v\n%s", suite, got, want, err, out)
		}
	}
	if out, err := exec.Command(openssl, "s_client", "-connect", addr, "-CAfile", ca, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0").CombinedOutput(); err == nil && strings.Contains(string(out), "Cipher is AES") {
		t.Errorf("TLS 1.1: %s", out)
	}
}

// TestCurl: HTTPS with the authority, a download that is taken up again, and none
// without the authority, of which the watcher is told why.
func TestCurl(t *testing.T) {
	curl := oracle.Need(t, "curl", "curl")
	s := newShelf(t)
	want := s.put(uki, body(3<<20))
	addr, ca, d := secure(t, s)
	out := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(out, want[:1<<20], 0o644); err != nil {
		t.Fatal(err)
	}
	url := "https://" + addr + "/" + uki
	oracle.Run(t, curl, "-sSf", "--cacert", ca, "-C", "-", "-o", out, url)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if head := oracle.Run(t, curl, "-sSfI", "--cacert", ca, "--tlsv1.2", "--tls-max", "1.2", "--ciphers", "AES128-SHA:@SECLEVEL=0", url); !strings.Contains(string(head), "Content-Length: 3145728") {
		t.Errorf("%s", head)
	}
	d.stages()
	if b, err := exec.Command(curl, "-sS", "--tls-max", "1.2", url).CombinedOutput(); err == nil {
		t.Errorf("without the authority: %s", b)
	}
	for {
		d.mu.Lock()
		n := len(d.events)
		d.mu.Unlock()
		if n > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if e := d.events[0]; e.Stage != netboot.Refused || !strings.Contains(e.Detail, "unknown certificate authority") || !e.Addr.IsValid() || e.Method != netboot.HTTPS {
		t.Errorf("%+v", e)
	}
}

// TestDoubts: certificates that firmware may not take, and one that it takes.
func TestDoubts(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := rsaKey(t)
	for want, c := range map[string]*tls.Certificate{
		"":                       certificate(t, key, nil),
		"takes RSA only":         certificate(t, ec, nil),
		"names no address":       certificate(t, key, func(c *x509.Certificate) { c.IPAddresses = c.IPAddresses[:1] }),
		"lacks keyEncipherment":  certificate(t, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }),
		"is not for servers":     certificate(t, key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
		"is not valid since 20":  certificate(t, key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"is not valid before 20": certificate(t, key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }),
	} {
		got := strings.Join(Doubts(c.Leaf, time.Now()), "; ")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
