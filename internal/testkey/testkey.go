// Package testkey has two RSA keys of 2048 bits for tests, and makes
// certificates for them. The keys are published with the source: they sign
// nothing that anyone should trust.
//
//	db := testkey.New("db", nil)
//	err := authenticode.Sign(&out, image, size, db.Key, db.Cert)
//
// RSA PKCS #1 v1.5 signs the same bytes the same way each time, so a certificate
// of the same fields is the same in every run. It is for tests only.
package testkey

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/pem"
	"math/big"
	"time"
)

//go:embed keys/*.pem
var files embed.FS

// Identity is a key with a certificate.
type Identity struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// PEM is the PKCS #8 file of a key, "db" or "other".
func PEM(name string) []byte { return must(files.ReadFile("keys/TEST-" + name + ".pem")) }

// Key is the key "db" or "other".
func Key(name string) *rsa.PrivateKey {
	block, _ := pem.Decode(PEM(name))
	return must(x509.ParsePKCS8PrivateKey(block.Bytes)).(*rsa.PrivateKey)
}

// New gives the key "db" or "other" a certificate by itself, "TEST db", valid from
// 2001 to 2099 unless change says something else.
func New(name string, change func(*x509.Certificate)) Identity {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "TEST " + name},
		NotBefore: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if change != nil {
		change(template)
	}
	return Certify(template, Key(name), nil)
}

// Certify makes a certificate of any key; by nil: by itself.
func Certify(template *x509.Certificate, key crypto.Signer, by *Identity) Identity {
	if by == nil {
		by = &Identity{key, template}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, by.Cert, key.Public(), by.Key))
	return Identity{key, must(x509.ParseCertificate(der))}
}

// must panics: a test that cannot have its keys has nothing to go on with.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
