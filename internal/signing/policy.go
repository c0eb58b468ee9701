package signing

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/release"
)

// PolicyItem asks the policy key to let a release open data keys: one signature
// for each floor from 0 to the security epoch.
type PolicyItem struct {
	Key    []byte `json:"key"`   // SubjectPublicKeyInfo of the policy key, DER
	PCR11  string `json:"pcr11"` // SHA-256 value that the release leaves, in hex
	Digest string `json:"digest"`
	Epoch  int    `json:"securityEpoch"`
}

// PolicySignature is a PolicyItem with its raw signatures, by floor.
type PolicySignature struct {
	PolicyItem
	Signatures [][]byte `json:"signatures"` // RSA PKCS #1 v1.5 with SHA-256
}

// ErrPolicyKey: the key at hand is not the one that the image trusts.
var ErrPolicyKey = errors.New("the image trusts another policy key")

func policyItem(u *imageset.Unapproved) *PolicyItem {
	if u == nil {
		return nil
	}
	d := policy.Digest{}.PCR(policy.Values{policy.Register: u.PCR11})
	return &PolicyItem{Key: u.Key, PCR11: hex.EncodeToString(u.PCR11[:]), Digest: hex.EncodeToString(d[:]), Epoch: u.Epoch}
}

// check wants the digest to be that of the value, which a person can compare.
func (p *PolicyItem) check() error {
	if _, err := policy.ParseKey(p.Key); err != nil {
		return fmt.Errorf("policy.key: %w", err)
	}
	value, err := parseDigest(p.PCR11)
	if err != nil {
		return fmt.Errorf("policy.pcr11: %w", err)
	}
	if d := (policy.Digest{}).PCR(policy.Values{policy.Register: value}); p.Digest != hex.EncodeToString(d[:]) {
		return fmt.Errorf("policy.digest: %.80q does not follow from the value of PCR 11: want %x", p.Digest, d)
	}
	if p.Epoch < 0 || p.Epoch > release.MaxSecurityEpoch {
		return fmt.Errorf("policy.securityEpoch: %d is not within 0..%d", p.Epoch, release.MaxSecurityEpoch)
	}
	return nil
}

// approvals are what the policy key signs, by floor. The item was checked.
func (p *PolicyItem) approvals() (list []imageset.Approval, err error) {
	digest, err := parseDigest(p.Digest)
	if err != nil {
		return nil, err
	}
	for floor := range p.Epoch + 1 {
		list = append(list, imageset.Approval{Key: p.Key, Digest: policy.Digest(digest), Ref: policy.Ref(floor)})
	}
	return list, nil
}

// holds tells whether the policy key is this one.
func (a *Authority) holds(key []byte) bool {
	return a.policy != nil && a.policy.print == fingerprint(key)
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Policy implements imageset.Authority: an RSA signature with the policy key.
func (a *Authority) Policy(w imageset.Approval) ([]byte, error) {
	if a.policy == nil {
		return nil, errors.New("there is no policy key to sign with")
	}
	if !a.holds(w.Key) {
		return nil, fmt.Errorf("%w: %.12s, the one here is %.12s", ErrPolicyKey, fingerprint(w.Key), a.policy.print)
	}
	signer, err := a.policy.open()
	if err != nil {
		return nil, err
	}
	sum := policy.Approval(w.Digest, w.Ref)
	return signer.Sign(nil, sum[:], crypto.SHA256)
}

// signPolicy makes all signatures of a request.
func (a *Authority) signPolicy(p *PolicyItem) (*PolicySignature, error) {
	list, err := p.approvals()
	if err != nil {
		return nil, err
	}
	out := &PolicySignature{PolicyItem: *p}
	for _, w := range list {
		sig, err := a.Policy(w)
		if err != nil {
			return nil, err
		}
		out.Signatures = append(out.Signatures, sig)
	}
	return out, nil
}

// Policy implements imageset.Authority.
func (a *attached) Policy(w imageset.Approval) ([]byte, error) {
	if a.policy == nil {
		return nil, ErrMissing
	}
	list, err := a.policy.approvals()
	if err != nil {
		return nil, err
	}
	for i, have := range list {
		if have.Ref != w.Ref {
			continue
		}
		if have.Digest != w.Digest || !bytes.Equal(have.Key, w.Key) {
			return nil, fmt.Errorf("%w: its policy signatures are over %x by another key or for another boot file, this set wants %x", ErrOtherSet, have.Digest, w.Digest)
		}
		if i == len(list)-1 {
			defer func() { a.policy = nil }() // all are in use
		}
		return a.policy.Signatures[i], nil
	}
	return nil, fmt.Errorf("%w: it has no signature for %s", ErrOtherSet, w.Ref)
}

// rawPolicy takes signatures of other programs, by the names of floors.
func (r *Request) rawPolicy(signatures map[string][]byte) (*PolicySignature, error) {
	list, err := r.Policy.approvals()
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(r.Policy.Key)
	if err != nil {
		return nil, err
	}
	out := &PolicySignature{PolicyItem: *r.Policy}
	for _, w := range list {
		sig, ok := signatures[w.Ref]
		if !ok && len(out.Signatures) == 0 {
			return nil, nil
		}
		sum := policy.Approval(w.Digest, w.Ref)
		switch public, isRSA := key.(*rsa.PublicKey); {
		case !ok:
			return nil, fmt.Errorf("raw signature %s is missing: the policy key signs every floor up to the security epoch", w.Ref)
		case !isRSA || rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], sig) != nil:
			return nil, fmt.Errorf("raw signature %s: %w", w.Ref, policy.ErrSignature)
		}
		out.Signatures = append(out.Signatures, sig)
	}
	return out, nil
}
