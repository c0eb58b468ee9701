package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/internal/pemfile"
	"github.com/ingot-os/ingot/partition/gpt"
)

// MaxFile bounds a file of keys in bytes.
const MaxFile = 1 << 20

// exportHint is how to get the public half of a key set.
const exportHint = "ingot keys export writes the public half of a key set into a directory"

// Files name the files of one set of keys; empty means none.
type Files struct {
	PK, KEK   string
	DB, Image []string
	Threshold int // 0 means 1
	Fleet     string
	Operator  string
	Server    []string
	Policy    string
	Owner     string // GUID; empty: of the signature list of PK, else derived from PK

	dir bool // a directory: what is missing is left out
}

// Exported names the files of a directory that ingot keys export has written.
func Exported() Files {
	return Files{
		PK: "PK.esl", KEK: "KEK.esl", DB: []string{"db.esl"}, Image: []string{"image.pem"},
		Fleet: "fleet.pem", Operator: "operator.pem", Server: []string{"server.pem"}, Policy: "policy.pem", dir: true,
	}
}

// All lists the files that are named, in the order of the fields.
func (f Files) All() []string {
	var out []string
	for _, list := range [][]string{{f.PK, f.KEK}, f.DB, f.Image, {f.Fleet, f.Operator}, f.Server, {f.Policy}} {
		for _, name := range list {
			if name != "" {
				out = append(out, name)
			}
		}
	}
	return out
}

// Read reads and checks keys; read gives the content of a file. All that is
// wrong comes back at once, and then the keys are of no use.
func Read(files Files, read func(name string) ([]byte, error)) (*Anchors, Problems) {
	r := &reader{files: files, read: read}
	a := &Anchors{Threshold: max(files.Threshold, 1)}
	a.PK, a.KEK = one(r.firmware("pk", files.PK)), one(r.firmware("kek", files.KEK))
	for i, name := range files.DB {
		a.DB = append(a.DB, r.firmware(index("db", i), name)...)
	}
	for i, name := range files.Image {
		if k := r.public(index("image", i), name); k != nil {
			a.Image = append(a.Image, k)
		}
	}
	a.Fleet = r.authority("fleet", files.Fleet)
	a.Operator = r.authority("operator", files.Operator)
	for i, name := range files.Server {
		if c := r.authority(index("server", i), name); c != nil {
			a.Server = append(a.Server, c)
		}
	}
	a.Policy = r.policy(files.Policy)
	r.whole(a)
	return a, r.problems
}

func index(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// one is the certificate of PK or KEK.
func one(list []*x509.Certificate) *x509.Certificate {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

type reader struct {
	files    Files
	read     func(string) ([]byte, error)
	owner    *gpt.GUID // of the signature lists
	problems Problems
}

func (r *reader) add(field, file, hint, format string, args ...any) {
	r.problems = append(r.problems, Problem{Field: field, File: file, Msg: fmt.Sprintf(format, args...), Hint: hint})
}

// content is nil for a file that is not named, or that cannot be used.
func (r *reader) content(field, name string) []byte {
	if name == "" {
		return nil
	}
	data, err := r.read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && r.files.dir:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		r.add(field, name, "paths are relative to the recipe", "does not exist")
	case err != nil:
		r.add(field, name, "name a file with one certificate or public key; a directory goes under keys:", "cannot be read: %v", err)
	case len(data) == 0 || len(data) > MaxFile:
		r.add(field, name, exportHint, "has %d bytes: not a certificate or a public key", len(data))
	case Private(name, data):
		r.add(field, name, exportHint, "holds a private key, which no image may carry")
	default:
		return data
	}
	return nil
}

// firmware reads certificates that firmware enrols.
func (r *reader) firmware(field, name string) []*x509.Certificate {
	data := r.content(field, name)
	if data == nil {
		return nil
	}
	certs, owner, err := firmwareCertificates(data)
	if err != nil {
		r.add(field, name, exportHint, "is no certificate: %v", err)
		return nil
	}
	if len(certs) != 1 && (field == "pk" || field == "kek") {
		r.add(field, name, "name a file with one certificate", "holds %d certificates", len(certs))
		return nil
	}
	if owner != nil && r.owner != nil && *owner != *r.owner {
		r.add(field, name, "export the keys of one set again", "is of the owner %v, others are of %v", owner, r.owner)
	} else if owner != nil {
		r.owner = owner
	}
	for _, c := range certs {
		r.firmwareKey(field, name, c)
	}
	return certs
}

// firmwareKey: EDK2 and its descendants verify RSA only, and 2048 bits is what
// all of them take.
func (r *reader) firmwareKey(field, name string, c *x509.Certificate) {
	const hint = "firmware takes RSA with 2048 bits, which ingot keys init makes"
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() != 2048 {
			r.add(field, name, hint, "has an RSA key of %d bits", k.N.BitLen())
		}
	default:
		r.add(field, name, hint, "has an %v key", c.PublicKeyAlgorithm)
	}
}

