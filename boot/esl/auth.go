package esl

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"
	"unicode/utf16"

	"github.com/ingot-os/ingot/boot/pkcs7"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Fixed values of EFI_VARIABLE_AUTHENTICATION_2 (UEFI 2.10 sections 8.2.2 and 32.2.4).
const (
	timeSize        = 16 // EFI_TIME
	winCertSize     = 24 // WIN_CERTIFICATE_UEFI_GUID up to CertData
	winCertRevision = 0x0200
	winCertEFIGUID  = 0x0ef1
)

// typePKCS7 is EFI_CERT_TYPE_PKCS7_GUID.
var typePKCS7 = gpt.MustGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")

// Update is a new value for an authenticated variable.
type Update struct {
	Name       string
	GUID       gpt.GUID
	Attributes uint32 // Attributes; the firmware refuses an update with others than the variable's
	// Time orders updates: firmware refuses one that is not later than the
	// last, unless it appends. Whole seconds; the zone is UTC.
	Time time.Time
	Data []byte // lists as Marshal encodes them; empty to delete the variable
}

// Message returns the bytes that are signed: name without NUL, GUID,
// attributes, time and data (section 8.2.2).
func (u Update) Message() ([]byte, error) {
	t, err := u.efiTime()
	if err != nil {
		return nil, err
	}
	var b []byte
	for _, c := range utf16.Encode([]rune(u.Name)) {
		b = le.AppendUint16(b, c)
	}
	b = append(b, u.GUID[:]...)
	b = le.AppendUint32(b, u.Attributes)
	b = append(b, t...)
	return append(b, u.Data...), nil
}

// efiTime encodes EFI_TIME with the fields zero that section 8.2.2 wants zero.
func (u Update) efiTime() ([]byte, error) {
	t := u.Time.UTC()
	if t.Year() < 1900 || t.Year() > 9999 { // section 8.3
		return nil, fmt.Errorf("encode update of %s: year %d is not within 1900..9999", u.Name, t.Year())
	}
	b := le.AppendUint16(nil, uint16(t.Year()))
	b = append(b, byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()))
	return append(b, make([]byte, timeSize-len(b))...), nil
}

// Assemble makes the .auth file of a raw signature over Message. It refuses a
// signature that is not by the certificate's key.
func (u Update) Assemble(cert *x509.Certificate, signature []byte) ([]byte, error) {
	message, err := u.Message()
	if err != nil {
		return nil, err
	}
	if err := pkcs7.CheckSignature(cert, message, signature); err != nil {
		return nil, fmt.Errorf("assemble update of %s: %w", u.Name, err)
	}
	// Some firmware wants the bare SignedData; EDK2 takes it with and without
	// the ContentInfo around it.
	p7, err := pkcs7.Message{ContentType: pkcs7.Data, Certificate: cert, Signature: signature, Bare: true}.Marshal()
	if err != nil {
		return nil, fmt.Errorf("assemble update of %s: %w", u.Name, err)
	}
	b, err := u.efiTime()
	if err != nil {
		return nil, err
	}
	b = le.AppendUint32(b, uint32(winCertSize+len(p7)))
	b = le.AppendUint16(b, winCertRevision)
	b = le.AppendUint16(b, winCertEFIGUID)
	b = append(b, typePKCS7[:]...)
	return append(append(b, p7...), u.Data...), nil
}

// Sign makes the .auth file. PK signs PK and KEK, KEK signs db and dbx. The
// same input gives the same bytes.
func (u Update) Sign(signer crypto.Signer, cert *x509.Certificate) ([]byte, error) {
	message, err := u.Message()
	if err != nil {
		return nil, err
	}
	sig, err := pkcs7.SignMessage(signer, cert, message)
	if err != nil {
		return nil, fmt.Errorf("sign update of %s: %w", u.Name, err)
	}
	return u.Assemble(cert, sig)
}

// Auth is a parsed .auth file. It does not say which variable it is for; only
// the signature knows.
type Auth struct {
	Time time.Time
	Data []byte

	signed *pkcs7.SignedData
}

// ParseAuth decodes a .auth file without verifying it.
func ParseAuth(b []byte) (*Auth, error) {
	if len(b) < timeSize+winCertSize || len(b) > maxSize {
		return nil, formatf(0, "EFI_VARIABLE_AUTHENTICATION_2", "%d bytes are not within %d..%d", len(b), timeSize+winCertSize, maxSize)
	}
	t, err := parseTime(b[:timeSize])
	if err != nil {
		return nil, err
	}
	size := int(le.Uint32(b[timeSize:]))
	switch {
	case size < winCertSize || size > len(b)-timeSize:
		return nil, formatf(timeSize, "dwLength", "%d is not within %d..%d", size, winCertSize, len(b)-timeSize)
	case le.Uint16(b[timeSize+4:]) != winCertRevision || le.Uint16(b[timeSize+6:]) != winCertEFIGUID:
		return nil, formatf(timeSize+4, "WIN_CERTIFICATE", "revision %#x, type %#x", le.Uint16(b[timeSize+4:]), le.Uint16(b[timeSize+6:]))
	case gpt.GUID(b[timeSize+8:timeSize+24]) != typePKCS7:
		return nil, formatf(timeSize+8, "CertType", "not PKCS7")
	}
	cert := b[timeSize+winCertSize : timeSize+size]
	p7, err := pkcs7.Parse(cert)
	if err != nil {
		return nil, formatf(timeSize+winCertSize, "CertData", "%v", err)
	}
	if p7.Size != len(cert) || p7.Content != nil || !p7.ContentType.Equal(pkcs7.Data) || len(p7.Signers) != 1 {
		return nil, formatf(timeSize+winCertSize, "CertData", "not one detached signature")
	}
	return &Auth{Time: t, Data: b[timeSize+size:], signed: p7}, nil
}

// parseTime decodes an EFI_TIME and requires the fields to be zero that section
// 8.2.2 wants zero: a changed one would not be covered by what we verify.
func parseTime(b []byte) (time.Time, error) {
	t := time.Date(int(le.Uint16(b)), time.Month(b[2]), int(b[3]), int(b[4]), int(b[5]), int(b[6]), 0, time.UTC)
	again, err := Update{Time: t}.efiTime()
	if err != nil || string(again) != string(b) {
		return t, formatf(0, "TimeStamp", "% x is no time of an update", b)
	}
	return t, nil
}

// Verify checks the signature for a variable and returns the signer's
// certificate. Firmware accepts it if that certificate is enrolled.
func (a *Auth) Verify(name string, guid gpt.GUID, attributes uint32) (*x509.Certificate, error) {
	message, err := Update{Name: name, GUID: guid, Attributes: attributes, Time: a.Time, Data: a.Data}.Message()
	if err != nil {
		return nil, err
	}
	cert, err := a.signed.Verify(0, message)
	if err != nil {
		return nil, fmt.Errorf("verify update of %s: %w", name, err)
	}
	return cert, nil
}
