package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/ui"
)

type attestCollectCmd struct {
	Output    string `short:"o" placeholder:"FILE" help:"Where to write the evidence (default: standard output)." type:"path"`
	Nonce     string `placeholder:"HEX" help:"What the verifier wants to see signed (default: a random one, which proves no freshness to others)."`
	NonceFile string `name:"nonce-file" placeholder:"FILE" help:"File whose bytes are the nonce." type:"path"`
	Device    string `default:"/dev/tpmrm0" help:"TPM, or the data socket of swtpm (default ${default})." type:"path"`
	EventLog  string `name:"event-log" placeholder:"FILE" help:"Firmware's event log (default: the kernel's)." type:"path"`
	InitLog   string `name:"init-log" placeholder:"FILE" help:"Log of ingot-init (default: /run/ingot/measurements, if there is one)." type:"path"`
}

// Run writes the evidence document.
func (c *attestCollectCmd) Run(v *verb) error {
	nonce, err := c.nonce()
	if err != nil {
		return err
	}
	e, err := abandon(v.ctx, func() (*attest.Evidence, error) {
		return evidence.Collect(evidence.Source{Device: c.Device, EventLog: c.EventLog, InitLog: c.InitLog, Nonce: nonce})
	})
	if err != nil {
		return err
	}
	b, err := evidence.Marshal(e)
	if err != nil {
		return err
	}
	if c.Output == "" {
		_, err = v.ui.Out.Write(b)
		return err
	}
	if err := os.WriteFile(c.Output, b, 0o644); err != nil {
		return err
	}
	return c.report(v, e)
}

// nonce is the verifier's, or one of 32 random bytes.
func (c *attestCollectCmd) nonce() ([]byte, error) {
	switch {
	case c.Nonce != "" && c.NonceFile != "":
		return nil, &ui.Error{Code: ui.CodeUsage, Err: errors.New("--nonce beside --nonce-file"), Hint: "give one of them"}
	case c.NonceFile != "":
		return nonceFile(c.NonceFile)
	case c.Nonce != "":
		return parseNonce(c.Nonce)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	return nonce, nil
}

// maxNonce bounds a nonce in bytes.
const maxNonce = 1 << 10

func parseNonce(text string) ([]byte, error) {
	nonce, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(nonce) == 0 || len(nonce) > maxNonce {
		return nil, &ui.Error{Code: ui.CodeUsage, Err: fmt.Errorf("--nonce %.40q: not 1 to %d bytes in hexadecimal digits", text, maxNonce), Hint: "openssl rand -hex 32 makes one"}
	}
	return nonce, nil
}

func nonceFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err == nil && (len(b) == 0 || len(b) > maxNonce) {
		err = fmt.Errorf("--nonce-file %s: %d bytes, want 1 to %d", path, len(b), maxNonce)
	}
	return b, err
}

// report says what was collected and what identifies the TPM.
func (c *attestCollectCmd) report(v *verb, e *attest.Evidence) error {
	s, err := evidence.Summarize(e)
	if err != nil {
		return err
	}
	if v.ui.JSON {
		return v.ui.PrintJSON(struct {
			File string `json:"file"`
			evidence.Summary
		}{c.Output, s})
	}
	return v.ui.Print("%s\nnonce: %x\nkey of the TPM (EK): %s\nattestation key: %s", c.Output, e.Nonce, s.EK, s.AK)
}
