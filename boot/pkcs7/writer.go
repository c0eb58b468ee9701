package pkcs7

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Context-specific tags of RFC 2315 sections 7, 9.1 and 9.2.
var (
	tag0 = cbasn1.Tag(0).ContextSpecific().Constructed()
	tag1 = cbasn1.Tag(1).ContextSpecific().Constructed()
)

// Message is the parts of a SignedData of one signer.
type Message struct {
	ContentType asn1.ObjectIdentifier
	Content     []byte // DER with tag and length; nil for a detached signature
	// Attributes is what Attributes returned; nil when the signature covers
	// the content itself.
	Attributes  []byte
	Certificate *x509.Certificate
	Signature   []byte // RSA PKCS #1 v1.5 with SHA-256
	Bare        bool   // without the ContentInfo around it, as in key variables
}

// Attributes returns the signed attributes content type and message digest as
// the SET whose SHA-256 is signed (RFC 2315 section 9.3). Digest is the
// SHA-256 of the content's DER without tag and length.
func Attributes(contentType asn1.ObjectIdentifier, digest []byte) []byte {
	attr := func(b *cryptobyte.Builder, id asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			b.AddASN1(cbasn1.SET, value)
		})
	}
	var b cryptobyte.Builder
	// DER sorts a SET OF by its encodings: the content type's is shorter, as
	// every content type here is, so it goes first.
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
		attr(b, oidContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(contentType) })
		attr(b, oidMessageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(digest) })
	})
	return b.BytesOrPanic()
}

// Marshal encodes the message.
func (m Message) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	if m.Bare {
		b.AddASN1(cbasn1.SEQUENCE, m.signedData)
	} else {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidSignedData)
			b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, m.signedData) })
		})
	}
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode signature: %w", err)
	}
	return out, nil
}

// signedData adds the fields of section 9.1.
func (m Message) signedData(b *cryptobyte.Builder) {
	b.AddASN1Int64(1)
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { algorithm(b, oidSHA256) })
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(m.ContentType)
		if m.Content != nil {
			b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddBytes(m.Content) })
		}
	})
	b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddBytes(m.Certificate.Raw) })
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, m.signerInfo) })
}

// signerInfo adds the fields of section 9.2.
func (m Message) signerInfo(b *cryptobyte.Builder) {
	b.AddASN1Int64(1)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(m.Certificate.RawIssuer)
		b.AddASN1BigInt(m.Certificate.SerialNumber)
	})
	algorithm(b, oidSHA256)
	if m.Attributes != nil {
		// Stored under [0] in place of the SET tag that is signed; both
		// are one byte.
		b.AddBytes(append([]byte{byte(tag0)}, m.Attributes[1:]...))
	}
	algorithm(b, oidRSA)
	b.AddASN1OctetString(m.Signature)
}

func algorithm(b *cryptobyte.Builder, id asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		b.AddASN1NULL()
	})
}
