package authenticode

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/pkcs7"
)

// Signature is one signature of an image, read and not verified.
type Signature struct {
	Digest Digest            // of the image it says it signs
	Signer *x509.Certificate // nil when it is not included
	PKCS7  []byte            // DER

	data *pkcs7.SignedData
}

// Signatures reads all signatures of an image; none is no error. Errors wrap
// ErrMalformed or are *pe.FormatError.
func Signatures(image io.ReaderAt, size int64) ([]Signature, error) {
	f, err := pe.Parse(image, size)
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	return signatures(f, image)
}

func signatures(f *pe.File, image io.ReaderAt) ([]Signature, error) {
	c := f.Certificates
	if c.Size > maxTable {
		return nil, fmt.Errorf("read signatures: %w: certificate table of %d bytes is larger than %d", ErrMalformed, c.Size, maxTable)
	}
	table := make([]byte, c.Size)
	if n, err := image.ReadAt(table, int64(c.VirtualAddress)); n < len(table) {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	out, err := parseTable(table)
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w: %w", ErrMalformed, err)
	}
	return out, nil
}

// parseTable splits the attribute certificate table.
func parseTable(table []byte) ([]Signature, error) {
	var out []Signature
	for off := 0; off < len(table); {
		b := table[off:]
		if len(b) < certHeaderSize {
			return nil, fmt.Errorf("offset %#x, WIN_CERTIFICATE: truncated", off)
		}
		n := int(le.Uint32(b))
		switch {
		case n < certHeaderSize || n > len(b):
			return nil, fmt.Errorf("offset %#x, dwLength: %d is not within %d..%d", off, n, certHeaderSize, len(b))
		case le.Uint16(b[4:]) != certRevision:
			return nil, fmt.Errorf("offset %#x, wRevision: %#x, not %#x", off+4, le.Uint16(b[4:]), certRevision)
		case le.Uint16(b[6:]) != certPKCS7:
			return nil, fmt.Errorf("offset %#x, wCertificateType: %#x, not %#x", off+6, le.Uint16(b[6:]), certPKCS7)
		case len(out) == maxCertificates:
			return nil, fmt.Errorf("offset %#x: more than %d signatures", off, maxCertificates)
		}
		end := min(n+int(padding(int64(n))), len(b))
		s, err := parseSignature(b[certHeaderSize:n])
		if err != nil {
			return nil, fmt.Errorf("offset %#x: %w", off, err)
		}
		if pad := b[certHeaderSize+len(s.PKCS7) : end]; len(pad) > 7 || len(bytes.Trim(pad, "\x00")) > 0 {
			return nil, fmt.Errorf("offset %#x, bCertificate: bytes behind the signature", off)
		}
		out = append(out, s)
		off += end
	}
	return out, nil
}

// parseSignature decodes a PKCS #7 signature and the digest in it.
func parseSignature(b []byte) (Signature, error) {
	data, err := pkcs7.Parse(b)
	if err != nil {
		return Signature{}, err
	}
	if !data.ContentType.Equal(spcIndirectData) || len(data.Signers) != 1 {
		return Signature{}, fmt.Errorf("contentInfo: %d signers of content type %v, not one of %v", len(data.Signers), data.ContentType, spcIndirectData)
	}
	d, err := parseContent(data.Content)
	if err != nil {
		return Signature{}, err
	}
	return Signature{Digest: d, Signer: data.Certificate(0), PKCS7: b[:data.Size], data: data}, nil
}

// parseContent reads the digest of an SpcIndirectDataContent. What it says of
// the file has no meaning and is stepped over.
func parseContent(b []byte) (d Digest, err error) {
	var outer, data, info, alg, digest cryptobyte.String
	var id = spcIndirectData[:0:0]
	in := cryptobyte.String(b)
	ok := in.ReadASN1(&outer, cbasn1.SEQUENCE) && in.Empty() &&
		outer.ReadASN1(&data, cbasn1.SEQUENCE) && outer.ReadASN1(&info, cbasn1.SEQUENCE) && outer.Empty() &&
		data.ReadASN1ObjectIdentifier(&id) && id.Equal(spcPEImageData)
	if !ok {
		return d, errors.New("SpcIndirectDataContent: not of a PE image")
	}
	ok = info.ReadASN1(&alg, cbasn1.SEQUENCE) && alg.ReadASN1ObjectIdentifier(&id) && id.Equal(oidSHA256) &&
		info.ReadASN1(&digest, cbasn1.OCTET_STRING) && info.Empty() && len(digest) == len(d)
	if !ok {
		return d, errors.New("SpcIndirectDataContent: digest is not a SHA-256")
	}
	return Digest(digest), nil
}

