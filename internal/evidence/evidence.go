// Package evidence is the offline half of attestation: it collects evidence on
// any Linux machine with a TPM 2.0, reads the files that a verdict is made of
// (evidence, references, enrolment records, policies) and has package attest
// judge them, without a server.
//
// What a server proves by its protocol nobody proves here: that the evidence is
// fresh (unless the caller names the nonce), and that the attestation key lies
// in the TPM whose endorsement key is shown (unless the caller's word counts).
// Both end in Verdict.NotChecked, never in silence. docs/attestation.md has the
// whole of it.
//
// Shape of use:
//
//	e, err := evidence.Collect(evidence.Source{Nonce: nonce})
//	h, err := evidence.Accept(e, evidence.Acceptance{Name: "edge-042", Now: now})
//	v := evidence.Judge(evidence.Question{Evidence: e, References: refs, Host: h, Now: now})
//
// Limits: Linux with securityfs for Collect; files up to 4 MiB each.
package evidence

import (
	"encoding/json"
	"fmt"

	"github.com/ingot-os/ingot/attest"
)

// Error is an error with advice: what the operator can type or look at.
type Error struct {
	Err    error
	Advice string
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint is the advice.
func (e *Error) Hint() string { return e.Advice }

func hinted(advice, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Advice: advice}
}

// Marshal gives the document as ingot writes it: indented JSON with a final
// newline.
func Marshal(e *attest.Evidence) ([]byte, error) {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	return append(b, '\n'), nil
}
