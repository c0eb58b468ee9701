package recipe

import (
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/machine"
)

func (c *checker) attest() {
	a := c.r.Attest
	if a == nil {
		return
	}
	c.errs = append(c.errs, machine.CheckServer(c.r.doc, "attest.server", a.Server)...)
	if d := time.Duration(a.Interval); d < time.Second || d > 24*time.Hour {
		c.add("attest.interval", "use 1s to 24h", "attest.interval is %s", d)
	}
	if t := c.r.Trust; t == nil || t.Keys == "" && len(t.Server) == 0 {
		c.add("attest", "add trust: {keys: DIR}, which ingot keys export writes, or trust.server", "attest is given, but trust names no authority that the server's certificate could lead to")
	}
}

// secrets come from the server that the machine attests to.
func (c *checker) secrets(at string, s *appliance.Service) {
	if len(s.Secrets) > 0 && c.r.Attest == nil {
		c.add(at, "add attest: {server: https://...}", "service %s waits for secrets of a server, but there is no attest", s.Name)
	}
	c.twice(at, "", s.Secrets)
}

// encrypt asks for what the policy of a sealed key is made of (S3).
func (c *checker) encrypt() {
	if c.r.Data.Encrypt == "" {
		return
	}
	t := c.r.Trust
	switch {
	case t == nil || t.Keys == "" && t.PK == "":
		c.add("data.encrypt", "add trust: {keys: DIR}, which ingot keys export writes", "data.encrypt is tpm, but trust has no Secure Boot keys: without them any system could ask the TPM for the key")
	case t.Keys == "" && t.Policy == "":
		c.add("data.encrypt", "add trust.policy", "data.encrypt is tpm, but trust.policy is missing: no release could unseal the key of another one")
	}
}
