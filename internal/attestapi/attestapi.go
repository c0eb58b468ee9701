// Package attestapi holds the messages between a machine and the server that
// it attests to: HTTP/1.1 over TLS 1.3, bodies in JSON, bytes in base64.
//
//	POST /v1/enrol      EnrolRequest     -> EnrolOffer
//	POST /v1/activate   ActivateRequest  -> Enrolled
//	POST /v1/challenge  ChallengeRequest -> Challenge
//	POST /v1/evidence   Evidence         -> Answer
//
// The machine makes a key for its channel at each boot (P-256, never stored)
// and shows a certificate that it has signed by itself. The server knows the
// channel by the SHA-256 of that key's SubjectPublicKeyInfo, and itself by that
// of its own certificate's key; both go into the quote (attest.Challenge). So
// evidence is of worth on the channel that it was made for, and nowhere else.
// An answer other than 200 has an Error.
//
// Both programs share these types, so this package imports nothing heavy.
package attestapi

import (
	"crypto/sha256"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
)

// The paths.
const (
	EnrolPath     = "/v1/enrol"
	ActivatePath  = "/v1/activate"
	ChallengePath = "/v1/challenge"
	EvidencePath  = "/v1/evidence"
)

// Bounds of bodies in bytes. Evidence has its own: attest.MaxEvidence.
const (
	MaxRequest = 64 << 10
	MaxAnswer  = 1 << 20
)

// KeyID names a key of a channel: SHA-256 of its SubjectPublicKeyInfo in DER.
func KeyID(spki []byte) []byte {
	sum := sha256.Sum256(spki)
	return sum[:]
}

// Error is the body of every refusal.
type Error struct {
	Code   attest.Code `json:"code"`
	Detail string      `json:"detail"`
}

// EnrolRequest asks for a name.
type EnrolRequest = attest.Request

// Credential is a secret that only the TPM with both keys can read
// (TPM2_MakeCredential, Library specification part 3).
type Credential struct {
	Blob   []byte `json:"blob"`   // TPMS_ID_OBJECT
	Secret []byte `json:"secret"` // the seed, encrypted to the endorsement key
}

// EnrolOffer is the first answer to an enrolment: give the secret back.
type EnrolOffer struct {
	Credential Credential `json:"credential"`
	Expires    time.Time  `json:"expires"`
}

// ActivateRequest gives the secret of an offer back, on the same channel.
type ActivateRequest struct {
	Name   string `json:"name"`
	Secret []byte `json:"secret"`
}

// Enrolled is the end of an enrolment. A pending host asks for challenges as
// an active one does, and is answered attest.HostPending until an operator has
// approved it.
type Enrolled struct {
	Name  string       `json:"name"`
	State attest.State `json:"state"`
}

// ChallengeRequest asks for a challenge. The server answers attest.HostUnknown
// to a name that is not enrolled: then the machine enrols.
type ChallengeRequest struct {
	Name string `json:"name"`
}

// Challenge is what to quote.
type Challenge struct {
	Nonce []byte   `json:"nonce"`
	Bank  pcr.Bank `json:"bank"`
	PCRs  []int    `json:"pcrs"`
	// Time is the server's (S16). A machine believes it when it is not before
	// its floor, and counts the dates of certificates from then on.
	Time    time.Time `json:"time"`
	Expires time.Time `json:"expires"`
}

// Evidence is what answers a challenge.
type Evidence struct {
	Name string `json:"name"`
	attest.Evidence
}

// ParseEvidence reads the message, as strictly as attest.ParseEvidence.
func ParseEvidence(b []byte) (*Evidence, error) {
	var e Evidence
	if err := attest.ReadEvidence(b, &e, &e.Evidence); err != nil {
		return nil, err
	}
	return &e, nil
}

// Answer is the verdict, and what an attested host gets.
type Answer struct {
	Trusted  bool             `json:"trusted"`
	Findings []attest.Finding `json:"findings,omitempty"`
	// Interval is the time until the next evidence, in seconds, and Next its
	// challenge; without one the machine asks.
	Interval float64    `json:"interval"`
	Next     *Challenge `json:"next,omitempty"`

	// Certificate is for the channel's key: DER, the host's first, then its
	// authority's. It is valid for some intervals.
	Certificate [][]byte `json:"certificate,omitempty"`
	Secrets     []Secret `json:"secrets,omitempty"`
}

// Secret is a named text that only the host's TPM can open: AES-256-GCM under a
// key that is in the credential, with the name as additional data.
type Secret struct {
	Name       string     `json:"name"`
	Credential Credential `json:"credential"`
	Nonce      []byte     `json:"nonce"`      // 12 bytes
	Ciphertext []byte     `json:"ciphertext"` // and tag
}
