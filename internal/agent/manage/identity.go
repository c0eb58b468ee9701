package manage

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// selfSigned makes the key of this boot. The dates of its certificate mean
// nothing: this machine may not know the time.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make management key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ingot machine"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make management certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// identity is what the machine shows now.
func (s *server) identity() tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m.Certificate == nil {
		return s.own
	}
	cert, key := s.m.Certificate()
	if len(cert) == 0 || len(key) == 0 {
		return s.own
	}
	if given := append(bytes.Clone(cert), key...); !bytes.Equal(given, s.given) {
		c, err := tls.X509KeyPair(cert, key)
		if err != nil {
			s.m.Logf("management: the certificate of the attestation server cannot be used: %v", err)
		}
		s.given, s.current = given, c
	}
	if s.current.Leaf == nil || s.m.Now().After(s.current.Leaf.NotAfter) {
		return s.own // the server is silent or has put this machine out
	}
	return s.current
}

// Key names a key of a machine: the SHA-256 of its SubjectPublicKeyInfo, in hex.
func Key(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// tellKey tells the console and the status which key the machine shows, when it
// has become another one.
func (s *server) tellKey() {
	if s.operator == nil {
		return
	}
	c := s.identity()
	key := Key(c.Leaf)
	s.mu.Lock()
	defer s.mu.Unlock()
	if key == s.key {
		return
	}
	s.key = key
	s.m.Logf("management: operators are answered with the key %s", key)
	if s.m.Shows != nil {
		s.m.Shows(key)
	}
}

// config wants a client certificate in every connection; none is taken up again
// without (tickets), because its dates count each time.
func (s *server) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
		ClientAuth: tls.RequireAnyClientCert, // VerifyConnection checks it
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := s.identity()
			return &c, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error { return s.verify(cs.PeerCertificates) },
	}
}

// verify wants the client's certificate to be issued by the operator authority
// itself, for clients, and to be valid now. A machine whose clock is behind
// takes the certificate's beginning for now: what it cannot know must not lock
// out the one who comes to mend it.
func (s *server) verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("no certificate is shown")
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: s.m.Now()}
	o.Roots.AddCert(s.operator)
	for _, c := range []*x509.Certificate{chain[0], s.operator} {
		if c.NotBefore.After(o.CurrentTime) {
			o.CurrentTime = c.NotBefore
		}
	}
	if chain[0].IsCA {
		return errors.New("the certificate is of an authority, not of an operator")
	}
	if _, err := chain[0].Verify(o); err != nil {
		return fmt.Errorf("the certificate %.60q: %w", chain[0].Subject.CommonName, err)
	}
	return nil
}
