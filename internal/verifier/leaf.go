package verifier

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ingot-os/ingot/internal/regular"
)

// Lifetimes of certificates that are made here.
const (
	serverLifetime   = 365 * 24 * time.Hour
	serverRenewal    = 30 * 24 * time.Hour // before the end
	operatorLifetime = 10 * time.Minute
)

// ServerCertificate gives the server's certificate by an authority. Key and
// certificate are in dir, as server.key and server.crt: the key stays, because
// machines bind evidence to it; the certificate is made again when it is not
// for these names (DNS names and addresses), not by this authority, or ends
// within 30 days.
func ServerCertificate(dir string, by Authority, names []string, now time.Time) (tls.Certificate, error) {
	c, err := leaf{dir, "server", generateP256, x509.KeyUsageDigitalSignature, now.Add(-backdated)}.by(by, names, now)
	if err != nil {
		err = fmt.Errorf("make server certificate: %w", err)
	}
	return c, err
}

// BootCertificate is ServerCertificate for the listener of HTTPS Boot: boot.key
// and boot.crt in dir. Its key is RSA-2048 and does key exchange, as firmware of
// EDK2 2022.11 wants it, so it is for nothing else; the certificate begins with
// its authority's, because clocks of firmware may be slow by years.
func BootCertificate(dir string, by Authority, names []string, now time.Time) (tls.Certificate, error) {
	c, err := leaf{dir, "boot", generateRSA, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, by.Certificate.NotBefore}.by(by, names, now)
	if err != nil {
		err = fmt.Errorf("make boot certificate: %w", err)
	}
	return c, err
}

// leaf is a key that stays in a directory, and a certificate for it.
type leaf struct {
	dir, name string
	generate  func() (crypto.Signer, error)
	usage     x509.KeyUsage
	from      time.Time
}

func (l leaf) by(by Authority, names []string, now time.Time) (tls.Certificate, error) {
	key, err := l.key(filepath.Join(l.dir, l.name+".key"))
	if err != nil {
		return tls.Certificate{}, err
	}
	c := tls.Certificate{PrivateKey: key}
	path := filepath.Join(l.dir, l.name+".crt")
	if c.Leaf = kept(path, key, by, names, now); c.Leaf == nil {
		t := serverTemplate(names)
		t.KeyUsage, t.NotBefore = l.usage, l.from
		if c.Leaf, err = issue(by, key.Public(), t, now, serverLifetime); err == nil {
			err = replace(path, &pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw}, 0o644)
		}
		if err != nil {
			return tls.Certificate{}, err
		}
	}
	c.Certificate = [][]byte{c.Leaf.Raw, by.Certificate.Raw}
	return c, nil
}

func serverTemplate(names []string) *x509.Certificate {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "ingot server"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return t
}

func (l leaf) key(path string) (crypto.Signer, error) {
	b, err := regular.Read(path, 1<<16)
	if errors.Is(err, fs.ErrNotExist) {
		return newKey(path, l.generate)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: not a PKCS #8 key in PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a %T cannot sign", path, key)
	}
	return signer, nil
}

func generateP256() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func generateRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }

func newKey(path string, generate func() (crypto.Signer, error)) (crypto.Signer, error) {
	key, err := generate()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, replace(path, &pem.Block{Type: "PRIVATE KEY", Bytes: der}, 0o600)
}

// replace writes a file that is complete or as it was.
func replace(path string, block *pem.Block, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = pem.Encode(f, block); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// kept is the certificate in the file, nil when it will not do.
func kept(path string, key crypto.Signer, by Authority, names []string, now time.Time) *x509.Certificate {
	b, err := regular.Read(path, 1<<16)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || c.CheckSignatureFrom(by.Certificate) != nil || now.Before(c.NotBefore) || c.NotAfter.Sub(now) < serverRenewal {
		return nil
	}
	own, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(key.Public()) {
		return nil
	}
	have := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		have = append(have, ip.String())
	}
	for _, n := range names {
		if !slices.Contains(have, n) {
			return nil
		}
	}
	return c
}

// OperatorCertificate makes a client certificate of some minutes for an operator.
func OperatorCertificate(by Authority, name string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make operator certificate: %w", err)
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{{Scheme: "ingot", Opaque: "operator/" + url.PathEscape(name)}}}
	leaf, err := issue(by, key.Public(), t, now, operatorLifetime)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make operator certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, by.Certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// backdated is how long before its making a certificate begins: clocks differ.
const backdated = time.Minute

// issue signs what a template says for a key.
func issue(by Authority, key crypto.PublicKey, t *x509.Certificate, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	serial := random()[:16]
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always 16 bytes
	t.SerialNumber = new(big.Int).SetBytes(serial)
	if t.NotAfter = now.Add(lifetime); t.NotBefore.IsZero() {
		t.NotBefore = now.Add(-backdated)
	}
	if t.BasicConstraintsValid = true; t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by.Certificate, key, by.Key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
