package inspect

import (
	"crypto/x509"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/attest/policy"
)

// readPolicies shows which values of PCR 11 a release may open data keys with,
// and for which floors.
func readPolicies(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	f, err := policy.ParseFile(data)
	if err != nil {
		return err
	}
	n.add("format", f.Format)
	n.add("register", fmt.Sprintf("PCR %d of %s", f.PCR, f.Bank))
	c := n.child("key", "policy")
	if pub, err := x509.ParsePKIXPublicKey(f.Key); err != nil {
		c.add("problem", err)
	} else {
		addKey(c, pub)
	}
	for i, p := range f.Policies {
		name := p.Ref
		if i > 0 && p.Digest != f.Policies[0].Digest {
			name += " of " + p.Digest
		}
		c := n.child("policy", name)
		c.add("digest", p.Digest)
		c.add("signature", fmt.Sprintf("%x", p.Signature))
	}
	return nil
}
