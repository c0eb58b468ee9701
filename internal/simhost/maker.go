package simhost

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"
)

// oidEKCertificate is the extended key usage of certificates of endorsement
// keys (TCG EK Credential Profile section 3.1.1).
var oidEKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 1}

// Maker imitates a maker of TPMs: it vouches for endorsement keys.
type Maker struct {
	Root *x509.Certificate

	key    *ecdsa.PrivateKey
	serial int64
}

// NewMaker makes an authority that is valid for a day from now on.
func NewMaker(now time.Time) (*Maker, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	m := &Maker{key: key, serial: 1}
	t := m.template("simulated TPMs", now)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	m.Root, err = x509.ParseCertificate(der)
	return m, err
}

func (m *Maker) template(name string, now time.Time) *x509.Certificate {
	m.serial++
	return &x509.Certificate{SerialNumber: big.NewInt(m.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
}

// Certify gives a host the certificate of its endorsement key. It is for one
// goroutine.
func (m *Maker) Certify(h *Host, now time.Time) (err error) {
	t := m.template(h.Name, now)
	t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidEKCertificate}
	t.KeyUsage = x509.KeyUsageKeyAgreement
	public, err := signing(h.ek.PublicKey())
	if err != nil {
		return err
	}
	h.ekCertificate, err = x509.CreateCertificate(rand.Reader, t, m.Root, public, m.key)
	return err
}

// signing is the same key in the form that certificates take.
func signing(key *ecdh.PublicKey) (*ecdsa.PublicKey, error) {
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key.Bytes())
}
