package pkcs7

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// parser steps through the input; after the first error it does nothing more.
type parser struct {
	all []byte
	in  cryptobyte.String // what is left of the structure it is in
	out SignedData
	err error
}

func (p *parser) fail(field, format string, args ...any) {
	if p.err == nil {
		// Every slice of the input ends where its structure does, so the
		// capacity tells where in the input it begins.
		p.err = &FormatError{int64(cap(p.all) - cap(p.in)), field, fmt.Sprintf(format, args...)}
	}
}

// element steps over one element and returns its content.
func (p *parser) element(field string, tag cbasn1.Tag) cryptobyte.String {
	var inner cryptobyte.String
	if p.err == nil && !p.in.ReadASN1(&inner, tag) {
		p.fail(field, "no element of tag %#x", uint8(tag))
	}
	return inner
}

// whole steps over one element and returns it with tag and length.
func (p *parser) whole(field string) cryptobyte.String {
	var all cryptobyte.String
	var tag cbasn1.Tag
	if p.err == nil && !p.in.ReadAnyASN1Element(&all, &tag) {
		p.fail(field, "no element")
	}
	return all
}

func (p *parser) oid(field string) asn1.ObjectIdentifier {
	var id asn1.ObjectIdentifier
	if p.err == nil && !p.in.ReadASN1ObjectIdentifier(&id) {
		p.fail(field, "no object identifier")
	}
	return id
}

func (p *parser) version(field string) {
	var v int64
	if p.err == nil && (!p.in.ReadASN1Integer(&v) || v != 1) {
		p.fail(field, "version is not 1")
	}
}

func (p *parser) end(field string) {
	if p.err == nil && !p.in.Empty() {
		p.fail(field, "%d bytes behind its end", len(p.in))
	}
}

// within runs step on the content of an element and requires that it takes all.
func (p *parser) within(field string, tag cbasn1.Tag, step func()) {
	inner := p.element(field, tag)
	rest := p.in
	p.in = inner
	if p.err == nil {
		step()
	}
	p.end(field)
	p.in = rest
}

func (p *parser) algorithm(field string, allowed ...asn1.ObjectIdentifier) {
	p.within(field, cbasn1.SEQUENCE, func() {
		id := p.oid(field)
		ok := false
		for _, a := range allowed {
			ok = ok || id.Equal(a)
		}
		if !ok {
			p.fail(field, "%v is not supported, only %v", id, allowed)
		}
		var null cryptobyte.String
		if p.err == nil && !p.in.Empty() && (!p.in.ReadASN1(&null, cbasn1.NULL) || len(null) != 0) {
			p.fail(field, "has parameters")
		}
	})
}

// signedData reads the fields of RFC 2315 section 9.1.
func (p *parser) signedData() {
	p.version("version")
	p.within("digestAlgorithms", cbasn1.SET, func() { p.algorithm("digestAlgorithms", oidSHA256) })
	p.within("contentInfo", cbasn1.SEQUENCE, func() {
		p.out.ContentType = p.oid("contentInfo.contentType")
		if !p.in.Empty() {
			p.within("contentInfo.content", tag0, p.content)
		}
	})
	if p.err == nil && p.in.PeekASN1Tag(tag0) {
		p.within("certificates", tag0, func() { p.repeat("certificates", maxCertificates, p.certificate) })
	}
	if p.err == nil && p.in.PeekASN1Tag(tag1) {
		p.element("crls", tag1)
	}
	p.within("signerInfos", cbasn1.SET, func() { p.repeat("signerInfos", maxSigners, p.signerInfo) })
	p.end("SignedData")
	if p.err == nil && len(p.out.Signers) == 0 {
		p.fail("signerInfos", "nobody signed")
	}
}

// content reads the signed content. The signature does not cover its tag, so
// that must be the one its type has: every type but Data is a structure.
func (p *parser) content() {
	want := cbasn1.SEQUENCE
	if p.out.ContentType.Equal(Data) {
		want = cbasn1.OCTET_STRING
	}
	if p.err == nil && !p.in.PeekASN1Tag(want) {
		p.fail("contentInfo.content", "no element of tag %#x", uint8(want))
	}
	p.out.Content = p.whole("contentInfo.content")
}

func (p *parser) repeat(field string, most int, step func()) {
	for n := 0; p.err == nil && !p.in.Empty(); n++ {
		if n == most {
			p.fail(field, "more than %d", most)
			return
		}
		step()
	}
}

func (p *parser) certificate() {
	der := p.whole("certificates")
	if p.err != nil {
		return
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		p.fail("certificates", "%v", err)
		return
	}
	p.out.Certificates = append(p.out.Certificates, c)
}

// signerInfo reads the fields of section 9.2.
func (p *parser) signerInfo() {
	s := Signer{Serial: new(big.Int)}
	p.within("SignerInfo", cbasn1.SEQUENCE, func() {
		p.version("SignerInfo.version")
		p.within("issuerAndSerialNumber", cbasn1.SEQUENCE, func() {
			s.Issuer = p.whole("issuer")
			if p.err == nil && !p.in.ReadASN1Integer(s.Serial) {
				p.fail("serialNumber", "no integer")
			}
		})
		p.algorithm("digestAlgorithm", oidSHA256)
		if p.err == nil && p.in.PeekASN1Tag(tag0) {
			p.attributes(&s)
		}
		p.algorithm("digestEncryptionAlgorithm", oidRSA, oidSHA256RSA)
		s.Signature = p.element("encryptedDigest", cbasn1.OCTET_STRING)
		if p.err == nil && p.in.PeekASN1Tag(tag1) {
			p.element("unauthenticatedAttributes", tag1)
		}
	})
	p.out.Signers = append(p.out.Signers, s)
}

// attributes reads the authenticated attributes, which must hold a content
// type and a message digest once each.
func (p *parser) attributes(s *Signer) {
	rest := p.in
	raw := rest
	p.whole("authenticatedAttributes")
	if p.err != nil {
		return
	}
	raw = raw[:len(raw)-len(p.in)]
	p.in = rest
	s.attributes = append([]byte{byte(cbasn1.SET)}, raw[1:]...)
	p.within("authenticatedAttributes", tag0, func() {
		p.repeat("authenticatedAttributes", maxAttributes, func() {
			p.within("attribute", cbasn1.SEQUENCE, func() { p.attribute(s) })
		})
	})
	if p.err == nil && (s.contentType == nil || s.digest == nil) {
		p.fail("authenticatedAttributes", "no content type or no message digest")
	}
}

const maxAttributes = 16

func (p *parser) attribute(s *Signer) {
	switch id := p.oid("attribute"); {
	case id.Equal(oidContentType) && s.contentType == nil:
		p.within("contentType", cbasn1.SET, func() { s.contentType = p.oid("contentType") })
	case id.Equal(oidMessageDigest) && s.digest == nil:
		p.within("messageDigest", cbasn1.SET, func() { s.digest = p.element("messageDigest", cbasn1.OCTET_STRING) })
	case id.Equal(oidContentType) || id.Equal(oidMessageDigest):
		p.fail("attribute", "%v twice", id)
	default:
		p.element("attribute", cbasn1.SET)
	}
}