// Trust says whose signatures are good: the contents of db and dbx.
type Trust struct {
	Certificates        []*x509.Certificate // signers, or authorities of signers
	RevokedCertificates []*x509.Certificate
	RevokedHashes       []Digest // of images
	// At is when dates are judged; zero for not at all. Firmware has no
	// trusted clock and ignores dates, so they are reported and refuse nothing.
	At time.Time
}

// Report says why an image was accepted.
type Report struct {
	Digest  Digest
	Signer  *x509.Certificate
	Anchor  *x509.Certificate // the trusted certificate that Signer leads to
	Expired bool              // Signer or Anchor was not valid at Trust.At
}

// Verify accepts an image that a trusted key has signed and nobody has revoked.
// Its error joins one for each signature that is not good and wraps ErrUnsigned,
// ErrMalformed, ErrDigest, ErrSignature, ErrUnknownKey or ErrRevoked.
func Verify(image io.ReaderAt, size int64, trust Trust) (Report, error) {
	r, err := verify(image, size, trust)
	if err != nil {
		return Report{}, fmt.Errorf("verify image: %w", err)
	}
	return r, nil
}

func verify(image io.ReaderAt, size int64, trust Trust) (Report, error) {
	f, err := pe.Parse(image, size)
	if err != nil {
		return Report{}, err
	}
	d, err := digest(f, image)
	if err != nil {
		return Report{}, err
	}
	sigs, err := signatures(f, image)
	switch {
	case err != nil:
		return Report{}, err
	case slices.Contains(trust.RevokedHashes, d):
		return Report{}, fmt.Errorf("digest %v is %w", d, ErrRevoked)
	case len(sigs) == 0:
		return Report{}, ErrUnsigned
	}
	return judge(sigs, d, trust)
}

// judge takes the first good signature, unless any is by a revoked key: that
// condemns the image, as in EDK2.
func judge(sigs []Signature, d Digest, trust Trust) (Report, error) {
	var good *Report
	var errs []error
	for _, s := range sigs {
		r, err := s.verify(d, trust)
		switch {
		case errors.Is(err, ErrRevoked):
			return Report{}, err
		case err != nil:
			errs = append(errs, err)
		case good == nil:
			good = &r
		}
	}
	if good == nil {
		return Report{}, errors.Join(errs...)
	}
	return *good, nil
}

func (s Signature) verify(d Digest, trust Trust) (Report, error) {
	if s.Digest != d {
		return Report{}, fmt.Errorf("%w: image %v, signature %v", ErrDigest, d, s.Digest)
	}
	signer, err := s.data.Verify(0, nil)
	if err != nil {
		return Report{}, err
	}
	if findPath(signer, s.data.Certificates, trust.RevokedCertificates) != nil {
		return Report{}, fmt.Errorf("certificate %q is %w", signer.Subject, ErrRevoked)
	}
	path := findPath(signer, s.data.Certificates, trust.Certificates)
	if path == nil {
		return Report{}, fmt.Errorf("%w: certificate %q", ErrUnknownKey, signer.Subject)
	}
	r := Report{Digest: d, Signer: signer, Anchor: path[len(path)-1]}
	for _, c := range path {
		r.Expired = r.Expired || !trust.At.IsZero() && (trust.At.Before(c.NotBefore) || trust.At.After(c.NotAfter))
	}
	return r, nil
}

// maxPath is the number of certificates from signer to anchor.
const maxPath = 6

// findPath returns the certificates from the signer to the first that is an
// anchor, nil if there is no way. Anchors need not be self-signed and dates do
// not count: firmware sets OpenSSL's partial chain and no-check-time flags.
func findPath(signer *x509.Certificate, included, anchors []*x509.Certificate) []*x509.Certificate {
	path := []*x509.Certificate{signer}
	for len(path) <= maxPath {
		last := path[len(path)-1]
		if slices.ContainsFunc(anchors, last.Equal) {
			return path
		}
		parent := issuer(last, anchors, path)
		if parent == nil {
			parent = issuer(last, included, path)
		}
		if parent == nil {
			return nil
		}
		path = append(path, parent)
	}
	return nil
}

// issuer returns the candidate that signed a certificate and is not on the path.
func issuer(c *x509.Certificate, candidates, path []*x509.Certificate) *x509.Certificate {
	for _, p := range candidates {
		if bytes.Equal(c.RawIssuer, p.RawSubject) && !slices.ContainsFunc(path, p.Equal) && c.CheckSignatureFrom(p) == nil {
			return p
		}
	}
	return nil
}
