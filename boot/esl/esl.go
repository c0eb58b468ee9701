// Package esl encodes and decodes the contents of the Secure Boot variables
// PK, KEK, db and dbx: EFI signature lists (UEFI 2.10 section 32.4.1) of
// certificates and image hashes, and the signed updates that firmware accepts
// for them (section 8.2.2, EFI_VARIABLE_AUTHENTICATION_2), known as .auth files.
//
// Only RSA with SHA-256 signs updates. Lists of other types are kept as they
// are. Input is limited to 1 MiB and 4096 signatures. Authenticated updates are
// read without verifying them beyond Auth.Verify: which key may update which
// variable is for firmware to say.
//
// Shape of use:
//
//	lists := []esl.List{esl.Certificate(owner, dbCert)}
//	data := esl.Marshal(lists)                                   // db.esl
//	u := esl.Update{Name: "db", GUID: efivar.ImageSecurity, Attributes: esl.Attributes, Time: t, Data: data}
//	auth, err := u.Sign(kekKey, kekCert)                         // db.auth
//	lists, err = esl.Parse(data)
package esl

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/partition/gpt"
)

var le = binary.LittleEndian

// Types of signature lists (UEFI 2.10 section 32.4.1).
var (
	TypeX509   = gpt.MustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072") // EFI_CERT_X509_GUID: DER
	TypeSHA256 = gpt.MustGUID("c1c41626-504c-4092-aca9-41f936934328") // EFI_CERT_SHA256_GUID: of an image
)

// Attributes is what PK, KEK, db and dbx have (section 32.3).
const Attributes = efivar.NonVolatile | efivar.BootServiceAccess | efivar.RuntimeAccess | efivar.TimeAuthentication

// Sizes in bytes of the structures.
const (
	listHeaderSize = 28 // EFI_SIGNATURE_LIST up to SignatureHeader
	ownerSize      = 16 // EFI_SIGNATURE_DATA up to the data
)

// Limits on input.
const (
	maxSize       = 1 << 20
	maxSignatures = 4096
)

// FormatError says where a value is malformed.
type FormatError struct {
	Off   int64  // offset in bytes from the start of the value
	Field string // the field's name in the specification
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("signature list: offset %#x, %s: %s", e.Off, e.Field, e.Msg)
}

func formatf(off int, field, format string, args ...any) error {
	return &FormatError{Off: int64(off), Field: field, Msg: fmt.Sprintf(format, args...)}
}

// List is one EFI_SIGNATURE_LIST. All its signatures are of one length, so each
// certificate has a list of its own.
type List struct {
	Type       gpt.GUID
	Header     []byte // empty for all types that exist
	Signatures []Signature
}

// Signature is one EFI_SIGNATURE_DATA.
type Signature struct {
	Owner gpt.GUID // who enrolled it; informative, but PCR 7 measures it
	Data  []byte
}

// Certificate returns a list that trusts, or in dbx revokes, one certificate.
func Certificate(owner gpt.GUID, cert *x509.Certificate) List {
	return List{Type: TypeX509, Signatures: []Signature{{owner, cert.Raw}}}
}

// Hashes returns a list of images by the SHA-256 that package authenticode
// computes.
func Hashes(owner gpt.GUID, digests ...[sha256.Size]byte) List {
	l := List{Type: TypeSHA256}
	for _, d := range digests {
		l.Signatures = append(l.Signatures, Signature{owner, d[:]})
	}
	return l
}

// Certificates returns the certificates of all lists. A list of TypeX509 that
// holds something else is an error.
func Certificates(lists []List) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, l := range lists {
		if l.Type != TypeX509 {
			continue
		}
		for _, s := range l.Signatures {
			c, err := x509.ParseCertificate(s.Data)
			if err != nil {
				return nil, fmt.Errorf("read signature list: certificate of owner %v: %w", s.Owner, err)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// Marshal encodes lists one after another, as a variable holds them. It panics
// when the signatures of a list differ in length: nothing could read that.
func Marshal(lists []List) []byte {
	var b []byte
	for _, l := range lists {
		if len(l.Signatures) == 0 {
			continue
		}
		size := ownerSize + len(l.Signatures[0].Data)
		b = append(b, l.Type[:]...)
		b = le.AppendUint32(b, uint32(listHeaderSize+len(l.Header)+size*len(l.Signatures)))
		b = le.AppendUint32(b, uint32(len(l.Header)))
		b = le.AppendUint32(b, uint32(size))
		b = append(b, l.Header...)
		for _, s := range l.Signatures {
			if ownerSize+len(s.Data) != size {
				panic(fmt.Sprintf("esl: signatures of %d and %d bytes in one list", size, ownerSize+len(s.Data)))
			}
			b = append(append(b, s.Owner[:]...), s.Data...)
		}
	}
	return b
}

// Parse decodes the content of a variable. The lists share memory with b.
func Parse(b []byte) ([]List, error) {
	if len(b) > maxSize {
		return nil, formatf(0, "EFI_SIGNATURE_LIST", "%d bytes are more than %d", len(b), maxSize)
	}
	var out []List
	count := 0
	for off := 0; off < len(b); {
		l, size, err := parseList(b, off)
		if err != nil {
			return nil, err
		}
		if count += len(l.Signatures); count > maxSignatures {
			return nil, formatf(off, "EFI_SIGNATURE_LIST", "more than %d signatures", maxSignatures)
		}
		out = append(out, l)
		off += size
	}
	return out, nil
}

func parseList(all []byte, off int) (l List, size int, err error) {
	b := all[off:]
	if len(b) < listHeaderSize {
		return l, 0, formatf(off, "EFI_SIGNATURE_LIST", "truncated")
	}
	size = int(le.Uint32(b[16:]))
	header, each := int(le.Uint32(b[20:])), int(le.Uint32(b[24:]))
	room := size - listHeaderSize - header
	switch {
	case size < listHeaderSize || size > len(b):
		return l, 0, formatf(off+16, "SignatureListSize", "%d is not within %d..%d", size, listHeaderSize, len(b))
	case room < 0:
		return l, 0, formatf(off+20, "SignatureHeaderSize", "%d is more than the list's %d bytes", header, size)
	case each <= ownerSize || room%each != 0 || room == 0:
		return l, 0, formatf(off+24, "SignatureSize", "%d does not divide the list's %d bytes", each, room)
	case room/each > maxSignatures:
		return l, 0, formatf(off+24, "SignatureSize", "more than %d signatures", maxSignatures)
	}
	l.Type = gpt.GUID(b[:16])
	l.Header = b[listHeaderSize : listHeaderSize+header]
	for at := listHeaderSize + header; at < size; at += each {
		l.Signatures = append(l.Signatures, Signature{gpt.GUID(b[at : at+ownerSize]), b[at+ownerSize : at+each]})
	}
	return l, size, nil
}
