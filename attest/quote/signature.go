package quote

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"math/big"

	"github.com/ingot-os/ingot/attest/pcr"
)

// What a verifier tells apart about signatures; Verify wraps them.
var (
	ErrWeakHash  = errors.New("weak signature hash")
	ErrSignature = errors.New("signature does not match")
)

// Signature is a TPMT_SIGNATURE (section 11.3.4) by ECDSA or RSASSA.
type Signature struct {
	Hash pcr.Bank

	alg  uint16
	r, s []byte // r alone for RSASSA
}

// ParseSignature reads a TPMT_SIGNATURE.
func ParseSignature(b []byte) (*Signature, error) {
	r := &reader{what: "TPMT_SIGNATURE", b: b}
	s := &Signature{alg: r.u16("sigAlg"), Hash: pcr.Bank(r.u16("hash"))}
	switch {
	case r.err != nil:
	case s.alg == algECDSA:
		s.r, s.s = r.sized("signatureR", maxDigest), r.sized("signatureS", maxDigest)
	case s.alg == algRSASSA:
		s.r = r.sized("sig", 512)
	default:
		r.fail(-4, "sigAlg", nil, "algorithm %#04x", s.alg)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return s, nil
}

// Verify checks a TPMT_SIGNATURE over a message. A hash shorter than SHA-256
// is refused with ErrWeakHash.
func (p *Public) Verify(message []byte, s *Signature) error {
	switch s.Hash {
	case pcr.SHA256, pcr.SHA384, pcr.SHA512:
	default:
		return ErrWeakHash
	}
	if p.hash != 0 && pcr.Bank(p.hash) != s.Hash {
		return ErrSignature // the key signs by one hash only
	}
	digest, ok := s.Hash.Sum(message), false
	switch key := p.Key.(type) {
	case *ecdsa.PublicKey:
		ok = s.alg == algECDSA && ecdsa.Verify(key, digest, new(big.Int).SetBytes(s.r), new(big.Int).SetBytes(s.s))
	case *rsa.PublicKey:
		ok = s.alg == algRSASSA && rsa.VerifyPKCS1v15(key, s.Hash.Hash(), digest, s.r) == nil
	}
	if !ok {
		return ErrSignature
	}
	return nil
}
