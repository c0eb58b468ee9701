package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/pkcs7"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/release"
)

// Response is a request with its raw signatures.
type Response struct {
	Type     string             `json:"type"` // ResponseType
	Set      Subject            `json:"set"`
	Boot     []BootSignature    `json:"boot,omitempty"`
	Policy   *PolicySignature   `json:"policy,omitempty"`
	Manifest *ManifestSignature `json:"manifest,omitempty"`
}

// BootSignature is a raw signature over the attributes of a boot file.
type BootSignature struct {
	BootItem
	Certificate []byte `json:"certificate"` // DER
	Signature   []byte `json:"signature"`   // RSA PKCS #1 v1.5 with SHA-256
}

// ManifestSignature is a raw signature over a manifest's PAE.
type ManifestSignature struct {
	ManifestItem
	PublicKey []byte `json:"publicKey"` // SubjectPublicKeyInfo, DER
	Signature []byte `json:"signature"` // ECDSA in ASN.1
}

// ErrMessage: the key wants to see the manifest, and the request has its digest
// only. Ed25519 signs messages. RSA signs boot files, too: the digest could be
// one of those, so it is computed here.
var ErrMessage = errors.New("the request has only the digest of the manifest, and this kind of key signs the manifest itself")

// Answer signs all that a request asks for. The request must be one that
// ParseRequest accepts.
func (a *Authority) Answer(r *Request) (*Response, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	out := &Response{Type: ResponseType, Set: r.Set}
	for _, b := range r.Boot {
		if a.boot == nil && r.Policy != nil && a.holds(r.Policy.Key) {
			break // a lone policy key signs what it can
		}
		d, err := b.digest()
		if err != nil {
			return nil, err
		}
		sig, err := a.signBoot(d)
		if err != nil {
			return nil, fmt.Errorf("sign %s: %w", b.File, err)
		}
		out.Boot = append(out.Boot, BootSignature{b, a.boot.cert.Raw, sig})
	}
	if r.Policy != nil && (a.policy != nil || len(out.Boot) == 0) {
		sigs, err := a.signPolicy(r.Policy)
		switch {
		case err == nil:
			out.Policy = sigs
		case !errors.Is(err, ErrPolicyKey) || len(out.Boot) == 0: // a lone db key signs what it can
			return nil, fmt.Errorf("sign policies: %w", err)
		}
	}
	if r.Manifest == nil {
		return out, nil
	}
	var err error
	if out.Manifest, err = a.signManifest(*r.Manifest); err != nil {
		return nil, fmt.Errorf("sign %s: %w", release.ManifestName, err)
	}
	return out, nil
}

// signManifest makes the raw signature of a manifest, from its digest alone when
// the key is ECDSA. That the digest is of the message ParseRequest has checked.
func (a *Authority) signManifest(m ManifestItem) (*ManifestSignature, error) {
	signer, err := a.image.open()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	digest, err := parseDigest(m.SHA256)
	if err != nil {
		return nil, err
	}
	input, hash := digest[:], crypto.SHA256
	if _, ok := signer.Public().(*ecdsa.PublicKey); !ok && m.Message == nil {
		return nil, ErrMessage
	}
	if _, ok := signer.Public().(ed25519.PublicKey); ok {
		input, hash = m.Message, 0
	}
	sig, err := signer.Sign(nil, input, hash) // nil: no randomness, as package dsse
	m.Message = nil
	return &ManifestSignature{m, der, sig}, err
}

