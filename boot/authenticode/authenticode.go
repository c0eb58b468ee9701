// Package authenticode signs PE images for UEFI Secure Boot and verifies them,
// after "Windows Authenticode Portable Executable Signature Format" (2008),
// UEFI 2.10 section 32.5 and what EDK2's DxeImageVerificationLib does.
//
// A signature holds the image's SHA-256 (package pe), the signer's certificate
// and an RSA PKCS #1 v1.5 signature; no signing time, so the same image and
// key give the same bytes. Several signatures may stand in one image; an image
// is good when one of them is. Verify decides as firmware does, with one
// difference: it judges only SHA-256.
//
// Signing can be split, so that the key never meets the image. Sign is those
// steps in a row, so both ways give the same bytes:
//
//	req, err := authenticode.NewRequest(image, size)        // where the image is
//	sig, err := pkcs7.SignMessage(key, cert, req.Message)   // where the key is; any RSA SHA-256 signer will do
//	p7, err := authenticode.Assemble(req.Digest, cert, sig) // needs neither
//	err = authenticode.Attach(w, image, size, p7)
//	report, err := authenticode.Verify(image, size, authenticode.Trust{Certificates: db})
package authenticode

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/pkcs7"
)

// Digest is the SHA-256 of an image as signatures cover it.
type Digest [sha256.Size]byte

// String returns the digest in lower-case hexadecimal.
func (d Digest) String() string { return fmt.Sprintf("%x", d[:]) }

// Request is what the holder of a key must see to sign an image.
type Request struct {
	Digest  Digest // of the image, padded to 8 bytes
	Message []byte // the bytes to sign with RSA PKCS #1 v1.5 and SHA-256
}

// NewRequest reads an image of size bytes, unsigned or signed, and refuses one
// that should not be signed: truncated, ambiguous, or without room in its
// headers. Errors about the content are *pe.FormatError.
func NewRequest(image io.ReaderAt, size int64) (Request, error) {
	f, err := pe.Parse(image, size)
	if err == nil {
		err = checkMeaning(f)
	}
	if err == nil {
		_, _, err = f.CertificateEntry()
	}
	if err != nil {
		return Request{}, fmt.Errorf("request signature: %w", err)
	}
	d, err := digest(f, image)
	if err != nil {
		return Request{}, fmt.Errorf("request signature: %w", err)
	}
	return Request{d, SignedAttributes(d)}, nil
}

// checkMeaning refuses two sections of one name, and for a UKI all that
// pe.File.CheckUKI does.
func checkMeaning(f *pe.File) error {
	if f.Section(".linux") != nil {
		return f.CheckUKI()
	}
	seen := map[string]bool{}
	for _, s := range f.Sections {
		if seen[s.Name] {
			return &pe.FormatError{Off: int64(s.Offset), Field: "Name", Msg: fmt.Sprintf("second section named %q", s.Name)}
		}
		seen[s.Name] = true
	}
	return nil
}

// digest returns the Authenticode digest. That of an unsigned image counts the
// zeros that signing puts behind it to make its length a multiple of 8.
func digest(f *pe.File, image io.ReaderAt) (d Digest, err error) {
	h := sha256.New()
	if err := pe.WriteAuthenticode(h, image, f.Size); err != nil {
		return d, err
	}
	if !f.Signed() {
		h.Write(make([]byte, padding(f.Size)))
	}
	return Digest(h.Sum(nil)), nil
}

// padding is the number of bytes from n to the next multiple of 8.
func padding(n int64) int64 { return -n & 7 }

// spcIndirectData is the content type of all Authenticode signatures.
var spcIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}

var (
	spcPEImageData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
	oidSHA256      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// peImageData is SpcPeImageData without anything to say: no flags, and a file
// link [0] { [2] { [0] "" } }, an empty Unicode string. Other signers put
// "<<<Obsolete>>>" there; nothing reads it.
var peImageData = []byte{0x30, 9, 0x03, 1, 0, 0xa0, 4, 0xa2, 2, 0x80, 0}

// content encodes SpcIndirectDataContent. EDK2 finds the digest by taking the
// last 32 bytes, so it must end the structure.
func content(d Digest) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(spcPEImageData)
			b.AddBytes(peImageData)
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidSHA256)
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(d[:])
		})
	})
	return b.BytesOrPanic()
}

// SignedAttributes returns the exact bytes whose SHA-256 is signed for an
// image of that digest. They depend on nothing else.
func SignedAttributes(d Digest) []byte {
	// The message digest covers the content without its tag and length
	// (RFC 2315 section 9.3), here two bytes.
	inner := sha256.Sum256(content(d)[2:])
	return pkcs7.Attributes(spcIndirectData, inner[:])
}

// Assemble makes the PKCS #7 structure of a raw signature over
// SignedAttributes(d). It refuses a signature that is not by the certificate's
// key.
func Assemble(d Digest, cert *x509.Certificate, signature []byte) ([]byte, error) {
	attrs := SignedAttributes(d)
	if err := pkcs7.CheckSignature(cert, attrs, signature); err != nil {
		return nil, fmt.Errorf("assemble signature: %w", err)
	}
	m := pkcs7.Message{ContentType: spcIndirectData, Content: content(d), Attributes: attrs, Certificate: cert, Signature: signature}
	return m.Marshal()
}

// Sign writes the signed image to w. It calls the signer once, with no source
// of randomness. Nothing is written when it refuses.
func Sign(w io.Writer, image io.ReaderAt, size int64, signer crypto.Signer, cert *x509.Certificate) error {
	req, err := NewRequest(image, size)
	if err != nil {
		return err
	}
	sig, err := pkcs7.SignMessage(signer, cert, req.Message)
	if err != nil {
		return fmt.Errorf("sign image: %w", err)
	}
	p7, err := Assemble(req.Digest, cert, sig)
	if err != nil {
		return err
	}
	return Attach(w, image, size, p7)
}

// Errors of Verify, to be tested with errors.Is.
var (
	// ErrUnsigned: the image carries no signature.
	ErrUnsigned = errors.New("image has no signature")
	// ErrMalformed: a signature cannot be read.
	ErrMalformed = errors.New("malformed signature")
	// ErrDigest: a signature is of another image, or the image was changed.
	ErrDigest = errors.New("image differs from what was signed")
	// ErrSignature: the signature was changed or is not by its certificate.
	ErrSignature = pkcs7.ErrSignature
	// ErrUnknownKey: a signature holds but leads to no trusted certificate.
	ErrUnknownKey = errors.New("signed by a key that is not trusted")
	// ErrRevoked: the image's digest or the signer's certificate is revoked.
	ErrRevoked = errors.New("revoked")
)
