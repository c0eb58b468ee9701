package policy

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
)

// Key is the public half of a policy key as a TPM loads it.
type Key struct {
	Public []byte // TPMT_PUBLIC
	Name   []byte // algorithm and SHA-256 of Public (part 1, section 16)
	RSA    *rsa.PublicKey
}

// Parts of a TPMT_PUBLIC of an RSA key that only checks signatures (part 2,
// sections 12.2.4 and 8.3): userWithAuth and sign, RSASSA with SHA-256.
const (
	algRSA    = 0x0001
	algNull   = 0x0010
	algRSASSA = 0x0014
	keyUse    = 1<<6 | 1<<18
)

// sizes are the RSA keys that TPMs have to take, in bits (PC Client Platform
// TPM Profile, section 4.6.3: 2048; larger ones are common and cost nothing).
var sizes = []int{2048, 3072, 4096}

// ParseKey reads a policy key, a SubjectPublicKeyInfo in DER.
func ParseKey(spki []byte) (Key, error) {
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return Key{}, fmt.Errorf("parse policy key: %w", err)
	}
	k, ok := pub.(*rsa.PublicKey)
	if !ok {
		return Key{}, fmt.Errorf("parse policy key: it is a %T, a TPM takes RSA here", pub)
	}
	return keyOf(k)
}

func keyOf(k *rsa.PublicKey) (Key, error) {
	known := false
	for _, bits := range sizes {
		known = known || k.N.BitLen() == bits
	}
	if !known {
		return Key{}, fmt.Errorf("parse policy key: RSA of %d bits is not one of %v", k.N.BitLen(), sizes)
	}
	if k.E < 3 || int64(k.E) >= 1<<32 {
		return Key{}, fmt.Errorf("parse policy key: exponent %d", k.E)
	}
	exponent := uint32(k.E)
	if exponent == 65537 {
		exponent = 0 // the default has one encoding (part 2, section 12.2.3.5)
	}
	var b []byte
	for _, v := range []uint16{algRSA, algSHA256, keyUse >> 16, keyUse & 0xffff, 0, algNull, algRSASSA, algSHA256, uint16(k.N.BitLen())} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, exponent)
	b = binary.BigEndian.AppendUint16(b, uint16(k.Size()))
	b = append(b, k.N.FillBytes(make([]byte, k.Size()))...)
	sum := sha256.Sum256(b)
	return Key{Public: b, Name: append(be16(algSHA256), sum[:]...), RSA: k}, nil
}
