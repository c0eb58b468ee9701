package verify

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/measure"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
)

// checkPolicies makes the file of policy signatures again out of the boot file,
// and verifies its signatures with the key that the image trusts (judgeSpec
// compares that with the manifest's).
func (v *verifier) checkPolicies(c *Check) error {
	if len(v.m.PolicyKey) == 0 {
		c.skip(WhyNotSealed)
		return nil
	}
	name := v.m.Stem() + release.PolicySuffix
	data, why, err := v.document(name)
	switch {
	case err != nil:
		return err
	case data == nil:
		c.skip(why)
		return nil
	case v.uki == nil:
		c.skip(v.nothing())
		return nil
	}
	f, err := policy.ParseFile(data)
	if err != nil {
		c.malformed(PolicyMalformed, at(name), err)
		return nil
	}
	value, err := measure.PCR11(v.uki.r, v.uki.size)
	if err != nil {
		c.note(name, WhyNoRules, v.uki.info.Stub)
		c.skip(WhyNoRules)
		return nil
	}
	c.Count = len(f.Policies)
	want := policy.Plan(v.m.PolicyKey, value, v.m.SecurityEpoch)
	if judgePolicies(c, name, want, f) {
		for i := range want.Policies {
			want.Policies[i].Signature = f.Policies[i].Signature
		}
		again, err := want.Bytes()
		if err != nil {
			return err
		}
		if off := firstDifference(again, data); off >= 0 {
			c.refuse(PolicyMalformed, at(name).byte(off), "the encoding that ingot writes", "another one")
		}
	}
	v.judgePolicyCopies(c, name)
	return nil
}

// judgePolicies compares key, floors and digests, and checks the signatures.
func judgePolicies(c *Check, name string, want, got policy.File) bool {
	if !bytes.Equal(want.Key, got.Key) {
		c.refuse(PolicyDiffers, at(name, "policyKey"), keyText(want.Key), keyText(got.Key))
		return false
	}
	if len(want.Policies) != len(got.Policies) {
		c.refuse(PolicyDiffers, at(name, "policies"), fmt.Sprint(len(want.Policies)), fmt.Sprint(len(got.Policies)))
		return false
	}
	signed := 0
	for i, w := range want.Policies {
		g := got.Policies[i]
		c.differ(PolicyDiffers, at(name, "policies", fmt.Sprint(i), "floor"), fmt.Sprint(w.Floor), fmt.Sprint(g.Floor))
		c.differ(PolicyDiffers, at(name, "policies", fmt.Sprint(i), "digest"), w.Digest, g.Digest)
		if len(g.Signature) > 0 {
			signed++
		}
	}
	switch err := got.Verify(want.Key); {
	case c.State == Failed:
		return false
	case signed == 0:
		c.skip(WhyUnsigned)
	case err != nil:
		c.malformed(PolicySignature, at(name), err)
		return false
	}
	return true
}

func keyText(key []byte) string {
	return fmt.Sprintf("a key of %d bytes, %s…", len(key), hex.EncodeToString(key[:min(len(key), 8)]))
}

// judgePolicyCopies demands the file beside the boot file, where ingot-init
// looks for it.
func (v *verifier) judgePolicyCopies(c *Check, name string) {
	want, _ := v.entry(name)
	roles := []string{partition.SlotA, partition.SlotB}
	if p := v.part(partition.SlotA); p != nil && p.tree == nil && p.intact { // systemd-boot
		roles = []string{partition.ESP}
	}
	for _, role := range roles {
		if p := v.part(role); p != nil && p.tree != nil {
			c.differ(PolicyDiffers, at(v.image.name, role, boot.PolicyPath), want.SHA256, v.found[role][boot.PolicyPath].sha256)
		}
	}
}
