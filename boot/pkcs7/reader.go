package pkcs7

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SignedData is a parsed message. Nothing in it is verified until Verify says so.
type SignedData struct {
	ContentType  asn1.ObjectIdentifier
	Content      []byte // DER with tag and length; nil when detached
	Certificates []*x509.Certificate
	Signers      []Signer
	Size         int // bytes of the input that the structure took
}

// Signer is one SignerInfo.
type Signer struct {
	Issuer    []byte // DER of the issuer's name in the signer's certificate
	Serial    *big.Int
	Signature []byte

	attributes  []byte // as signed, beginning with the SET tag; nil for none
	contentType asn1.ObjectIdentifier
	digest      []byte
}

// Certificate returns the signer's certificate, nil if it is not included.
func (s *SignedData) Certificate(signer int) *x509.Certificate {
	want := s.Signers[signer]
	for _, c := range s.Certificates {
		if bytes.Equal(c.RawIssuer, want.Issuer) && c.SerialNumber.Cmp(want.Serial) == 0 {
			return c
		}
	}
	return nil
}

// Verify checks one signer's signature over the content and returns the
// signer's certificate, which is trusted by nobody yet. Detached is the content
// where the message holds none. Errors wrap ErrSignature, ErrNoCertificate or
// ErrKeyType.
func (s *SignedData) Verify(signer int, detached []byte) (*x509.Certificate, error) {
	cert := s.Certificate(signer)
	if cert == nil {
		return nil, fmt.Errorf("verify: %w", ErrNoCertificate)
	}
	content := detached
	if s.Content != nil {
		content = value(s.Content)
	}
	info := s.Signers[signer]
	if info.attributes == nil {
		return cert, CheckSignature(cert, content, info.Signature)
	}
	digest := sha256.Sum256(content)
	if !bytes.Equal(digest[:], info.digest) || !info.contentType.Equal(s.ContentType) {
		return nil, fmt.Errorf("verify: %w: the signed attributes are of another content", ErrSignature)
	}
	return cert, CheckSignature(cert, info.attributes, info.Signature)
}

// value returns a DER element without tag and length.
func value(der []byte) []byte {
	in := cryptobyte.String(der)
	var inner cryptobyte.String
	var tag cbasn1.Tag
	in.ReadAnyASN1(&inner, &tag)
	return inner
}

// Parse decodes a SignedData, with or without the ContentInfo around it. Bytes
// behind it are left to the caller; see Size. Errors are *FormatError.
func Parse(b []byte) (*SignedData, error) {
	if len(b) > maxSize {
		return nil, &FormatError{0, "ContentInfo", fmt.Sprintf("%d bytes are more than %d", len(b), maxSize)}
	}
	p := parser{all: b, in: b}
	outer := p.element("ContentInfo", cbasn1.SEQUENCE)
	p.out.Size = len(b) - len(p.in)
	p.in = outer
	if p.err == nil && p.in.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) {
		if id := p.oid("contentType"); !id.Equal(oidSignedData) {
			p.fail("contentType", "%v is not signedData", id)
		}
		explicit := p.element("content", tag0)
		p.end("ContentInfo")
		p.in = explicit
		inner := p.element("SignedData", cbasn1.SEQUENCE)
		p.end("content")
		p.in = inner
	}
	p.signedData()
	if p.err != nil {
		return nil, p.err
	}
	return &p.out, nil
}
