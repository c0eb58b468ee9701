// Package pkcs7 writes and reads the one form of PKCS #7 SignedData that UEFI
// firmware verifies (RFC 2315 section 9): version 1, signed by RSA with PKCS #1
// v1.5 over SHA-256, signer's certificate included. Boot images (package
// authenticode) and updates of key variables (package esl) are signed with it.
//
// The same input gives the same bytes: there is no signing time, and this RSA
// scheme uses no randomness.
//
// Limits: input is DER, not BER; at most 1 MiB, 16 certificates and 8 signers.
// Unauthenticated attributes (time stamps) and revocation lists are stepped
// over and not judged. Digests other than SHA-256 are refused.
//
// Shape of use, split so that the key may be elsewhere:
//
//	attrs := pkcs7.Attributes(contentType, digest[:])
//	sig, err := pkcs7.SignMessage(signer, cert, attrs)      // anywhere
//	der, err := pkcs7.Message{ContentType: t, Content: c, Attributes: attrs, Certificate: cert, Signature: sig}.Marshal()
//	s, err := pkcs7.Parse(der)
//	cert, err := s.Verify(0, nil)
package pkcs7

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// Object identifiers of the structures written here.
var (
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2} // RFC 2315 section 14
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3} // RFC 2985 section 5.3
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256RSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}

	// Data is the content type of bytes without structure (RFC 2315 section 8).
	Data = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
)

// Limits on input.
const (
	maxSize         = 1 << 20
	maxCertificates = 16
	maxSigners      = 8
)

// minRSABits is the least size that firmware and its certification accept.
const minRSABits = 2048

// Errors of Verify and of the signing functions, to be tested with errors.Is.
var (
	// ErrSignature: the signature value is not one of the signer's key over
	// what it should cover.
	ErrSignature = errors.New("signature does not verify")
	// ErrNoCertificate: the signer's certificate is not included.
	ErrNoCertificate = errors.New("the signer's certificate is not included")
	// ErrKeyType: the key is not one that firmware can verify with.
	ErrKeyType = errors.New("firmware verifies RSA keys of 2048 bits or more only")
)

// FormatError says where the structure is malformed.
type FormatError struct {
	Off   int64  // offset in bytes from the start of the structure
	Field string // the field's name in RFC 2315
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("pkcs7: offset %#x, %s: %s", e.Off, e.Field, e.Msg)
}

// CheckKey reports why a public key cannot sign for firmware; the error wraps
// ErrKeyType.
func CheckKey(pub crypto.PublicKey) error {
	key, ok := pub.(*rsa.PublicKey)
	switch {
	case !ok:
		return fmt.Errorf("%w: this is %s", ErrKeyType, keyName(pub))
	case key.N.BitLen() < minRSABits:
		return fmt.Errorf("%w: this is RSA of %d bits", ErrKeyType, key.N.BitLen())
	}
	return nil
}

// SignMessage signs the SHA-256 of message. It refuses a key that is not the
// certificate's before using it. The signer is given no source of randomness,
// as the scheme needs none.
func SignMessage(signer crypto.Signer, cert *x509.Certificate, message []byte) ([]byte, error) {
	if err := CheckKey(signer.Public()); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := CheckKey(cert.PublicKey); err != nil {
		return nil, fmt.Errorf("sign: certificate %q: %w", cert.Subject, err)
	}
	if !signer.Public().(*rsa.PublicKey).Equal(cert.PublicKey) {
		return nil, fmt.Errorf("sign: the key is not that of certificate %q", cert.Subject)
	}
	digest := sha256.Sum256(message)
	sig, err := signer.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, CheckSignature(cert, message, sig)
}

// CheckSignature verifies a raw signature over the SHA-256 of message. The
// error wraps ErrSignature or ErrKeyType.
func CheckSignature(cert *x509.Certificate, message, signature []byte) error {
	if err := CheckKey(cert.PublicKey); err != nil {
		return fmt.Errorf("check signature: certificate %q: %w", cert.Subject, err)
	}
	digest := sha256.Sum256(message)
	if rsa.VerifyPKCS1v15(cert.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], signature) != nil {
		return fmt.Errorf("check signature: %w with certificate %q", ErrSignature, cert.Subject)
	}
	return nil
}
