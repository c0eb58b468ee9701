package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/testkey"
)

var le = binary.LittleEndian

// sec is a section of a synthetic image: raw bytes of content, and how many of
// them count in memory.
type sec struct {
	name    string
	content string
	virtual uint32 // 0 for the length of content
}

// Offsets in a synthetic image.
const (
	atOptional   = 0x58
	atCheckSum   = atOptional + 64
	atSecurity   = atOptional + 112 + 4*8
	headersSize  = 0x200
	sectionAlign = 0x200
)

// image writes an EFI application with a trailer behind its sections.
func image(trailer int, sections ...sec) []byte {
	b := make([]byte, headersSize)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00\x64\x86")
	le.PutUint16(b[0x46:], uint16(len(sections)))
	le.PutUint16(b[0x54:], 240)
	opt := b[atOptional:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[32:], 0x1000)
	le.PutUint32(opt[36:], sectionAlign)
	le.PutUint32(opt[56:], uint32(1+len(sections))*0x1000)
	le.PutUint32(opt[60:], headersSize)
	le.PutUint32(opt[64:], 0xc4ecc4ec)
	le.PutUint16(opt[68:], 10)
	le.PutUint32(opt[108:], 16)
	for i, s := range sections {
		raw := make([]byte, (len(s.content)+sectionAlign-1)/sectionAlign*sectionAlign)
		copy(raw, s.content)
		e := b[atOptional+240+40*i:]
		copy(e, s.name)
		if s.virtual == 0 {
			s.virtual = uint32(len(s.content))
		}
		le.PutUint32(e[8:], s.virtual)
		le.PutUint32(e[12:], uint32(i+1)*0x1000)
		le.PutUint32(e[16:], uint32(len(raw)))
		le.PutUint32(e[20:], uint32(len(b)))
		le.PutUint32(e[36:], 0x40000040)
		b = append(b, raw...)
	}
	return append(b, bytes.Repeat([]byte{0x5a}, trailer)...)
}

func plain() []byte { return image(0, sec{name: ".text", content: "code"}) }

// identity is a key with a certificate by itself or by an authority.
type identity struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newIdentity(name string, key crypto.Signer, by *identity, change func(*x509.Certificate)) identity {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if change != nil {
		change(template)
	}
	var issuer *testkey.Identity
	if by != nil {
		issuer = &testkey.Identity{Key: by.key, Cert: by.cert}
	}
	x := testkey.Certify(template, key, issuer)
	return identity{x.Key, x.Cert}
}

// people are made once. The RSA certificates are the same in every run: keys,
// fields and the signature scheme are fixed.
var people = sync.OnceValue(func() map[string]identity {
	db, other := newIdentity("db", testkey.Key("db"), nil, nil), newIdentity("other", testkey.Key("other"), nil, nil)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[string]identity{
		"db": db, "other": other,
		"expired": newIdentity("expired", db.key, nil, func(c *x509.Certificate) { c.NotAfter = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"issued":  newIdentity("issued by db", other.key, &db, func(c *x509.Certificate) { c.IsCA = false }),
		"ecdsa":   newIdentity("ecdsa", ec, nil, nil),
	}
})

func sign(t testing.TB, b []byte, who string) []byte {
	t.Helper()
	p := people()[who]
	var out bytes.Buffer
	if err := authenticode.Sign(&out, bytes.NewReader(b), int64(len(b)), p.key, p.cert); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func verify(b []byte, trust authenticode.Trust) (authenticode.Report, error) {
	return authenticode.Verify(bytes.NewReader(b), int64(len(b)), trust)
}

func trusting(who ...string) authenticode.Trust {
	var t authenticode.Trust
	for _, w := range who {
		t.Certificates = append(t.Certificates, people()[w].cert)
	}
	return t
}
