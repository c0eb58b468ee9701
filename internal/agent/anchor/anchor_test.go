package anchor

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/testkey"
)

// authority and one certificate for localhost by it.
func certificates(days int) (ca testkey.Identity, leaf testkey.Identity) {
	ca = testkey.New("db", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	leaf = testkey.Certify(&x509.Certificate{SerialNumber: ca.Cert.SerialNumber, DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: ca.Cert.NotBefore, NotAfter: ca.Cert.NotBefore.AddDate(0, 0, days)}, testkey.Key("other"), &ca)
	return ca, leaf
}

func TestDial(t *testing.T) {
	ca, leaf := certificates(30)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c.(*tls.Conn).Handshake()
				c.Close()
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	other := testkey.New("other", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	valid, later := ca.Cert.NotBefore.AddDate(0, 0, 1), ca.Cert.NotBefore.AddDate(1, 0, 0)
	for _, tt := range []struct {
		name, base string
		roots      [][]byte
		at         time.Time
		want       string
	}{
		{"right", "https://localhost:" + port, [][]byte{other.Cert.Raw, ca.Cert.Raw}, valid, ""},
		{"dates do not count", "https://localhost:" + port, [][]byte{ca.Cert.Raw}, time.Time{}, ""},
		{"expired", "https://localhost:" + port, [][]byte{ca.Cert.Raw}, later, "expired"},
		{"another name", "https://127.0.0.1:" + port, [][]byte{ca.Cert.Raw}, valid, "127.0.0.1"},
		{"another authority", "https://localhost:" + port, [][]byte{other.Cert.Raw}, valid, "unknown authority"},
		{"no authority", "https://localhost:" + port, nil, valid, "names no server authority"},
	} {
		s, err := Parse(tt.base, tt.roots)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Dial(t.Context(), tls.Certificate{}, func(chain []*x509.Certificate) error { return s.Verify(chain, tt.at) })
		if err == nil {
			c.Close()
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, base := range []string{"http://localhost", "localhost", "https://", "\x00"} {
		if _, err := Parse(base, nil); err == nil {
			t.Errorf("%q is taken", base)
		}
	}
	if _, err := Parse("https://localhost", [][]byte{{1}}); err == nil {
		t.Error("a root that is none")
	}
}
