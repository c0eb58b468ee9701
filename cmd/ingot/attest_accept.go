package main

import (
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/internal/verifier"
)

type attestAcceptCmd struct {
	judgeFlags
	Output string   `short:"o" required:"" placeholder:"FILE" help:"Where to write the record; one that exists is replaced." type:"path"`
	Name   string   `help:"Name of the machine (default: that of the evidence's file, up to its first dot)."`
	EKRoot []string `name:"ek-root" placeholder:"FILE|DIR" help:"Certificates of TPM makers, in PEM or DER. With any, the TPM's own certificate must lead to one that has issued itself." type:"path"`
}

// Run writes the record and says what it rests on.
func (c *attestAcceptCmd) Run(v *verb) error {
	j, err := c.load()
	if err != nil {
		return err
	}
	roots, err := verifier.LoadRoots(c.EKRoot)
	if err != nil {
		return &ui.Error{Err: err, Hint: "--ek-root takes certificates in PEM or DER, or a directory of such"}
	}
	if len(c.EKRoot) > 0 && len(roots.Roots) == 0 {
		return &ui.Error{Err: errors.New("--ek-root: no certificate has issued itself, so none is a root"), Hint: "add the root of the TPM's maker"}
	}
	if c.Name == "" {
		c.Name = evidence.DefaultName(c.Evidence)
	}
	record, certified, err := evidence.Accept(j.evidence, evidence.Acceptance{Name: c.Name, Roots: roots, References: j.references, Policy: j.policy, Nonce: j.nonce, Now: j.now})
	if err != nil {
		return c.refused(err)
	}
	if err := record.Write(c.Output); err != nil {
		return err
	}
	return c.report(v, record, certified)
}

// refused gives a refusal its exit code and what to do.
func (c *attestAcceptCmd) refused(err error) error {
	var enrol *attest.EnrolError
	var untrusted *evidence.UntrustedError
	switch {
	case errors.As(err, &untrusted):
		return &ui.Error{Code: ui.CodeRefused, Err: fmt.Errorf("%s: %w", c.Evidence, err), Hint: "ingot attest verify --evidence " + c.Evidence + " tells the whole of it"}
	case errors.As(err, &enrol) && enrol.Code == attest.EnrolName:
		return &ui.Error{Code: ui.CodeUsage, Err: err, Hint: "--name NAME: lower case letters, digits, dashes and dots"}
	case errors.As(err, &enrol) && enrol.Code == attest.EKUnknown:
		return &ui.Error{Code: ui.CodeRefused, Err: err, Hint: "name the root and intermediate certificates of the TPM's maker with --ek-root, or leave it out: then your word stands for the TPM"}
	case errors.As(err, &enrol):
		return &ui.Error{Code: ui.CodeRefused, Err: err}
	}
	return err
}

func (c *attestAcceptCmd) report(v *verb, e *evidence.Enrolled, certified attest.Certified) error {
	if v.ui.JSON {
		return v.ui.PrintJSON(struct {
			File      string           `json:"file"`
			Record    attest.Record    `json:"record"`
			Certified attest.Certified `json:"certified"`
		}{c.Output, e.Record, certified})
	}
	voucher := "your word stands for the TPM: " + certified.Why
	if certified.Chained {
		voucher = "its certificate leads to a root that you named, by " + certified.Issuer
	}
	if err := v.ui.Print("%s\nhost %s\nkey of the TPM (EK): %x\n  %s\nattestation key: %x\n  your word stands for it being in that TPM: only a server can have it proven (ingot attest serve)",
		c.Output, e.Record.Name, e.Record.EKName, voucher, e.Record.AKName); err != nil {
		return err
	}
	if len(c.Reference) == 0 {
		v.ui.Hint("ingot attest verify --evidence %s --enrolled %s --reference OUT/NAME-VERSION", c.Evidence, c.Output)
	}
	return nil
}
