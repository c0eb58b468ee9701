package dsse

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Sign wraps a payload with one signature per signer and returns the JSON form.
// Every signature is verified before it leaves.
func Sign(payloadType string, payload []byte, signers ...Signer) ([]byte, error) {
	if len(signers) == 0 {
		return nil, errors.New("sign: no signer")
	}
	if payloadType == "" || len(payloadType) > maxType {
		return nil, fmt.Errorf("sign: payload type of %d bytes", len(payloadType))
	}
	e := &Envelope{Type: payloadType, Payload: payload}
	for _, s := range signers {
		sig, err := s.Sign(e.Message())
		if err != nil {
			return nil, fmt.Errorf("sign with key %s: %w", short(s.KeyID()), err)
		}
		if c, ok := s.(*cryptoSigner); ok && !valid(c.key.Public(), e.Message(), sig) {
			return nil, fmt.Errorf("sign with key %s: the signature does not verify", short(c.id))
		}
		e.Signatures = append(e.Signatures, Signature{KeyID: s.KeyID(), Sig: sig})
	}
	return e.Marshal()
}

// Attach adds a signature that was made elsewhere over Message. One that does
// not verify with the key is refused; a second one of the same key replaces
// the first, so attaching twice gives the same envelope.
func (e *Envelope) Attach(key crypto.PublicKey, sig []byte) error {
	id, err := KeyID(key)
	if err != nil {
		return fmt.Errorf("attach signature: %w", err)
	}
	if !valid(key, e.Message(), sig) {
		return fmt.Errorf("attach signature of key %s: %w", short(id), ErrUntrusted)
	}
	e.Signatures = slices.DeleteFunc(e.Signatures, func(s Signature) bool { return s.KeyID == id })
	e.Signatures = append(e.Signatures, Signature{KeyID: id, Sig: sig})
	return nil
}

// Policy says what Verify accepts.
type Policy struct {
	Keys      []crypto.PublicKey
	Threshold int      // different keys that must have signed; at least 1
	Types     []string // payload types; an envelope of any other is refused
}

// maxKeys bounds the work of one Verify: every key tries every signature.
const maxKeys = 64

// Verified is a payload whose signatures meet a policy.
type Verified struct {
	Type    string
	Payload []byte
	Signers []string // ids of the policy's keys that signed, sorted
}

// Verify parses an envelope and checks it against a policy. A key counts once,
// however often it signed or is listed; signatures by unknown keys are ignored.
func Verify(data []byte, p Policy) (*Verified, error) {
	keys, err := p.keys()
	if err != nil {
		return nil, fmt.Errorf("verify envelope: %w", err)
	}
	e, err := Parse(data)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.Types, e.Type) {
		return nil, fmt.Errorf("verify envelope: payload type %.80q, want %s", e.Type, strings.Join(p.Types, " or "))
	}
	signers := e.signers(keys)
	if len(signers) < p.Threshold {
		return nil, fmt.Errorf("verify envelope: %w: %d of %d", ErrUntrusted, len(signers), p.Threshold)
	}
	return &Verified{Type: e.Type, Payload: e.Payload, Signers: signers}, nil
}

// keys returns the policy's keys by id, which makes each count once.
func (p *Policy) keys() (map[string]crypto.PublicKey, error) {
	if len(p.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, at most %d", len(p.Keys), maxKeys)
	}
	keys := map[string]crypto.PublicKey{}
	for i, k := range p.Keys {
		id, err := KeyID(k)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		keys[id] = k
	}
	if p.Threshold < 1 || p.Threshold > len(keys) {
		return nil, fmt.Errorf("threshold %d with %d keys", p.Threshold, len(keys))
	}
	return keys, nil
}

func (e *Envelope) signers(keys map[string]crypto.PublicKey) []string {
	message := e.Message()
	var list []string
	for id, key := range keys {
		if slices.ContainsFunc(e.Signatures, func(s Signature) bool { return valid(key, message, s.Sig) }) {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

func short(id string) string { return id[:min(12, len(id))] }
