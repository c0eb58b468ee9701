package evidence

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// Question is what is asked about evidence.
type Question struct {
	Evidence   *attest.Evidence
	References []Reference
	Enrolled   *Enrolled // nil: the host is not known
	Policy     attest.Policy
	Nonce      []byte // that the verifier has asked for; nil: none, so nothing says how old the evidence is
	Now        time.Time
}

// Case is what package attest judges. A host that is not known is judged as if
// it were, to say what else there is; Judge then refuses it.
func (q *Question) Case() attest.Case {
	c := attest.Case{Evidence: q.Evidence, Policy: q.Policy, Now: q.Now, Challenge: attest.Challenge{Nonce: q.Nonce}}
	if q.Nonce == nil {
		c.Challenge.Nonce = q.Evidence.Nonce
	}
	for _, r := range q.References {
		c.References = append(c.References, r.Reference)
	}
	if q.Enrolled != nil {
		c.Record, c.LastSeen = &q.Enrolled.Record, q.Enrolled.LastSeen
	} else if ak, err := quote.ParsePublic(q.Evidence.AK); err == nil {
		c.Record = &attest.Record{State: attest.Active, AKName: ak.Name()}
	}
	return c
}

// Judge gives the verdict. What it lacks beside a server's stands in NotChecked.
func Judge(q Question) attest.Verdict {
	v := attest.Verify(q.Case())
	if q.Enrolled == nil {
		unknown(&v, q.Evidence)
	}
	var lacks []string
	if q.Nonce == nil {
		lacks = append(lacks, "freshness: no nonce was named, so the evidence may be of any earlier time (--nonce)")
	}
	for _, r := range q.References {
		if len(r.Signers) == 0 {
			lacks = append(lacks, fmt.Sprintf("who made the reference of %s %s: its signature was not checked (--keys)", r.Name, r.Version))
		}
	}
	switch e := q.Enrolled; {
	case e == nil:
	case !e.Activated:
		lacks = append(lacks, "whether the attestation key is in the TPM of the endorsement key: no credential was activated, an operator's word stands for it")
	case !e.Record.Chained:
		lacks = append(lacks, "who made the TPM: an operator's word stands for it")
	}
	v.NotChecked = slices.Concat(lacks, v.NotChecked)
	return v
}

// unknown refuses a key that nobody has accepted, before all else that there
// is.
func unknown(v *attest.Verdict, e *attest.Evidence) {
	if v.Reason() == attest.AKMalformed {
		return
	}
	s, err := Summarize(e)
	if err != nil {
		s.AK += ", " + err.Error()
	}
	f := attest.Finding{Code: attest.HostUnknown, PCR: -1, Detail: "the attestation key " + s.AK + " is not enrolled"}
	v.Findings, v.Trusted = append([]attest.Finding{f}, v.Findings...), false
}

// Acceptance is how an operator takes a machine's keys from its evidence.
type Acceptance struct {
	Name       string
	Roots      attest.Roots // when there are any, one must vouch for the TPM
	References []Reference  // when there are any, the evidence must be of one
	Policy     attest.Policy
	Nonce      []byte // as in Question
	Now        time.Time
}

// UntrustedError says why evidence does not make a record.
type UntrustedError struct{ Verdict attest.Verdict }

// Error implements error.
func (e *UntrustedError) Error() string {
	return "accept evidence: " + e.Verdict.Findings[0].String()
}

// Accept makes the record of a host: its keys and its firmware as the evidence
// has them. The evidence must hold by itself: signed by its key, with logs that
// explain the registers. The error is an *UntrustedError or an
// *attest.EnrolError for what is refused.
func Accept(e *attest.Evidence, a Acceptance) (*Enrolled, attest.Certified, error) {
	if len(e.EK) == 0 {
		return nil, attest.Certified{}, &attest.EnrolError{Code: attest.EKMalformed, Detail: "the evidence has no endorsement key"}
	}
	rules := attest.Rules{Roots: a.Roots, RequireChain: len(a.Roots.Roots) > 0}
	secret := make([]byte, 32)
	rand.Read(secret) // nobody is asked for it
	offer, err := rules.Begin(attest.Request{Name: a.Name, AK: e.AK, EK: e.EK, EKCertificate: e.EKCertificate}, attest.Known{}, nil, secret, a.Now)
	if err != nil {
		return nil, attest.Certified{}, err
	}
	out := &Enrolled{Format: EnrolledFormat, Record: offer.Record}
	out.Record.State, out.Record.Enrolled = attest.Active, a.Now
	v := Judge(Question{Evidence: e, References: a.References, Enrolled: out, Policy: a.Policy, Nonce: a.Nonce, Now: a.Now})
	if !v.Trusted && (len(a.References) > 0 || v.Reason() != attest.ReferenceNone) {
		return nil, offer.Certified, &UntrustedError{v}
	}
	out.Record.Firmware, out.Record.FirmwareVersion = map[pcr.Bank]map[int]pcr.Digest{}, v.Firmware
	for bank, registers := range e.PCRs {
		if !bytes.Equal(registers[0], make([]byte, bank.Size())) { // firmware measures into this bank
			out.Record.Firmware[bank] = map[int]pcr.Digest{0: registers[0], 2: registers[2]}
		}
	}
	out.LastSeen = &attest.LastSeen{Clock: v.Clock, At: a.Now}
	return out, offer.Certified, nil
}

// DefaultName is a host's name for a file of its evidence: "edge-042" for
// "edge-042.json" and "edge-042.evidence.json".
func DefaultName(path string) string {
	base := path[strings.LastIndexByte(path, os.PathSeparator)+1:]
	name, _, _ := strings.Cut(base, ".")
	return strings.ToLower(name)
}
