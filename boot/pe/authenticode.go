package pe

import (
	"crypto"
	// The three hashes that TPM banks and signatures use.
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"io"
)

// Authenticode returns the digest of an image that signatures cover and that
// firmware extends into PCR 4, by SHA-1, SHA-256 or SHA-384 (or any other hash
// that the program links in).
//
// The rule is that of EDK2 and of "Windows Authenticode Portable Executable
// Signature Format" (2008), "Calculating the PE Image Hash": headers without
// CheckSum and the certificate directory entry; sections that have raw data in
// order of file offset; then the file from offset S = SizeOfHeaders + sum of
// the raw sizes up to the certificate table. S is not the end of the last
// section: in a file with gaps the last bytes are hashed twice, by firmware
// and by sbsign alike.
//
// The bytes are taken as they are. A signing tool first pads the file to a
// multiple of 8 bytes, so a file of another length gets another digest once it
// is signed; AppendSections always pads.
func Authenticode(r io.ReaderAt, size int64, hash crypto.Hash) ([]byte, error) {
	if !hash.Available() {
		return nil, fmt.Errorf("hash image: %v is not available", hash)
	}
	h := hash.New()
	if err := WriteAuthenticode(h, r, size); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// WriteAuthenticode writes to w the bytes that the Authenticode digest covers,
// so that several digests need one read: give io.MultiWriter of the hashes.
func WriteAuthenticode(w io.Writer, r io.ReaderAt, size int64) error {
	f, err := Parse(r, size)
	if err != nil {
		return err
	}
	spans, err := f.hashed()
	if err != nil {
		return err
	}
	for _, s := range spans {
		if _, err := io.Copy(w, io.NewSectionReader(r, s.off, s.end-s.off)); err != nil {
			return fmt.Errorf("hash image: %w", err)
		}
	}
	return nil
}

type span struct{ off, end int64 }

// hashed lists the parts of the file that the digest covers, in order.
func (f *File) hashed() ([]span, error) {
	checkSum := f.optional + offCheckSum
	spans := []span{{0, checkSum}}
	at := checkSum + 4
	if len(f.Directories) > dirCertificates {
		entry := f.dirs + dirCertificates*directorySize
		spans = append(spans, span{at, entry})
		at = entry + directorySize
	}
	spans = append(spans, span{at, int64(f.SizeOfHeaders)})
	sum := int64(f.SizeOfHeaders)
	for _, s := range f.inFileOrder() {
		spans = append(spans, span{int64(s.Offset), int64(s.Offset) + int64(s.RawSize)})
		sum += int64(s.RawSize)
	}
	end := f.Size - int64(f.Certificates.Size)
	if f.Signed() && int64(f.Certificates.VirtualAddress) != end {
		// Firmware subtracts the table's length from the file's without
		// looking where the table is; data behind it would be read two ways.
		return nil, formatf(f.dirs+dirCertificates*directorySize, "Certificate Table", "does not end where the file ends")
	}
	if sum > end {
		return nil, formatf(f.table, "SizeOfRawData", "headers and sections are %#x bytes, the file without certificates %#x", sum, end)
	}
	return append(spans, span{sum, end}), nil
}
