package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/testmark"
	"github.com/ingot-os/ingot/internal/trust"
)

// Options are what Init needs to know.
type Options struct {
	Name string    // of the fleet, in certificates; letters, digits, space, "-", "_", "."
	Test bool      // mark all keys TEST
	Now  time.Time // certificates are valid from the beginning of this day, UTC
	// Rand gives serial numbers. (Key generation takes the system's
	// randomness whatever it is given, since Go 1.26.)
	Rand io.Reader
	// URIs names keys that are elsewhere, pkcs11: or exec:. They are not made
	// but used; those that sign certificates are used at once.
	URIs map[Purpose]string
	// Algorithms are those of keys that are made, where a purpose has a choice.
	Algorithms map[Purpose]Algorithm
}

// Lifetimes of certificates in years. Firmware looks at no dates.
const (
	rootYears   = 25
	issuedYears = 10
)

func (o Options) validate() error {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" -_.", r)
	}
	switch {
	case o.Name == "" || len(o.Name) > 40 || strings.TrimSpace(o.Name) != o.Name || strings.ContainsFunc(o.Name, func(r rune) bool { return !ok(r) }):
		return fmt.Errorf("name %q: want 1 to 40 of letters, digits, space, dot, - and _", o.Name)
	case testmark.Name(o.Name):
		return fmt.Errorf("name %q: %s marks test keys", o.Name, testmark.Word)
	case o.Now.IsZero() || o.Rand == nil:
		return fmt.Errorf("no time or no randomness given")
	}
	for p := range o.URIs {
		if !slices.ContainsFunc(roles, func(r role) bool { return r.purpose == p }) {
			return fmt.Errorf("no key has the purpose %q", p)
		}
	}
	for p, a := range o.Algorithms {
		if !slices.ContainsFunc(roles, func(r role) bool { return r.purpose == p && slices.Contains(r.algorithms, a) }) {
			return fmt.Errorf("no %q key can be %q", p, a)
		}
	}
	return nil
}

// Init makes a key set in dir, which must not exist; its parent must. Nothing
// is left behind when it fails.
func Init(ctx context.Context, dir string, o Options) (*Set, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	m := maker{ctx: ctx, o: o, made: map[Purpose]authority{}}
	m.index = Index{Version: indexVersion, Name: o.Name, Test: o.Test, Created: o.Now.UTC().Truncate(time.Second)}
	for _, r := range roles {
		if err := m.add(r); err != nil {
			return nil, fmt.Errorf("make %s key: %w", r.purpose, err)
		}
	}
	m.index.Owner = trust.Owner(m.made[PK].cert)
	index, err := json.MarshalIndent(m.index, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	m.files = append(m.files, file{indexName, append(index, '\n'), 0o644}, file{".gitignore", []byte("*.key\n"), 0o644})
	if err := writeDir(dir, 0o700, m.files); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	return Open(dir)
}

// authority is a key with its certificate, nil for one without.
type authority struct {
	key  crypto.Signer
	cert *x509.Certificate
}

type maker struct {
	ctx   context.Context
	o     Options
	index Index
	made  map[Purpose]authority
	files []file
}

func (m *maker) add(r role) error {
	entry := Key{Purpose: r.purpose, URI: m.o.URIs[r.purpose]}
	key, err := m.key(r, &entry)
	if err != nil {
		return err
	}
	if entry.Algorithm, err = algorithmOf(key.Public()); err != nil {
		return fmt.Errorf("%w, want one of %v", err, r.algorithms)
	}
	if !slices.Contains(r.algorithms, entry.Algorithm) {
		return fmt.Errorf("%s, want one of %v", entry.Algorithm, r.algorithms)
	}
	if entry.Fingerprint, err = Fingerprint(key.Public()); err != nil {
		return err
	}
	made := authority{key: key}
	if r.name == "" {
		entry.Public = string(r.purpose) + ".pub"
		err = m.public(entry.Public, key.Public())
	} else {
		entry.Public = string(r.purpose) + ".crt"
		made.cert, err = m.certificate(entry.Public, r, key)
	}
	m.made[r.purpose] = made
	m.index.Keys = append(m.index.Keys, entry)
	return err
}

// key makes a private key, or reaches the one that is elsewhere.
func (m *maker) key(r role, entry *Key) (crypto.Signer, error) {
	if entry.URI != "" {
		return reach(m.ctx, entry.URI, nil)
	}
	algorithm := r.algorithms[0]
	if a, ok := m.o.Algorithms[r.purpose]; ok {
		algorithm = a
	}
	key, err := generate(m.o.Rand, algorithm)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	name := string(r.purpose) + ".key"
	entry.URI = fileScheme + name
	m.files = append(m.files, file{name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600})
	return key, nil
}

func generate(rand io.Reader, a Algorithm) (key crypto.Signer, err error) {
	switch a {
	case RSA2048:
		return rsa.GenerateKey(rand, 2048)
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand)
	}
	_, key, err = ed25519.GenerateKey(rand)
	return key, err
}

func (m *maker) public(name string, pub crypto.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err == nil {
		m.files = append(m.files, file{name, publicPEM(&pem.Block{Type: "PUBLIC KEY", Bytes: der}, m.o.Test), 0o644})
	}
	return err
}

func (m *maker) certificate(name string, r role, key crypto.Signer) (*x509.Certificate, error) {
	template, err := m.template(r)
	if err != nil {
		return nil, err
	}
	by := authority{key, template}
	if r.issuer != "" {
		by = m.made[r.issuer]
	}
	der, err := x509.CreateCertificate(m.o.Rand, template, by.cert, key.Public(), by.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	m.files = append(m.files, file{name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644})
	return x509.ParseCertificate(der)
}

// template is a certificate with no extension that firmware could stumble
// over: no extended usages on what it enrols, no name constraints anywhere.
func (m *maker) template(r role) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(m.o.Rand, serial); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always 16 bytes
	name := m.o.Name + " " + r.name
	if m.o.Test {
		name = testmark.Word + " " + name
	}
	from := m.o.Now.UTC().Truncate(24 * time.Hour)
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: from.AddDate(rootYears, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	switch r.purpose {
	case Fleet:
		t.MaxPathLen = 1
	case Boot: // it issues servers only; firmware must not stumble over a usage, so there is none
		t.MaxPathLenZero = true
	case Operator, Server, Hosts:
		t.NotAfter = from.AddDate(issuedYears, 0, 0)
		t.MaxPathLenZero = true
		t.ExtKeyUsage = []x509.ExtKeyUsage{map[Purpose]x509.ExtKeyUsage{Operator: x509.ExtKeyUsageClientAuth, Server: x509.ExtKeyUsageServerAuth, Hosts: x509.ExtKeyUsageClientAuth}[r.purpose]}
	}
	return t, nil
}
