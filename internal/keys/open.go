package keys

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/jsondoc"
	"github.com/ingot-os/ingot/internal/pemfile"
	"github.com/ingot-os/ingot/internal/testmark"
)

// Set is a key set that was opened. Private keys are not read until Signer.
type Set struct {
	Index
	dir string
	pub map[Purpose]crypto.PublicKey
	crt map[Purpose]*x509.Certificate
}

const (
	indexName  = "keys.json"
	fileScheme = "file:"
)

// fileLimit bounds what is read of any file of a set.
const fileLimit = 1 << 20

// testEnvironments are those that TEST keys may sign for.
var testEnvironments = []string{"dev", "test"}

// Open reads a key set and checks that index, certificates and public keys
// agree. It reads no private key.
func Open(dir string) (*Set, error) {
	s := &Set{dir: dir, pub: map[Purpose]crypto.PublicKey{}, crt: map[Purpose]*x509.Certificate{}}
	b, err := readFile(filepath.Join(dir, indexName))
	if err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	if err := jsondoc.Unmarshal(b, &s.Index); err != nil {
		return nil, fmt.Errorf("open keys: %s: %w", indexName, err)
	}
	if s.Version != indexVersion {
		return nil, fmt.Errorf("open keys: %s: version %d, want %d", indexName, s.Version, indexVersion)
	}
	for _, k := range s.Keys {
		if err := s.load(k); err != nil {
			return nil, fmt.Errorf("open keys: %s key: %w", k.Purpose, err)
		}
	}
	return s, nil
}

// load reads the public part of a key.
func (s *Set) load(k Key) error {
	if s.pub[k.Purpose] != nil {
		return errors.New("is in the index twice")
	}
	if !filepath.IsLocal(k.Public) {
		return fmt.Errorf("public part %q is not in the folder", k.Public)
	}
	path := filepath.Join(s.dir, k.Public)
	b, err := readFile(path)
	if err != nil {
		return &FileError{path, k.Purpose, err}
	}
	pub, cert, err := parsePublic(b)
	if err != nil {
		return fmt.Errorf("read %s: %w", k.Public, err)
	}
	print, err := Fingerprint(pub)
	if err != nil {
		return err
	}
	if print != k.Fingerprint {
		return fmt.Errorf("%s has fingerprint %s, the index %s", k.Public, print, k.Fingerprint)
	}
	if a, err := algorithmOf(pub); err != nil || a != k.Algorithm {
		return fmt.Errorf("%s is %s, the index says %s", k.Public, a, k.Algorithm)
	}
	if cert != nil && testmark.Certificate(cert) != s.Test {
		return fmt.Errorf("%s is of %q, but the index says test: %v", k.Public, cert.Subject.CommonName, s.Test)
	}
	if cert == nil && !s.Test && testmark.Any(b) {
		return fmt.Errorf("%s says that it is a TEST key, but the index says test: false", k.Public)
	}
	s.pub[k.Purpose], s.crt[k.Purpose] = pub, cert
	return nil
}

// parsePublic reads a certificate or a public key, PEM or DER.
func parsePublic(b []byte) (crypto.PublicKey, *x509.Certificate, error) {
	kind := "PUBLIC KEY"
	block, err := pemfile.One(b)
	if err != nil {
		return nil, nil, err
	}
	if block != nil {
		kind, b = block.Type, block.Bytes
	} else if _, err := x509.ParseCertificate(b); err == nil {
		kind = "CERTIFICATE"
	}
	switch kind {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, nil, err
		}
		return cert.PublicKey, cert, nil
	case "PUBLIC KEY":
		pub, err := x509.ParsePKIXPublicKey(b)
		return pub, nil, err
	}
	return nil, nil, fmt.Errorf("holds a %s", kind)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(f *os.File) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, fileLimit+1))
	if err == nil && len(b) > fileLimit {
		err = fmt.Errorf("read %s: more than %d bytes", f.Name(), fileLimit)
	}
	return b, err
}

