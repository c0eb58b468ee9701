package attest

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest/quote"
)

// Object identifiers (TCG EK Credential Profile sections 3.1.1 and 3.1.2;
// RFC 5280 section 4.2.1.6).
var (
	oidEKCertificate   = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidManufacturer    = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidModel           = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidVersion         = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidSubjectAltName  = asn1.ObjectIdentifier{2, 5, 29, 17}
	directoryNameInSAN = 4 // the tag of GeneralName.directoryName
)

// Roots are what a site trusts about the makers of TPMs.
type Roots struct {
	Roots         []*x509.Certificate
	Intermediates []*x509.Certificate
	// Revoked are the SHA-256 of certificates, of keys or of issuers.
	Revoked [][sha256.Size]byte
	// Denied are kinds of TPMs that are not accepted, whoever vouches.
	Denied []Model
}

// Model is what a certificate says about a TPM. In a denial an empty field
// matches all.
type Model struct {
	Manufacturer string `json:"manufacturer,omitempty"` // "id:49465800" for Infineon
	Name         string `json:"model,omitempty"`
	Version      string `json:"version,omitempty"` // of the firmware: "id:00040001"
}

func (m Model) matches(x Model) bool {
	return (m.Manufacturer == "" || strings.EqualFold(m.Manufacturer, x.Manufacturer)) &&
		(m.Name == "" || m.Name == x.Name) && (m.Version == "" || strings.EqualFold(m.Version, x.Version))
}

// Certified is what came of a certificate.
type Certified struct {
	Chained bool   `json:"chained,omitempty"` // it leads to a configured root
	Model   Model  `json:"model,omitzero"`    // what it says about the TPM
	Issuer  string `json:"issuer,omitempty"`  // of the certificate
	Why     string `json:"why,omitempty"`     // it is not chained, for an operator
}

// Chain checks the certificate of an endorsement key: about this key, of the
// right kind, in its time, not revoked. One that leads to no configured root is
// no error: an operator may vouch for the key.
func (r *Roots) Chain(der []byte, ek *quote.Public, now time.Time) (c Certified, err error) {
	if now.IsZero() { // the library would take the host's clock
		return c, enrolf(EKCertificate, "no time is given")
	}
	if len(der) > maxCertificate {
		return c, enrolf(EKCertificate, "%d bytes are more than %d", len(der), maxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return c, enrolf(EKCertificate, "%v", err)
	}
	c.Issuer = cut(cert.Issuer.String())
	if c.Model, err = model(cert); err != nil {
		return c, enrolf(EKCertificate, "subject alternative name: %v", err)
	}
	switch {
	case !ek.Same(cert):
		return c, enrolf(EKCertificate, "the certificate is about another key")
	case !slices.ContainsFunc(cert.UnknownExtKeyUsage, oidEKCertificate.Equal):
		return c, enrolf(EKCertificate, "the certificate is not one of an endorsement key (no extended key usage %s)", oidEKCertificate)
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return c, enrolf(EKCertificate, "valid from %s until %s", cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
	}
	for _, d := range r.Denied {
		if d.matches(c.Model) {
			return c, enrolf(TPMDenied, "%+v is on the list of denied TPMs", c.Model)
		}
	}
	return c, r.verify(cert, now, &c)
}

// verify looks for a chain, and for a revoked certificate in it.
func (r *Roots) verify(cert *x509.Certificate, now time.Time, c *Certified) error {
	if r.revoked(cert) {
		return enrolf(EKRevoked, "the certificate is revoked")
	}
	// The name in a certificate for a key without a subject is critical (RFC
	// 5280), and a directory name, which the library does not read. We have.
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, oidSubjectAltName.Equal)
	chains, err := cert.Verify(x509.VerifyOptions{Roots: pool(r.Roots), Intermediates: pool(r.Intermediates),
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		c.Why = cut(err.Error())
		return nil
	}
	for _, chain := range chains {
		if !slices.ContainsFunc(chain, r.revoked) {
			c.Chained = true
			return nil
		}
	}
	return enrolf(EKRevoked, "an issuer of the certificate is revoked")
}

func (r *Roots) revoked(cert *x509.Certificate) bool {
	return slices.Contains(r.Revoked, sha256.Sum256(cert.Raw)) || slices.Contains(r.Revoked, sha256.Sum256(cert.RawSubjectPublicKeyInfo))
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool() // an empty one: nil would be the host's own roots
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// model reads the directory name in the subject alternative name. Some makers
// put each attribute into a set of its own, some all into one.
func model(cert *x509.Certificate) (m Model, err error) {
	for _, x := range cert.Extensions {
		if !x.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(x.Value, &names); err != nil || len(rest) > 0 {
			return m, errors.Join(err, fmt.Errorf("%d bytes are left", len(rest)))
		}
		for _, n := range names {
			var sets []pkix.RelativeDistinguishedNameSET
			if n.Class != asn1.ClassContextSpecific || n.Tag != directoryNameInSAN {
				continue
			}
			if _, err := asn1.Unmarshal(n.Bytes, &sets); err != nil {
				return m, err
			}
			for _, a := range slices.Concat(sets...) {
				m.set(a)
			}
		}
	}
	return m, nil
}

func (m *Model) set(a pkix.AttributeTypeAndValue) {
	s, _ := a.Value.(string)
	s = cut(s)
	switch {
	case a.Type.Equal(oidManufacturer):
		m.Manufacturer = s
	case a.Type.Equal(oidModel):
		m.Name = s
	case a.Type.Equal(oidVersion):
		m.Version = s
	}
}

// cut bounds what is kept of words that nobody has vouched for, in bytes.
func cut(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
