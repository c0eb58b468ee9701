package httpboot

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// suites of TLS 1.2 that the boot listener takes. The first have forward secrecy.
// The others are RSA key exchange: the client sends the key of the connection
// encrypted for that of the certificate, so who gets hold of that later reads
// what was recorded. EDK2 as Debian 12 has it (2022.11) offers these and DHE_RSA,
// which crypto/tls does not have. Without a list crypto/tls takes none of them;
// with one it does, whatever GODEBUG tlsrsakex says.
var suites = []uint16{
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
	tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_RSA_WITH_AES_256_CBC_SHA,
}

var errNoCertificate = errors.New("the boot listener has no certificate")

// TLSConfig is that of a boot listener, and of nothing else: TLS 1.2 and 1.3, and
// of 1.2 the suites that firmware has. The certificate is asked for at each
// handshake.
func TLSConfig(certificate func() *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		CipherSuites: suites,
		NextProtos:   []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := certificate(); c != nil {
				return c, nil
			}
			return nil, errNoCertificate
		},
	}
}

// Doubts says why firmware may not take a certificate: for a warning at the
// start. There are none about one that Debian 12's OVMF takes.
func Doubts(c *x509.Certificate, now time.Time) []string {
	var out []string
	if key, ok := c.PublicKey.(*rsa.PublicKey); !ok {
		out = append(out, fmt.Sprintf("its key is %s: firmware of EDK2 2022.11 (Debian 12) and earlier takes RSA only", c.PublicKeyAlgorithm))
	} else if n := key.N.BitLen(); n < 2048 || n > 4096 {
		out = append(out, fmt.Sprintf("its RSA key has %d bits: firmware takes 2048 to 4096", n))
	}
	if !slices.ContainsFunc(c.IPAddresses, usable) {
		out = append(out, "it names no address by which a machine could reach it: firmware that is sent to https://ADDRESS/ compares that")
	}
	if _, ok := c.PublicKey.(*rsa.PublicKey); ok && c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
		out = append(out, "its key usage lacks keyEncipherment, which RSA key exchange is")
	}
	if len(c.ExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		out = append(out, "it is not for servers (extended key usage serverAuth)")
	}
	switch {
	case now.Before(c.NotBefore):
		out = append(out, "it is not valid before "+c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		out = append(out, "it is not valid since "+c.NotAfter.UTC().Format(time.RFC3339))
	}
	return out
}

// usable reports whether another machine can have reached us by an address.
func usable(ip net.IP) bool { return !ip.IsLoopback() && !ip.IsUnspecified() }