// Key returns the index entry of a purpose.
func (s *Set) Key(p Purpose) (Key, error) {
	i := slices.IndexFunc(s.Keys, func(k Key) bool { return k.Purpose == p })
	if i < 0 {
		return Key{}, fmt.Errorf("find %s key: not in the key set %s", p, s.dir)
	}
	return s.Keys[i], nil
}

// Public returns the public key of a purpose, nil if the set has none.
func (s *Set) Public(p Purpose) crypto.PublicKey { return s.pub[p] }

// Certificate returns the certificate of a purpose, nil if it has none.
func (s *Set) Certificate(p Purpose) *x509.Certificate { return s.crt[p] }

// Signer reaches a private key to sign for an environment. A TEST key signs
// for dev and test only; otherwise the error wraps ErrTestKey. The context
// bounds the programs that it runs, then and at each signature. RSA signs by
// PKCS #1 v1.5.
func (s *Set) Signer(ctx context.Context, p Purpose, environment string) (crypto.Signer, error) {
	if !s.Allows(environment) {
		return nil, fmt.Errorf("use %s key for environment %q: it %w", p, environment, ErrTestKey)
	}
	return s.signer(ctx, p)
}

// TestMaySign tells whether TEST keys count for an environment.
func TestMaySign(environment string) bool { return slices.Contains(testEnvironments, environment) }

// Allows tells whether the set may sign for an environment: TEST keys may for
// dev and test only.
func (s *Set) Allows(environment string) bool {
	return !s.Test || TestMaySign(environment)
}

// Reach returns the signer of a private key outside of any set, by a URI as in
// the package comment; a file: path is relative to the working directory. A key
// that is not of pub is refused, at once or when it signs.
func Reach(ctx context.Context, uri string, pub crypto.PublicKey) (crypto.Signer, error) {
	name, ok := strings.CutPrefix(uri, fileScheme)
	if !ok {
		return reach(ctx, uri, pub)
	}
	key, err := readPrivate(name)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", uri, err)
	}
	if own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(pub) {
		return nil, fmt.Errorf("key %s: it is not the private key of the given public key", uri)
	}
	return key, nil
}

// ReadPublic reads a file with a certificate or a public key, PEM or DER. The
// certificate is nil for a bare key.
func ReadPublic(path string) (crypto.PublicKey, *x509.Certificate, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	pub, cert, err := parsePublic(b)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return pub, cert, nil
}

// IsTest tells whether a certificate is of a TEST key.
func IsTest(cert *x509.Certificate) bool { return testmark.Certificate(cert) }

func (s *Set) signer(ctx context.Context, p Purpose) (crypto.Signer, error) {
	k, err := s.Key(p)
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	if name, ok := strings.CutPrefix(k.URI, fileScheme); ok {
		key, err = readPrivate(s.resolve(name))
	} else {
		key, err = reach(ctx, k.URI, s.pub[p])
	}
	if file := (*FileError)(nil); errors.As(err, &file) {
		file.Purpose = p
	}
	if err != nil {
		return nil, fmt.Errorf("use %s key: %w", p, err)
	}
	if print, err := Fingerprint(key.Public()); err != nil || print != k.Fingerprint {
		return nil, fmt.Errorf("use %s key: %s is another key than the index names", p, k.URI)
	}
	return key, nil
}

func (s *Set) resolve(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

// readPrivate reads a PKCS #8 file that nobody else can read.
func readPrivate(path string) (crypto.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	defer f.Close()
	info, err := f.Stat() // of what is read: the name may be given to another file meanwhile
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, &FileError{Path: path, Err: fmt.Errorf("read %s: mode %04o %w; want 0600", path, mode, errOpen)}
	}
	b, err := readAll(f)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("read %s: not a PKCS #8 key in PEM (-----BEGIN PRIVATE KEY-----)", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read %s: a %T cannot sign", path, key)
	}
	return signer, nil
}
