package dsse

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// minRSA is the shortest RSA modulus that is accepted, in bits.
const minRSA = 2048

// Signer makes signatures over PAE bytes with one key.
type Signer interface {
	// KeyID returns the id of the key, as KeyID gives it.
	KeyID() string
	// Sign signs a message, which is PAE bytes and not their digest.
	Sign(message []byte) ([]byte, error)
}

// KeyID is the SHA-256 of a public key's DER form (SubjectPublicKeyInfo, RFC
// 5280 section 4.1) in hex. A key of another type or size than the package
// comment lists has none.
func KeyID(key crypto.PublicKey) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("name key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("ed25519 key of %d bytes", len(k))
		}
		return nil
	case *ecdsa.PublicKey:
		if k == nil || k.Curve != elliptic.P256() {
			return errors.New("ECDSA key of another curve than P-256")
		}
		return nil
	case *rsa.PublicKey:
		if k == nil || k.N == nil || k.N.BitLen() < minRSA {
			return fmt.Errorf("RSA key below %d bits", minRSA)
		}
		return nil
	}
	return fmt.Errorf("key of type %T: want Ed25519, ECDSA P-256 or RSA", key)
}

type cryptoSigner struct {
	key crypto.Signer
	id  string
}

// NewSigner makes a Signer of a private key in memory, a PKCS #11 module or a
// key service: whatever implements crypto.Signer.
func NewSigner(key crypto.Signer) (Signer, error) {
	if key == nil {
		return nil, errors.New("make signer: no key")
	}
	id, err := KeyID(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make signer: %w", err)
	}
	return &cryptoSigner{key, id}, nil
}

func (s *cryptoSigner) KeyID() string { return s.id }

// Sign passes no source of randomness: Ed25519 and PKCS #1 v1.5 need none, and
// crypto/ecdsa then takes its nonce from key and message (RFC 6979).
func (s *cryptoSigner) Sign(message []byte) ([]byte, error) {
	if _, ok := s.key.Public().(ed25519.PublicKey); ok {
		return s.key.Sign(nil, message, crypto.Hash(0))
	}
	sum := sha256.Sum256(message)
	return s.key.Sign(nil, sum[:], crypto.SHA256)
}

// valid tells whether sig is a signature of message by a key that checkKey accepts.
func valid(key crypto.PublicKey, message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], sig) == nil
	}
	return false
}
