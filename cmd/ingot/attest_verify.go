package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/ear"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/ui"
)

type attestVerifyCmd struct {
	judgeFlags
	Enrolled string `placeholder:"FILE" help:"Record of the machine, as ingot attest accept wrote it." type:"path"`
	Remember bool   `help:"Write the TPM's clock into the record when the verdict is trusted: older evidence is refused from then on."`
	EAR      string `name:"ear" placeholder:"FILE" help:"Write the verdict as an EAT attestation result, too." type:"path"`
	EARKey   string `name:"ear-key" placeholder:"PEM" help:"Sign it with this P-256 key, as a JWT." type:"path"`
}

// Run prints the verdict, and exits with 3 unless it is "trusted".
func (c *attestVerifyCmd) Run(v *verb) error {
	switch {
	case c.Remember && c.Enrolled == "":
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--remember without --enrolled"), Hint: "--enrolled FILE names the record"}
	case c.EARKey != "" && c.EAR == "":
		return &ui.Error{Code: ui.CodeUsage, Err: errors.New("--ear-key without --ear"), Hint: "--ear FILE says where to write"}
	}
	j, err := c.load()
	if err != nil {
		return err
	}
	q := evidence.Question{Evidence: j.evidence, References: j.references, Policy: j.policy, Nonce: j.nonce, Now: j.now}
	if c.Enrolled != "" {
		if q.Enrolled, err = evidence.ReadEnrolled(c.Enrolled); err != nil {
			return err
		}
	}
	verdict := evidence.Judge(q)
	if c.EAR != "" {
		if err := c.export(&q, verdict); err != nil {
			return err
		}
	}
	if c.Remember && verdict.Trusted {
		q.Enrolled.LastSeen = &attest.LastSeen{Clock: verdict.Clock, At: j.now}
		if err := q.Enrolled.Write(c.Enrolled); err != nil {
			return err
		}
	}
	return v.ui.Verdict(report(c.Evidence, &q, verdict))
}

func report(path string, q *evidence.Question, v attest.Verdict) *ui.Judged {
	j := &ui.Judged{Verdict: v, Code: v.Reason(), Evidence: path, References: []ui.JudgedWith{}}
	for _, r := range q.References {
		j.References = append(j.References, ui.JudgedWith{Path: r.Path, Name: r.Name, Version: r.Version, Signers: r.Signers})
	}
	return j
}

// export writes the attestation result.
func (c *attestVerifyCmd) export(q *evidence.Question, v attest.Verdict) error {
	id, err := policyID(q)
	if err != nil {
		return err
	}
	r := ear.New(v, ear.Options{Nonce: q.Nonce, Build: "ingot " + ingotVersion, Chained: q.Enrolled != nil && q.Enrolled.Activated && q.Enrolled.Record.Chained, PolicyID: id})
	if c.EARKey == "" {
		b, err := r.Marshal()
		if err != nil {
			return err
		}
		return os.WriteFile(c.EAR, b, 0o644)
	}
	pem, err := os.ReadFile(c.EARKey)
	if err != nil {
		return err
	}
	key, err := ear.ParseKey(pem)
	if err != nil {
		return &ui.Error{Err: fmt.Errorf("%s: %w", c.EARKey, err), Hint: "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 makes one"}
	}
	token, err := r.Sign(key)
	if err != nil {
		return err
	}
	return os.WriteFile(c.EAR, append(token, '\n'), 0o644)
}

// policyID names what a verdict was made by, references and record among it:
// two results with the same name were made by the same rules (RFC 6920).
func policyID(q *evidence.Question) (string, error) {
	c := q.Case()
	b, err := json.Marshal(struct {
		Policy     attest.Policy
		References []attest.Reference
		Record     *attest.Record
	}{c.Policy, c.References, c.Record})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
