package authenticode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/ingot-os/ingot/boot/pe"
)

var le = binary.LittleEndian

// WIN_CERTIFICATE ("PE Format", section "The Attribute Certificate Table").
const (
	certHeaderSize  = 8
	certRevision    = 0x0200
	certPKCS7       = 0x0002
	maxTable        = 4 << 20 // bytes of a certificate table that is read
	maxCertificates = 16      // entries of a table
)

// Attach writes the image with a signature added behind those it has. It
// refuses a signature of another image before it writes anything. CheckSum
// becomes 0, "not computed": the signature does not cover it.
func Attach(w io.Writer, image io.ReaderAt, size int64, p7 []byte) error {
	p, err := planAttach(image, size, p7)
	if err != nil {
		return fmt.Errorf("attach signature: %w", err)
	}
	for _, r := range []io.Reader{
		bytes.NewReader(p.head),
		io.NewSectionReader(image, int64(len(p.head)), size-int64(len(p.head))),
		bytes.NewReader(p.tail),
	} {
		if _, err := io.Copy(w, r); err != nil {
			return fmt.Errorf("attach signature: %w", err)
		}
	}
	return nil
}

// attachPlan is the image as patched headers, what follows them unchanged, and
// what comes behind the end.
type attachPlan struct{ head, tail []byte }

func planAttach(image io.ReaderAt, size int64, p7 []byte) (p attachPlan, err error) {
	f, err := pe.Parse(image, size)
	if err == nil {
		err = isOf(f, image, p7)
	}
	if err != nil {
		return p, err
	}
	entry, checkSum, err := f.CertificateEntry()
	if err != nil {
		return p, err
	}
	table, err := grow(f, image, p7)
	if err != nil {
		return p, err
	}
	p.tail = append(make([]byte, padding(size)), winCertificate(p7)...)
	p.head = make([]byte, f.SizeOfHeaders)
	if n, err := image.ReadAt(p.head, 0); n < len(p.head) {
		return p, err
	}
	le.PutUint32(p.head[checkSum:], 0)
	le.PutUint32(p.head[entry:], table.VirtualAddress)
	le.PutUint32(p.head[entry+4:], table.Size)
	return p, nil
}

// grow returns where the certificate table is and how long with one more
// signature in it.
func grow(f *pe.File, image io.ReaderAt, p7 []byte) (pe.Directory, error) {
	start := f.Size + padding(f.Size)
	if f.Signed() {
		start = int64(f.Certificates.VirtualAddress)
		old, err := Signatures(image, f.Size)
		switch {
		case err != nil:
			return pe.Directory{}, err
		case start%8 != 0 || f.Size%8 != 0:
			return pe.Directory{}, fmt.Errorf("%w: certificate table at %#x..%#x is not aligned to 8 bytes", ErrMalformed, start, f.Size)
		case len(old) == maxCertificates:
			return pe.Directory{}, fmt.Errorf("the image has %d signatures already", len(old))
		}
	}
	end := f.Size + padding(f.Size) + int64(len(winCertificate(p7)))
	if end-start > maxTable || end > math.MaxUint32 {
		return pe.Directory{}, fmt.Errorf("an image of %d bytes, %d of them signatures, is too large", end, end-start)
	}
	return pe.Directory{VirtualAddress: uint32(start), Size: uint32(end - start)}, nil
}

// isOf refuses a signature that is not of this image.
func isOf(f *pe.File, image io.ReaderAt, p7 []byte) error {
	s, err := parseSignature(p7)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(s.PKCS7) != len(p7) {
		return fmt.Errorf("%w: %d bytes behind it", ErrMalformed, len(p7)-len(s.PKCS7))
	}
	d, err := digest(f, image)
	if err != nil {
		return err
	}
	if s.Digest != d {
		return fmt.Errorf("%w: image %v, signature %v", ErrDigest, d, s.Digest)
	}
	return nil
}

// winCertificate wraps a signature as an entry of the table. Its length
// counts the padding to 8 bytes, as signtool's and sbsign's do.
func winCertificate(p7 []byte) []byte {
	n := int64(certHeaderSize + len(p7))
	n += padding(n)
	b := make([]byte, 0, n)
	b = le.AppendUint32(b, uint32(n))
	b = le.AppendUint16(b, certRevision)
	b = le.AppendUint16(b, certPKCS7)
	return append(b, p7...)[:n]
}
