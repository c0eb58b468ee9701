// Package signing puts keys and image sets together: inline, when the keys are
// at hand while building, and split, when they are on another machine.
//
// An Authority signs with the keys of a set or with a single key. It looks at
// certificates when it is made, and reaches a private key when the first
// signature is wanted, so nothing that needs no signature reads one. The same
// key and content give the same bytes: RSA PKCS #1 v1.5, Ed25519, and ECDSA by
// RFC 6979 with a key in a file. Tokens choose their own ECDSA nonces; so only
// the envelope of the manifest differs there, which nothing else names.
//
// Split signing takes two rounds, because the manifest names the boot files as
// signed. Each is a request, an answer and an attachment:
//
//	req, err := signing.NewRequest(set, false)            // the builder: digests only
//	resp, err := authority.Answer(req)                    // where the keys are
//	err = signing.Attach(set, []*signing.Response{resp}, now) // anywhere; no secret needed
package signing

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/pkcs7"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/keys"
)

// Options say for what and when an Authority signs.
type Options struct {
	Environment string    // that the set is for: TEST keys sign for dev and test only
	Now         time.Time // certificates that are not valid then are refused
}

// Authority signs boot files and manifests. It implements imageset.Authority.
type Authority struct {
	boot, image, policy *key // nil: cannot
}

// key is a key that has not been reached yet.
type key struct {
	print string // fingerprint
	cert  *x509.Certificate
	open  func() (crypto.Signer, error)
}

// ErrDates is wrapped by the error about a certificate that is not valid now.
// Firmware looks at no dates, people do.
var ErrDates = errors.New("certificate is out of its dates")

// New makes the authority of a key set: its db key signs boot files, its image
// key the manifest, its policy key which boots may open data keys. It reads no private key.
func New(ctx context.Context, set *keys.Set, o Options) (*Authority, error) {
	if !set.Allows(o.Environment) {
		return nil, fmt.Errorf("sign for environment %q: each key of the set %q %w", o.Environment, set.Name, keys.ErrTestKey)
	}
	a := new(Authority)
	for p, to := range map[keys.Purpose]**key{keys.DB: &a.boot, keys.Image: &a.image, keys.Policy: &a.policy} {
		k, err := set.Key(p)
		if err != nil && p == keys.Policy {
			continue // few sets want its signatures
		}
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		*to = &key{k.Fingerprint, set.Certificate(p), sync.OnceValues(func() (crypto.Signer, error) {
			return set.Signer(ctx, p, o.Environment)
		})}
	}
	if a.boot.cert == nil {
		return nil, errors.New("sign: the db key of the set has no certificate")
	}
	return a, checkBoot(a.boot.cert, o.Now)
}

// Single makes an authority of one private key by its URI (package keys). With
// a certificate of an RSA key it signs boot files; it signs manifests with any,
// and policies when it is the policy key of the image.
func Single(ctx context.Context, uri string, pub crypto.PublicKey, cert *x509.Certificate, o Options) (*Authority, error) {
	print, err := dsse.KeyID(pub)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	k := &key{print, cert, sync.OnceValues(func() (crypto.Signer, error) { return keys.Reach(ctx, uri, pub) })}
	a := &Authority{image: k}
	if _, ok := pub.(*rsa.PublicKey); ok {
		a.policy = k // when it is the one that the image trusts
	}
	if cert == nil {
		return a, nil
	}
	if test := (&keys.Set{Index: keys.Index{Test: keys.IsTest(cert)}}); !test.Allows(o.Environment) {
		return nil, fmt.Errorf("sign for environment %q: the key of %q %w", o.Environment, cert.Subject.CommonName, keys.ErrTestKey)
	}
	if _, ok := pub.(*rsa.PublicKey); ok {
		a.boot = k
	}
	return a, checkDates(cert, o.Now)
}

// checkBoot refuses a certificate that no boot file should be signed with.
func checkBoot(cert *x509.Certificate, now time.Time) error {
	if err := pkcs7.CheckKey(cert.PublicKey); err != nil {
		return fmt.Errorf("sign boot files with %q: %w", cert.Subject.CommonName, err)
	}
	return checkDates(cert, now)
}

func checkDates(cert *x509.Certificate, now time.Time) error {
	const day = "2006-01-02"
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("sign with %q: %w: it expired on %s", cert.Subject.CommonName, ErrDates, cert.NotAfter.Format(day))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("sign with %q: %w: it is valid from %s on, and today is %s", cert.Subject.CommonName, ErrDates, cert.NotBefore.Format(day), now.Format(day))
	}
	return nil
}

// Identity names the keys that sign, so that a set signed by others is not
// taken for one signed by these.
func (a *Authority) Identity() string {
	return "db:" + a.boot.id() + " image:" + a.image.id() + " policy:" + a.policy.id()
}

func (k *key) id() string {
	if k == nil {
		return "none"
	}
	return k.print
}

// Boot implements imageset.Authority: an Authenticode signature.
func (a *Authority) Boot(_ string, req authenticode.Request) ([]byte, error) {
	sig, err := a.signBoot(req.Digest)
	if err != nil {
		return nil, err
	}
	return authenticode.Assemble(req.Digest, a.boot.cert, sig)
}

// signBoot makes the raw signature of a boot file.
func (a *Authority) signBoot(d authenticode.Digest) ([]byte, error) {
	switch {
	case a.boot != nil:
	case a.image.cert == nil:
		return nil, errors.New("boot files need a certificate of the key, and none was given")
	default:
		return nil, fmt.Errorf("certificate %q: %w", a.image.cert.Subject.CommonName, pkcs7.CheckKey(a.image.cert.PublicKey))
	}
	signer, err := a.boot.open()
	if err != nil {
		return nil, err
	}
	return pkcs7.SignMessage(signer, a.boot.cert, authenticode.SignedAttributes(d))
}

// Manifest implements imageset.Authority: a DSSE envelope with one signature.
func (a *Authority) Manifest(payload []byte) ([]byte, error) {
	signer, err := a.image.open()
	if err != nil {
		return nil, err
	}
	s, err := dsse.NewSigner(signer)
	if err != nil {
		return nil, err
	}
	return dsse.Sign(dsse.TypeManifest, payload, s)
}
