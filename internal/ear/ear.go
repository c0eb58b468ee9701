// Package ear exports verdicts as EAT attestation results, which relying
// parties of other makers read: the JSON claims of draft-ietf-rats-ear-04 on
// top of EAT (RFC 9711), with the trustworthiness vector of
// draft-ietf-rats-ar4si, bare or signed as a JWT (RFC 7519, ES256).
//
// A verdict has more to say than the vector: the whole of it is in the claim
// ear_verifier_claims. What no check was made about has no claim: hardware is
// claimed only of a TPM whose certificate leads to a configured root, and file
// systems, memory and storage never are.
//
// Shape of use:
//
//	r := ear.New(verdict, ear.Options{Nonce: nonce, Build: "ingot 1.0", Chained: true})
//	b, err := r.Marshal()
//	token, err := r.Sign(key)
package ear

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/ingot-os/ingot/attest"
)

// Profile names the revision of the draft (section 3).
const Profile = "tag:ietf.org,2026:rats/ear#04"

// Developer is who made the verifier (AR4SI section 2.2.2).
const Developer = "https://github.com/ingot-os/ingot"

// Tier is the outcome of an appraisal (AR4SI section 2.3.2).
type Tier string

// The tiers.
const (
	None            Tier = "none" // nothing could be said
	Affirming       Tier = "affirming"
	Contraindicated Tier = "contraindicated"
)

// Result is the claims set.
type Result struct {
	Profile    string               `json:"eat_profile"`
	IssuedAt   int64                `json:"iat"` // Unix seconds: when it was judged
	VerifierID VerifierID           `json:"ear_verifier_id"`
	Nonce      string               `json:"eat_nonce,omitempty"` // base64url
	Submods    map[string]Appraisal `json:"submods"`             // one, named as the host
}

// VerifierID says which program judged.
type VerifierID struct {
	Developer string `json:"developer"`
	Build     string `json:"build"`
}

// Appraisal is the verdict on one machine.
type Appraisal struct {
	Status    Tier     `json:"ear_status"`
	Vector    *Vector  `json:"ear_trustworthiness_vector,omitempty"`
	PolicyIDs []string `json:"ear_appraisal_policy_ids,omitempty"`
	Claims    Claims   `json:"ear_verifier_claims"`
}

// Claims are what the vector has no place for.
type Claims struct {
	Verdict attest.Verdict `json:"ingot_verdict"`
	Reason  attest.Code    `json:"ingot_reason,omitempty"`
}

// Options are what a verdict does not say.
type Options struct {
	Nonce    []byte // of the challenge
	Build    string // version of the verifier
	Chained  bool   // a configured root vouches for the TPM
	PolicyID string // what it was judged by; empty: not said
}

// Bounds of eat_nonce in characters (RFC 9711 section 4.1).
const minNonce, maxNonce = 8, 88

// New makes the claims of a verdict. A nonce that EAT has no room for is left
// out.
func New(v attest.Verdict, o Options) *Result {
	name := v.Host
	if name == "" {
		name = "machine"
	}
	a := Appraisal{Status: status(&v), Vector: vector(&v, o.Chained), Claims: Claims{Verdict: v, Reason: v.Reason()}}
	if o.PolicyID != "" {
		a.PolicyIDs = []string{o.PolicyID}
	}
	r := &Result{Profile: Profile, IssuedAt: v.At.Unix(), VerifierID: VerifierID{Developer, o.Build}, Submods: map[string]Appraisal{name: a}}
	if n := base64.RawURLEncoding.EncodeToString(o.Nonce); len(n) >= minNonce && len(n) <= maxNonce {
		r.Nonce = n
	}
	return r
}

// Marshal gives the claims as indented JSON with a final newline.
func (r *Result) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode attestation result: %w", err)
	}
	return append(b, '\n'), nil
}
