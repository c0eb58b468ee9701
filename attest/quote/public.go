package quote

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"math/big"

	"github.com/ingot-os/ingot/attest/pcr"
)

// Algorithms and curves (sections 6.3 and 6.4).
const (
	algRSA    = 0x0001
	algAES    = 0x0006
	algNull   = 0x0010
	algRSASSA = 0x0014
	algECDSA  = 0x0018
	algECC    = 0x0023

	curveP256 = 0x0003
	curveP384 = 0x0004
)

// Attributes are a TPMA_OBJECT (section 8.3).
type Attributes uint32

// Attributes that matter for attestation.
const (
	FixedTPM            Attributes = 1 << 1  // never leaves this TPM
	FixedParent         Attributes = 1 << 4  // never gets another parent
	SensitiveDataOrigin Attributes = 1 << 5  // made by the TPM, not imported
	Restricted          Attributes = 1 << 16 // signs only what the TPM itself made
	Decrypt             Attributes = 1 << 17
	Sign                Attributes = 1 << 18
)

// Has reports whether all of the given attributes are set.
func (a Attributes) Has(want Attributes) bool { return a&want == want }

// Public is a TPMT_PUBLIC (section 12.2.4) of an asymmetric key.
type Public struct {
	Attributes Attributes
	Policy     []byte           // authPolicy; shares memory with the input
	Key        crypto.PublicKey // *ecdsa.PublicKey or *rsa.PublicKey

	scheme, hash uint16
	nameAlg      pcr.Bank
	raw          []byte
}

// ParsePublic reads a TPMT_PUBLIC of an RSA or an ECC key.
func ParsePublic(b []byte) (*Public, error) {
	r := &reader{what: "TPMT_PUBLIC", b: b}
	typ := r.u16("type")
	p := &Public{nameAlg: pcr.Bank(r.u16("nameAlg")), Attributes: Attributes(r.u32("objectAttributes")), raw: b}
	if r.err == nil && (!p.nameAlg.Known() || p.nameAlg == pcr.SHA1) {
		r.fail(-6, "nameAlg", nil, "%s", p.nameAlg)
	}
	p.Policy = r.sized("authPolicy", maxDigest)
	switch {
	case r.err != nil:
	case typ == algECC:
		p.ecc(r)
	case typ == algRSA:
		p.rsa(r)
	default:
		r.fail(0, "type", nil, "algorithm %#04x is neither RSA nor ECC", typ)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return p, nil
}

// parameters reads the symmetric algorithm and the scheme, which RSA and ECC
// keys have alike.
func (p *Public) parameters(r *reader, scheme uint16) {
	switch sym := r.u16("symmetric"); {
	case r.err != nil || sym == algNull:
	case sym == algAES:
		r.take("symmetric.keyBits and mode", 4)
	default:
		r.fail(-2, "symmetric", nil, "algorithm %#04x", sym)
	}
	p.scheme = r.u16("scheme")
	switch {
	case r.err != nil || p.scheme == algNull:
	case p.scheme == scheme:
		p.hash = r.u16("scheme.hashAlg")
	default:
		r.fail(-2, "scheme", nil, "algorithm %#04x", p.scheme)
	}
}

// ecc reads TPMS_ECC_PARMS and TPMS_ECC_POINT.
func (p *Public) ecc(r *reader) {
	p.parameters(r, algECDSA)
	id := r.u16("curveID")
	var curve elliptic.Curve
	switch id {
	case curveP256:
		curve = elliptic.P256()
	case curveP384:
		curve = elliptic.P384()
	default:
		r.fail(-2, "curveID", nil, "curve %#04x", id)
	}
	if kdf := r.u16("kdf"); kdf != algNull {
		r.fail(-2, "kdf", nil, "algorithm %#04x", kdf)
	}
	at := r.off
	x, y := r.sized("x", maxDigest), r.sized("y", maxDigest)
	if r.err != nil {
		return
	}
	size := (curve.Params().BitSize + 7) / 8
	if len(x) > size || len(y) > size { // a TPM may drop leading zeros
		r.fail(at-r.off, "unique", nil, "coordinates of %d and %d bytes for %s", len(x), len(y), curve.Params().Name)
		return
	}
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed (SEC 1 section 2.3.3)
	copy(point[1+size-len(x):], x)
	copy(point[1+2*size-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		r.fail(at-r.off, "unique", nil, "the point is not on %s", curve.Params().Name)
		return
	}
	p.Key = key
}

// rsa reads TPMS_RSA_PARMS and TPM2B_PUBLIC_KEY_RSA.
func (p *Public) rsa(r *reader) {
	p.parameters(r, algRSASSA)
	bits, exponent := r.u16("keyBits"), r.u32("exponent")
	if exponent == 0 { // the default (section 12.2.3.5)
		exponent = 65537
	}
	n := r.sized("unique", 512)
	switch {
	case r.err != nil:
		return
	case bits < 2048 || bits > 4096 || len(n) != int(bits)/8 || n[0]&0x80 == 0:
		r.fail(-len(n), "unique", nil, "%d bytes for a key of %d bits", len(n), bits)
	case exponent < 65537 || exponent&1 == 0:
		r.fail(-len(n)-6, "exponent", nil, "%d", exponent)
	}
	p.Key = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}
}

// Name is the key's name in a TPM: the name algorithm and the hash of the
// public area (part 1, section 16). It is computed, never taken from elsewhere.
func (p *Public) Name() []byte {
	return append(be.AppendUint16(nil, uint16(p.nameAlg)), p.nameAlg.Sum(p.raw)...)
}

// Same reports whether a certificate is about this key.
func (p *Public) Same(cert *x509.Certificate) bool {
	switch key := p.Key.(type) {
	case *ecdsa.PublicKey:
		return key.Equal(cert.PublicKey)
	case *rsa.PublicKey:
		return key.Equal(cert.PublicKey)
	}
	return false
}
