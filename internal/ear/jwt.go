package ear

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

// header of the token (RFC 7515 section 4.1); typ is the media type of an EAT
// in a JWT (RFC 9782) without its "application/".
const header = `{"alg":"ES256","typ":"eat+jwt"}`

// Sign gives the claims as a JWT in compact form. The key must be of P-256:
// ES256 is the one algorithm that every reader has (RFC 7518 section 3.4).
func (r *Result) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("sign attestation result: a key of %s, ES256 needs P-256", key.Curve.Params().Name)
	}
	claims, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("sign attestation result: %w", err)
	}
	b64 := base64.RawURLEncoding
	token := b64.AppendEncode(nil, []byte(header))
	token = b64.AppendEncode(append(token, '.'), claims)
	sum := sha256.Sum256(token)
	x, y, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("sign attestation result: %w", err)
	}
	sig := make([]byte, 64) // R and S with leading zeros
	x.FillBytes(sig[:32])
	y.FillBytes(sig[32:])
	return b64.AppendEncode(append(token, '.'), sig), nil
}

// ParseKey reads a private key in PEM: PKCS #8 or SEC 1.
func ParseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("read key: no PEM block")
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key: a %T, want one of an elliptic curve", key)
	}
	return ec, nil
}