// Raw makes a response of signatures that other programs made, by the file
// names of the request, which must include its message. For each, one of the
// keys must verify it, for boot files one with a certificate.
func Raw(r *Request, signatures map[string][]byte, trusted []Certified) (*Response, error) {
	out := &Response{Type: ResponseType, Set: r.Set}
	left := len(signatures)
	for _, b := range r.Boot {
		sig, ok := signatures[b.File]
		if !ok {
			continue
		}
		cert, err := b.signer(sig, trusted)
		if err != nil {
			return nil, fmt.Errorf("raw signature of %s: %w", b.File, err)
		}
		out.Boot = append(out.Boot, BootSignature{b, cert.Raw, sig})
		left--
	}
	if sig, ok := signatures[release.ManifestName]; ok && r.Manifest != nil {
		key, err := r.Manifest.signer(sig, trusted)
		if err != nil {
			return nil, fmt.Errorf("raw signature of %s: %w", release.ManifestName, err)
		}
		m := *r.Manifest
		m.Message = nil
		out.Manifest = &ManifestSignature{m, key, sig}
		left--
	}
	if r.Policy != nil {
		var err error
		if out.Policy, err = r.rawPolicy(signatures); err != nil {
			return nil, err
		}
		if out.Policy != nil {
			left -= len(out.Policy.Signatures)
		}
	}
	if left > 0 {
		return nil, fmt.Errorf("raw signatures: %d of them are of no file that wants one; the set wants %s", left, r.names())
	}
	return out, nil
}

// Certified is a public key, with its certificate if it has one.
type Certified struct {
	Key         crypto.PublicKey
	Certificate *x509.Certificate
}

// names lists what a request asks for.
func (r *Request) names() string {
	list := ""
	for _, b := range r.Boot {
		list += b.File + " "
	}
	if r.Policy != nil {
		for floor := range r.Policy.Epoch + 1 {
			list += policy.Ref(floor) + " "
		}
	}
	if r.Manifest != nil {
		list += release.ManifestName + " "
	}
	return list[:len(list)-1]
}

// signer finds the certificate whose key made a signature of a boot file.
func (b *BootItem) signer(sig []byte, trusted []Certified) (*x509.Certificate, error) {
	d, err := b.digest()
	if err != nil {
		return nil, err
	}
	var reasons []error
	for _, c := range trusted {
		if c.Certificate == nil {
			continue
		}
		err := pkcs7.CheckSignature(c.Certificate, authenticode.SignedAttributes(d), sig)
		if err == nil {
			return c.Certificate, nil
		}
		reasons = append(reasons, err)
	}
	if reasons == nil {
		return nil, errors.New("no certificate was given")
	}
	return nil, errors.Join(reasons...)
}

// signer finds the key that made a signature of a manifest, in DER.
func (m *ManifestItem) signer(sig []byte, trusted []Certified) ([]byte, error) {
	payload, err := m.payload()
	if err != nil {
		return nil, err
	}
	for _, c := range trusted {
		e := &dsse.Envelope{Type: m.PayloadType, Payload: payload}
		if e.Attach(c.Key, sig) == nil {
			return x509.MarshalPKIXPublicKey(c.Key)
		}
	}
	return nil, fmt.Errorf("%w with any of the %d keys given", dsse.ErrUntrusted, len(trusted))
}

// ParseResponse reads a response. Its signatures are verified by Attach.
func ParseResponse(data []byte) (*Response, error) {
	r := new(Response)
	if err := decode(data, ResponseType, r); err != nil {
		return nil, fmt.Errorf("parse signing response: %w", err)
	}
	for i, b := range r.Boot {
		if _, err := b.digest(); err != nil {
			return nil, fmt.Errorf("parse signing response: boot[%d]: %w", i, err)
		}
	}
	if p := r.Policy; p != nil {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("parse signing response: %w", err)
		}
		if len(p.Signatures) != p.Epoch+1 {
			return nil, fmt.Errorf("parse signing response: policy.signatures: %d, want one for each floor from 0 to %d", len(p.Signatures), p.Epoch)
		}
	}
	if m := r.Manifest; m != nil && m.PayloadType != dsse.TypeManifest {
		return nil, fmt.Errorf("parse signing response: manifest.payloadType: %.80q, want %s", m.PayloadType, dsse.TypeManifest)
	}
	return r, nil
}

// Marshal gives the document's only encoding: indented JSON with a final newline.
func (r *Response) Marshal() ([]byte, error) { return encode(r) }
