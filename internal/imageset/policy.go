package imageset

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/measure"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/tree"
)

// Approval is one thing that a policy key signs: SHA-256 of Digest and Ref,
// after which a TPM takes Digest, the policy of a value of PCR 11, under Ref.
type Approval struct {
	Key    []byte // SubjectPublicKeyInfo of the policy key, DER
	Digest policy.Digest
	Ref    string // policy.Ref of a floor
}

// Unapproved is what the policy key has not signed yet: with this value of PCR
// 11 the release may open data keys of every floor up to its security epoch.
type Unapproved struct {
	Key   []byte // SubjectPublicKeyInfo of the policy key, DER
	PCR11 [32]byte
	Epoch int
}

// Unapproved tells what the policy key still has to sign; nil for nothing, as
// always when the machines do not encrypt their data.
func (d *Draft) Unapproved() (*Unapproved, error) {
	if len(d.Manifest.PolicyKey) == 0 {
		return nil, nil
	}
	value, err := d.pcr11()
	if err != nil {
		return nil, err
	}
	u := &Unapproved{Key: d.Manifest.PolicyKey, PCR11: value, Epoch: d.Manifest.SecurityEpoch}
	if f := d.plannedPolicies(value); f.Verify(u.Key) == nil {
		return nil, nil
	}
	return u, nil
}

// WritePolicies writes which value of PCR 11 may open data keys of which floor,
// with the authority's signatures, into the set and beside its boot file. A nil
// authority leaves out those that are not there yet. It follows Sign, and does
// nothing unless the manifest has a policy key.
func (d *Draft) WritePolicies(a Authority) error {
	key := d.Manifest.PolicyKey
	if len(key) == 0 {
		return nil
	}
	name := d.Manifest.Stem() + release.PolicySuffix
	value, err := d.pcr11()
	if err != nil {
		return measurable(err)
	}
	f := d.plannedPolicies(value)
	if a != nil {
		if err := approve(&f, key, a); err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
	}
	data, err := f.Bytes()
	if err != nil {
		return err
	}
	d.policies = &f
	if err := d.writeFile(name, data); err != nil {
		return err
	}
	return d.placePolicies(data)
}

// approve asks for the signatures that are missing.
func approve(f *policy.File, key []byte, a Authority) error {
	for i := range f.Policies {
		p := &f.Policies[i]
		if len(p.Signature) > 0 {
			continue
		}
		digest, err := p.Policy()
		if err == nil {
			p.Signature, err = a.Policy(Approval{key, digest, p.Ref})
		}
		if err != nil {
			return err
		}
	}
	return f.Verify(key)
}

// plannedPolicies has a policy for each floor, with the signatures that a
// loaded set has for exactly these.
func (d *Draft) plannedPolicies(value [32]byte) policy.File {
	f := policy.Plan(d.Manifest.PolicyKey, value, d.Manifest.SecurityEpoch)
	if d.policies == nil || !bytes.Equal(d.policies.Key, f.Key) {
		return f
	}
	for i := range f.Policies {
		digest, _ := f.Policies[i].Policy()
		if have, ok := d.policies.Find(digest, f.Policies[i].Floor); ok {
			f.Policies[i].Signature = have.Signature
		}
	}
	return f
}

// pcr11 is what the stub leaves in PCR 11.
func (d *Draft) pcr11() (value [32]byte, err error) {
	f, err := os.Open(d.path(".efi"))
	if err != nil {
		return value, err
	}
	defer f.Close()
	return measure.PCR11(f, d.UKI.Size())
}

// placePolicies puts the file beside the boot file that runs services: into the
// slots, or with systemd-boot onto the ESP.
func (d *Draft) placePolicies(data []byte) error {
	t := d.Slot
	if t == nil {
		t = d.ESP
	}
	if t == nil {
		return errors.New("place policy signatures: the disk has no boot file")
	}
	if n := t.Get(boot.PolicyPath); n != nil {
		n.Content = tree.Bytes(data)
		return nil
	}
	return t.Add(tree.Node{Path: boot.PolicyPath, Mode: 0o644, Content: tree.Bytes(data)})
}