func firmwareCertificates(data []byte) ([]*x509.Certificate, *gpt.GUID, error) {
	if bytes.HasPrefix(data, esl.TypeX509[:]) {
		lists, err := esl.Parse(data)
		if err != nil {
			return nil, nil, err
		}
		certs, err := esl.Certificates(lists)
		if err != nil || len(certs) == 0 {
			return nil, nil, errors.Join(err, errors.New("an empty signature list"))
		}
		return certs, &lists[0].Signatures[0].Owner, nil
	}
	c, err := certificate(data)
	if err != nil {
		return nil, nil, err
	}
	return []*x509.Certificate{c}, nil, nil
}

// der takes the one block out of a PEM file; what is no PEM is DER already.
func der(data []byte) (der []byte, kind string, err error) {
	block, err := pemfile.One(data)
	switch {
	case err != nil:
		return nil, "", err
	case block == nil:
		return data, "", nil
	}
	return block.Bytes, block.Type, nil
}

func certificate(data []byte) (*x509.Certificate, error) {
	b, kind, err := der(data)
	if err != nil {
		return nil, err
	}
	if kind != "" && kind != "CERTIFICATE" {
		return nil, fmt.Errorf("a PEM block %s", kind)
	}
	return x509.ParseCertificate(b)
}

// publicKey reads a public key, or takes it out of a certificate.
func publicKey(data []byte) (crypto.PublicKey, error) {
	b, kind, err := der(data)
	if err != nil {
		return nil, err
	}
	if c, err := x509.ParseCertificate(b); err == nil && kind != "PUBLIC KEY" {
		return c.PublicKey, nil
	}
	return x509.ParsePKIXPublicKey(b)
}

func (r *reader) public(field, name string) crypto.PublicKey {
	data := r.content(field, name)
	if data == nil {
		return nil
	}
	key, err := publicKey(data)
	if err != nil {
		r.add(field, name, exportHint, "is no public key: %v", err)
		return nil
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Params().BitSize != 256 {
			r.add(field, name, "use Ed25519, P-256 or RSA with 2048 bits", "is an ECDSA key on %s", k.Params().Name)
		}
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			r.add(field, name, "use Ed25519, P-256 or RSA with 2048 bits", "is an RSA key of %d bits", k.N.BitLen())
		}
	default:
		r.add(field, name, "use Ed25519, P-256 or RSA with 2048 bits", "is a key of type %T", key)
		return nil
	}
	return key
}

// policy is RSA because every TPM 2.0 verifies it.
func (r *reader) policy(name string) crypto.PublicKey {
	key := r.public("policy", name)
	if _, ok := key.(*rsa.PublicKey); key != nil && !ok {
		r.add("policy", name, "every TPM 2.0 verifies RSA with 2048 bits, which ingot keys init makes", "is no RSA key")
	}
	return key
}

// authority reads the certificate of an authority: a leaf would have to be
// replaced in all images with each renewal.
func (r *reader) authority(field, name string) *x509.Certificate {
	data := r.content(field, name)
	if data == nil {
		return nil
	}
	c, err := certificate(data)
	if err != nil {
		r.add(field, name, exportHint, "is no certificate: %v", err)
		return nil
	}
	if !c.IsCA {
		r.add(field, name, "name the certificate of the authority that issued it", "is the certificate of %q itself, not of an authority", c.Subject.CommonName)
		return nil
	}
	return c
}
