package testkey_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/testkey"
)

func TestCertificates(t *testing.T) {
	db, again := testkey.New("db", nil), testkey.New("db", nil)
	if !db.Cert.Equal(again.Cert) {
		t.Error("a certificate of the same fields is another in each run")
	}
	if err := db.Cert.CheckSignature(db.Cert.SignatureAlgorithm, db.Cert.RawTBSCertificate, db.Cert.Signature); err != nil {
		t.Errorf("by itself: %v", err)
	}
	old := testkey.New("other", func(c *x509.Certificate) { c.NotAfter = time.Unix(1e9, 0) })
	if old.Cert.NotAfter.Unix() != 1e9 || old.Cert.Equal(db.Cert) {
		t.Errorf("until %v", old.Cert.NotAfter)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issued := testkey.Certify(&x509.Certificate{SerialNumber: big.NewInt(2)}, ec, &db)
	if err := db.Cert.CheckSignature(issued.Cert.SignatureAlgorithm, issued.Cert.RawTBSCertificate, issued.Cert.Signature); err != nil {
		t.Errorf("by db: %v", err)
	}
}
