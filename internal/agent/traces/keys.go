package traces

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/boot/pe"
)

// keys are the signatures of db or dbx.
type keys struct {
	certs  [][]byte // DER
	hashes [][]byte // SHA-256 of images
}

// Types of signature lists (UEFI 2.10 section 32.4.1) as they lie in memory: the
// first three fields of a GUID are little endian.
var (
	typeX509   = []byte("\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72")
	typeSHA256 = []byte("\x26\x16\xc4\xc1\x4c\x50\x92\x40\xac\xa9\x41\xf9\x36\x93\x43\x28")
)

// signatures reads EFI_SIGNATURE_LISTs: type (16), size of the list (4), of its
// header (4), of each signature (4); a signature is its owner (16) and the data.
// What does not hold ends it: firmware stops there, too.
func signatures(b []byte) (k keys) {
	const header, owner = 28, 16
	for len(b) >= header {
		size, head, each := int(binary.LittleEndian.Uint32(b[16:])), int(binary.LittleEndian.Uint32(b[20:])), int(binary.LittleEndian.Uint32(b[24:]))
		if size < header || size > len(b) || head > size-header || each <= owner {
			return k
		}
		for s := b[header+head : size]; len(s) >= each; s = s[each:] {
			switch data := s[owner:each]; {
			case bytes.Equal(b[:16], typeX509):
				k.certs = append(k.certs, data)
			case bytes.Equal(b[:16], typeSHA256):
				k.hashes = append(k.hashes, data)
			}
		}
		b = b[size:]
	}
	return k
}

func (k keys) hasHash(digest []byte) bool {
	for _, h := range k.hashes {
		if bytes.Equal(h, digest) {
			return true
		}
	}
	return false
}

// signs says whether one of the certificates of a signature is among the keys, or
// was issued by one of them as far as its name says.
func (k keys) signs(certs [][]byte) bool {
	for _, have := range certs {
		issuer, subject := names(have)
		for _, want := range k.certs {
			_, authority := names(want)
			if bytes.Equal(have, want) || len(issuer) > 0 && bytes.Equal(issuer, authority) && !bytes.Equal(issuer, subject) {
				return true
			}
		}
	}
	return false
}

// maxTable bounds the certificate table of a boot file, in bytes.
const maxTable = 1 << 20

// certificateTable returns the PKCS #7 structures of a PE file: WIN_CERTIFICATE
// is length (4), revision (2), type (2; 2 is PKCS #7), data, each padded to 8.
func certificateTable(file io.ReaderAt, size int64, image *pe.File) ([][]byte, error) {
	at, n := int64(image.Certificates.VirtualAddress), int64(image.Certificates.Size)
	if n == 0 {
		return nil, nil
	}
	if n > maxTable || at+n > size {
		return nil, errors.New("the boot file's certificate table is not within it")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(file, at, n), b); err != nil {
		return nil, fmt.Errorf("read certificate table: %w", err)
	}
	var out [][]byte
	for len(b) >= 8 {
		length := int(binary.LittleEndian.Uint32(b))
		if length < 8 || length > len(b) {
			break
		}
		if binary.LittleEndian.Uint16(b[6:]) == 2 {
			out = append(out, b[8:length])
		}
		b = b[min((length+7)&^7, len(b)):]
	}
	return out, nil
}

// DER tags that are looked for (X.690).
const (
	tagSequence = 0x30
	tagContext0 = 0xa0
)

// element takes the first element off DER: its tag, all its bytes, its content,
// and what follows. ok is false when there is none.
func element(b []byte) (tag byte, whole, content, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, nil, nil, false
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		digits := n & 0x7f
		if digits == 0 || digits > 3 || len(b) < 2+digits {
			return 0, nil, nil, nil, false
		}
		n, head = 0, 2+digits
		for _, d := range b[2:head] {
			n = n<<8 | int(d)
		}
	}
	if n > len(b)-head {
		return 0, nil, nil, nil, false
	}
	return b[0], b[:head+n], b[head : head+n], b[head+n:], true
}

// child is the content of the i-th element within content; nil when there is
// none or it has another tag.
func child(content []byte, i int, want byte) []byte {
	for ; ; i-- {
		tag, _, inner, rest, ok := element(content)
		if !ok {
			return nil
		}
		if i == 0 {
			if tag != want {
				return nil
			}
			return inner
		}
		content = rest
	}
}

// embedded returns the certificates of a PKCS #7 SignedData, with or without the
// ContentInfo around it (RFC 2315 sections 7 and 9.1; EDK2 takes both).
func embedded(p7 []byte) [][]byte {
	signed := child(p7, 0, tagSequence)
	if inner := child(signed, 1, tagContext0); inner != nil {
		signed = child(inner, 0, tagSequence)
	}
	certs := child(signed, 3, tagContext0) // after version, digestAlgorithms, contentInfo
	var out [][]byte
	for {
		_, whole, _, rest, ok := element(certs)
		if !ok {
			return out
		}
		out, certs = append(out, whole), rest
	}
}

// names returns issuer and subject of a certificate, as they are encoded: fields
// of TBSCertificate after version, serialNumber and signature (RFC 5280 section
// 4.1). A certificate without a version, of X.509 version 1, has one field less.
func names(cert []byte) (issuer, subject []byte) {
	tbs := child(child(cert, 0, tagSequence), 0, tagSequence)
	skip := 2
	if child(tbs, 0, tagContext0) != nil {
		skip = 3
	}
	return child(tbs, skip, tagSequence), child(tbs, skip+2, tagSequence)
}
