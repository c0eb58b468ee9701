// Package trust reads the public keys that an appliance is given (the key
// trust: of a recipe): what firmware enrols for Secure Boot, whose signatures
// on releases count and how many of them, and the authorities of the management
// connections. It holds no secret and refuses files that do.
//
// A file is a certificate or a public key, in PEM or DER, or for the keys of
// firmware an EFI signature list as package esl reads it. Files are at most
// 1 MiB, a directory has at most 1000. Dates are looked at by Expired only:
// firmware looks at none.
//
// Shape of use:
//
//	a, problems := trust.Read(trust.Exported(), func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) })
//	spec.Trust = a.Spec()                   // into the image
//	a, err := trust.Parse(spec.Trust)       // out of it
//	k, ok := a.SecureBootKeys()             // for varstore.Store.EnrollSecureBoot
package trust

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Anchors are the public keys of a fleet. PK, KEK and DB are there together or
// not at all.
type Anchors struct {
	Owner     gpt.GUID            // in signature lists; PCR 7 measures it
	PK, KEK   *x509.Certificate   // of firmware: who may change KEK, who may change db
	DB        []*x509.Certificate // whose boot files firmware starts
	Image     []crypto.PublicKey  // whose signatures on manifests count
	Threshold int                 // how many different ones of Image are needed; at least 1
	Fleet     *x509.Certificate   // root of the management connections; nil when there is none
	Operator  *x509.Certificate   // authority of operators, who may update a machine; nil: nobody may
	Server    []*x509.Certificate // authorities of servers
	Policy    crypto.PublicKey    // signs the PCR values that unseal a data key; nil when there is none
}

// Problem is one thing that is wrong with the keys.
type Problem struct {
	Field string // "pk", "db[1]", "threshold"
	File  string // as Files names it; empty when it is about no file
	Msg   string
	Hint  string
}

// Error implements error.
func (p Problem) Error() string {
	if p.File == "" {
		return fmt.Sprintf("%s: %s", p.Field, p.Msg)
	}
	return fmt.Sprintf("%s: %s %s", p.Field, p.File, p.Msg)
}

// Problems are all that Read found.
type Problems []Problem

// Err is nil without problems.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Error implements error: one line each.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Hint is the first one that there is.
func (ps Problems) Hint() string {
	for _, p := range ps {
		if p.Hint != "" {
			return p.Hint
		}
	}
	return ""
}

// Owner derives the owner GUID of a fleet from its platform key (RFC 9562
// version 8), so that the same key always gives the same signature lists.
func Owner(pk *x509.Certificate) gpt.GUID {
	sum := sha256.Sum256(append([]byte("ingot secure boot owner\x00"), pk.RawSubjectPublicKeyInfo...))
	u := [16]byte(sum[:16])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return gpt.FromUUID(u)
}

// SecureBootKeys returns what a variable store is enrolled with; ok is false
// when there are no keys for firmware.
func (a *Anchors) SecureBootKeys() (k varstore.SecureBootKeys, ok bool) {
	if a.PK == nil || a.KEK == nil || len(a.DB) == 0 {
		return k, false
	}
	list := func(certs ...*x509.Certificate) []byte {
		var all []esl.List
		for _, c := range certs {
			all = append(all, esl.Certificate(a.Owner, c))
		}
		return esl.Marshal(all)
	}
	return varstore.SecureBootKeys{PK: list(a.PK), KEK: list(a.KEK), DB: list(a.DB...)}, true
}

// Spec is the form that an image carries.
func (a *Anchors) Spec() *appliance.Trust {
	s := &appliance.Trust{Threshold: a.Threshold}
	if a.PK != nil {
		s.Owner, s.PK, s.KEK = a.Owner.String(), a.PK.Raw, a.KEK.Raw
	}
	for _, c := range a.DB {
		s.DB = append(s.DB, c.Raw)
	}
	for _, k := range a.Image {
		s.Image = append(s.Image, publicDER(k))
	}
	if a.Fleet != nil {
		s.Fleet = a.Fleet.Raw
	}
	if a.Operator != nil {
		s.Operator = a.Operator.Raw
	}
	for _, c := range a.Server {
		s.Server = append(s.Server, c.Raw)
	}
	if a.Policy != nil {
		s.Policy = publicDER(a.Policy)
	}
	return s
}

// publicDER is the SubjectPublicKeyInfo of a key that was parsed from one.
func publicDER(key crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic("trust: " + err.Error()) // only kinds that marshal are accepted
	}
	return der
}

// Parse reads what Spec wrote, with the rules of Read.
func Parse(s *appliance.Trust) (*Anchors, error) {
	files, data := Files{Owner: s.Owner, Threshold: s.Threshold}, map[string][]byte{}
	name := func(field string, der []byte) string {
		if len(der) == 0 {
			return ""
		}
		data[field] = der
		return field
	}
	names := func(field string, ders [][]byte) (list []string) {
		for i, der := range ders {
			list = append(list, name(fmt.Sprintf("%s[%d]", field, i), der))
		}
		return list
	}
	files.PK, files.KEK, files.DB = name("pk", s.PK), name("kek", s.KEK), names("db", s.DB)
	files.Image, files.Policy = names("image", s.Image), name("policy", s.Policy)
	files.Fleet, files.Operator, files.Server = name("fleet", s.Fleet), name("operator", s.Operator), names("server", s.Server)
	a, problems := Read(files, func(name string) ([]byte, error) { return data[name], nil })
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("read trust of the image: %w", err)
	}
	return a, nil
}

// Expired lists the certificates whose last day is before t. They still boot:
// firmware knows no dates, management connections do.
func (a *Anchors) Expired(t time.Time) (list Problems) {
	a.certificates(func(field string, c *x509.Certificate) {
		if t.After(c.NotAfter) {
			list = append(list, Problem{Field: field, Msg: "expired on " + c.NotAfter.UTC().Format(time.DateOnly), Hint: "make new keys, and an image that carries the old ones and the new ones"})
		}
	})
	return list
}

// Test tells whether a certificate is marked TEST, as those of a test key set are.
func (a *Anchors) Test() (found bool) {
	a.certificates(func(_ string, c *x509.Certificate) {
		for _, word := range strings.Fields(c.Subject.CommonName) {
			found = found || word == "TEST"
		}
	})
	return found
}

func (a *Anchors) certificates(visit func(field string, c *x509.Certificate)) {
	one := func(field string, c *x509.Certificate) {
		if c != nil {
			visit(field, c)
		}
	}
	many := func(field string, list []*x509.Certificate) {
		for i, c := range list {
			visit(fmt.Sprintf("%s[%d]", field, i), c)
		}
	}
	one("pk", a.PK)
	one("kek", a.KEK)
	many("db", a.DB)
	one("fleet", a.Fleet)
	one("operator", a.Operator)
	many("server", a.Server)
}
