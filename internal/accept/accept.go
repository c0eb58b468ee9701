// Package accept decides whether a release may go to a machine: who signed its
// manifest, whether it was made for this appliance and this disk, and whether
// its security epoch is not below the floor. Machine, server and programs for
// operators decide by the same code.
//
//	a, err := accept.New(accept.Options{Keys: keys, Threshold: 2, Target: accept.TargetOf(spec)})
//	r, err := a.Accept(envelope, time.Now(), floor)
//
// A refusal is a *updateapi.Error with a code of that package. Nothing of an
// envelope is looked at before enough keys have signed it.
//
// The first Accepter is Threshold: a DSSE envelope with signatures by N of the
// fleet's keys. It knows no dates; one of TUF metadata will take them.
//
// Memory: Accept allocates ten times the envelope in all (TestMemory: 240 MB for
// 24 MB, a manifest of 100,000 files; half a megabyte for hello's) and keeps the
// manifest's fields only. What a machine reads is bounded by dsse.MaxEnvelope.
package accept

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Accepter decides about releases.
type Accepter interface {
	// Accept returns what a signed manifest offers. Floor is the lowest security
	// epoch that is taken; now is for metadata that expires. An error is a
	// *updateapi.Error.
	Accept(envelope []byte, now time.Time, floor uint32) (*Release, error)
}

// Release is what was accepted.
type Release struct {
	Digest   slot.Digest // SHA-256 of manifest.json: how servers name a release
	Version  string
	Content  slot.Content // for the state machine; Condition is not set
	Parts    []Part       // in the order in which they are written
	Signers  []string     // ids of the keys that count, sorted (package dsse)
	Manifest *release.Manifest
}

// Part is the content of a partition.
type Part struct {
	Name   string // updateapi.PartRoot or PartSlot
	Size   int64  // of the partition in bytes
	SHA256 slot.Digest
}

// Options configure New.
type Options struct {
	Keys      []crypto.PublicKey // whose signatures count
	Threshold int                // how many different ones are needed
	Target    *Target            // the machine; nil: any, for a server or an operator
}

// Threshold accepts what enough keys have signed.
type Threshold struct {
	policy dsse.Policy
	target *Target
}

// New checks the options.
func New(o Options) (*Threshold, error) {
	if o.Threshold < 1 || o.Threshold > len(o.Keys) {
		return nil, fmt.Errorf("accept releases: threshold %d with %d keys", o.Threshold, len(o.Keys))
	}
	return &Threshold{dsse.Policy{Keys: o.Keys, Threshold: o.Threshold, Types: []string{dsse.TypeManifest}}, o.Target}, nil
}

// ForMachine is the Accepter of a machine with this image; size is as in Target.
func ForMachine(spec appliance.Spec, size func(role string) int64) (*Threshold, error) {
	if spec.Trust == nil || len(spec.Trust.Image) == 0 {
		return nil, fmt.Errorf("accept releases: the image names no keys that sign releases")
	}
	keys, err := Keys(spec.Trust.Image)
	if err != nil {
		return nil, err
	}
	target := TargetOf(spec)
	target.Size = size
	return New(Options{Keys: keys, Threshold: spec.Trust.Threshold, Target: target})
}

// Keys reads keys as appliance.Trust has them.
func Keys(list [][]byte) ([]crypto.PublicKey, error) {
	var out []crypto.PublicKey
	for i, der := range list {
		key, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return nil, fmt.Errorf("accept releases: key %d: %w", i, err)
		}
		out = append(out, key)
	}
	return out, nil
}

// Accept implements Accepter.
func (t *Threshold) Accept(envelope []byte, _ time.Time, floor uint32) (*Release, error) {
	v, err := dsse.Verify(envelope, t.policy)
	if err != nil {
		return nil, refuse(updateapi.Untrusted, "sign the release with the keys of this fleet: ingot sign", "%v", err)
	}
	r, err := Read(v.Payload)
	if err != nil {
		return nil, err
	}
	r.Signers = v.Signers
	if t.target != nil {
		if err := t.target.Fits(r); err != nil {
			return nil, err
		}
	}
	if r.Content.Epoch < floor {
		return nil, refuse(updateapi.BelowFloor, "what has a known weakness is not installed any more: build a version with a higher securityEpoch",
			"version %s has security epoch %d, the floor is %d", r.Version, r.Content.Epoch, floor)
	}
	return r, nil
}

// Read reads what a manifest offers. Nobody has vouched for it.
func Read(manifest []byte) (*Release, error) {
	m, err := release.Parse(manifest)
	if err != nil {
		return nil, refuse(updateapi.Malformed, "", "%v", err)
	}
	r := &Release{Digest: sha256.Sum256(manifest), Version: m.Version, Manifest: m}
	if err := r.fill(); err != nil {
		return nil, err
	}
	return r, nil
}

func refuse(code, hint, format string, args ...any) *updateapi.Error {
	return &updateapi.Error{Code: code, Detail: fmt.Sprintf(format, args...), Hint: hint}
}

// IsTest tells whether a certificate of an image's trust is marked TEST (package
// keys): the keys of such a fleet sign for environments dev and test, and a
// machine that trusts them says so.
func IsTest(t *appliance.Trust) bool {
	if t == nil {
		return false
	}
	list := append([][]byte{t.PK, t.KEK, t.Fleet, t.Operator}, append(slices.Clone(t.DB), t.Server...)...)
	return slices.ContainsFunc(list, func(der []byte) bool {
		c, err := x509.ParseCertificate(der)
		return err == nil && slices.Contains(strings.Fields(c.Subject.CommonName), "TEST")
	})
}
