// Package dsse signs and verifies envelopes by the Dead Simple Signing Envelope
// specification, version 1.0: a payload, its type, and signatures over both.
//
// Keys are Ed25519, ECDSA P-256 with SHA-256 (ASN.1) and RSA of at least 2048
// bits with PKCS #1 v1.5 and SHA-256: the schemes that every PKCS #11 module
// offers, and that give the same bytes each time. A key id is the SHA-256 of
// the public key's DER form, in hex. The id inside an envelope is a hint that
// nobody trusts: what counts is which of the caller's keys verifies.
//
// It is stricter than the specification, which lets a reader ignore fields it
// does not know: those are refused here, so that an envelope of a later
// revision is never mistaken for this one.
//
//	env, err := dsse.Sign(dsse.TypeInToto, statement, signer)
//	got, err := dsse.Verify(env, dsse.Policy{Keys: keys, Threshold: 2, Types: []string{dsse.TypeInToto}})
package dsse

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Payload types that ingot writes.
const (
	TypeInToto   = "application/vnd.in-toto+json"              // a statement: provenance, promotion
	TypeManifest = "application/vnd.ingot-os.manifest.v1+json" // manifest.json of an image set
)

// Bounds of an envelope.
const (
	// MaxEnvelope is the largest envelope that is read or made, in bytes, on
	// machines too: the manifest of an appliance with 100,000 files is 20 MB, and
	// 27 MB in here.
	MaxEnvelope = 32 << 20
	// MaxSignatures is the largest number of signatures in one envelope.
	MaxSignatures = 64

	maxType      = 256
	maxKeyID     = 256
	maxSignature = 1024 // an RSA-8192 signature
)

// ErrUntrusted is in the chain of errors that say: the envelope is well formed,
// and fewer keys than the policy demands have signed it.
var ErrUntrusted = errors.New("not enough valid signatures")

// FormatError names the field of an envelope that is wrong.
type FormatError struct {
	Field string // as in "signatures[2].sig"; empty when the whole is no envelope
	Msg   string
}

func (e *FormatError) Error() string {
	if e.Field == "" {
		return "parse envelope: " + e.Msg
	}
	return "parse envelope: " + e.Field + ": " + e.Msg
}

// Envelope is a decoded envelope (DSSE, envelope.md). Nothing in it is verified.
type Envelope struct {
	Type       string // payloadType
	Payload    []byte
	Signatures []Signature
}

// Signature is one signature over PAE(type, payload).
type Signature struct {
	KeyID string // hint; may be empty
	Sig   []byte
}

// PAE is the pre-authentication encoding, the bytes that are signed
// (DSSE, protocol.md, "Signature Definition").
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len(payloadType)+len(payload)+64)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// Message is what the signatures of the envelope are over. A signer on another
// machine needs this, or its SHA-256 for ECDSA and RSA, and nothing else.
func (e *Envelope) Message() []byte { return PAE(e.Type, e.Payload) }

// wire is the JSON form; pointers tell an absent field from an empty one.
type wire struct {
	Payload     *string         `json:"payload"`
	PayloadType *string         `json:"payloadType"`
	Signatures  []wireSignature `json:"signatures"`
}

type wireSignature struct {
	KeyID string  `json:"keyid,omitempty"`
	Sig   *string `json:"sig"`
}

// Parse reads the JSON form of an envelope. Base64 may be of the standard or
// the URL alphabet, as the specification asks of readers.
func Parse(data []byte) (*Envelope, error) {
	if len(data) > MaxEnvelope {
		return nil, &FormatError{Msg: fmt.Sprintf("larger than %d bytes", MaxEnvelope)}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var w wire
	if err := dec.Decode(&w); err != nil {
		return nil, &FormatError{Msg: fmt.Sprintf("offset %d: %s", dec.InputOffset(), strings.TrimPrefix(err.Error(), "json: "))}
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, &FormatError{Msg: fmt.Sprintf("offset %d: data after the envelope", dec.InputOffset())}
	}
	return w.decode()
}

func (w *wire) decode() (*Envelope, error) {
	switch {
	case w.Payload == nil:
		return nil, &FormatError{"payload", "missing"}
	case w.PayloadType == nil || *w.PayloadType == "":
		return nil, &FormatError{"payloadType", "missing"}
	case len(*w.PayloadType) > maxType:
		return nil, &FormatError{"payloadType", fmt.Sprintf("longer than %d bytes", maxType)}
	case len(w.Signatures) == 0:
		return nil, &FormatError{"signatures", "none"}
	case len(w.Signatures) > MaxSignatures:
		return nil, &FormatError{"signatures", fmt.Sprintf("%d, at most %d", len(w.Signatures), MaxSignatures)}
	}
	payload, err := decodeBase64(*w.Payload)
	if err != nil {
		return nil, &FormatError{"payload", err.Error()}
	}
	e := &Envelope{Type: *w.PayloadType, Payload: payload}
	for i, s := range w.Signatures {
		sig, err := s.decode()
		if err != nil {
			return nil, &FormatError{fmt.Sprintf("signatures[%d].sig", i), err.Error()}
		}
		e.Signatures = append(e.Signatures, sig)
	}
	return e, nil
}

func (s *wireSignature) decode() (Signature, error) {
	if s.Sig == nil {
		return Signature{}, errors.New("missing")
	}
	if len(s.KeyID) > maxKeyID {
		return Signature{}, fmt.Errorf("key id longer than %d bytes", maxKeyID)
	}
	sig, err := decodeBase64(*s.Sig)
	if err != nil {
		return Signature{}, err
	}
	if len(sig) > maxSignature {
		return Signature{}, fmt.Errorf("%d bytes, at most %d", len(sig), maxSignature)
	}
	return Signature{KeyID: s.KeyID, Sig: sig}, nil
}

func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err == nil {
		return b, nil
	}
	if b, err := base64.URLEncoding.DecodeString(s); err == nil {
		return b, nil
	}
	return nil, err
}

// Marshal gives the envelope's JSON form on one line with a final line break.
func (e *Envelope) Marshal() ([]byte, error) {
	payload := base64.StdEncoding.EncodeToString(e.Payload)
	w := wire{Payload: &payload, PayloadType: &e.Type}
	for _, s := range e.Signatures {
		sig := base64.StdEncoding.EncodeToString(s.Sig)
		w.Signatures = append(w.Signatures, wireSignature{KeyID: s.KeyID, Sig: &sig})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(w); err != nil {
		return nil, fmt.Errorf("encode envelope: %w", err)
	}
	if b.Len() > MaxEnvelope {
		return nil, fmt.Errorf("encode envelope: %d bytes, at most %d", b.Len(), MaxEnvelope)
	}
	return b.Bytes(), nil
}

// ErrOther means that an envelope carries something else than it lies beside.
var ErrOther = errors.New("the envelope carries another payload")

// Carries says whether an envelope carries these bytes. Signatures are not looked
// at.
func Carries(envelope, payload []byte) error {
	e, err := Parse(envelope)
	if err != nil {
		return err
	}
	if !bytes.Equal(e.Payload, payload) {
		return ErrOther
	}
	return nil
}
