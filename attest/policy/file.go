package policy

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Format is the revision of a release's file of policy signatures.
const Format = "ingot-pcrsig/1"

// MaxEpoch is the highest security epoch of a release, and so the highest
// floor.
const MaxEpoch = 63

// Limits of a file: its bytes, and signatures of all floors for some dozen
// values of PCR 11.
const (
	maxFile     = 1 << 20
	maxPolicies = (MaxEpoch + 1) * 32
)

// Register is the register whose values a release's file approves.
const Register = 11

// Ref is the policyRef of a floor. It binds a signature to the floor: a
// signature for one is none for another.
func Ref(floor int) string { return "ingot-floor-" + strconv.Itoa(floor) }

// File is what the holder of the policy key says about one release: with these
// values of PCR 11 it may open data keys of these floors. It lies beside the
// boot file, and never in it, because it depends on it (S4).
type File struct {
	Format   string   `json:"format"`
	PCR      int      `json:"pcr"`
	Bank     string   `json:"bank"`
	Key      []byte   `json:"policyKey"` // SubjectPublicKeyInfo, DER
	Policies []Signed `json:"policies"`
}

// Signed is one approved policy.
type Signed struct {
	Digest    string `json:"digest"` // hex, of PolicyPCR over Register
	Floor     int    `json:"floor"`
	Ref       string `json:"ref"`       // Ref(Floor)
	Signature []byte `json:"signature"` // RSASSA-PKCS1-v1_5, SHA-256, over Approval
}

// ErrSignature is wrapped when a signature of a file does not hold.
var ErrSignature = errors.New("the policy key did not sign this")

// ParseFile reads a file and checks its form, not its signatures.
func ParseFile(b []byte) (File, error) {
	var f File
	if len(b) > maxFile {
		return f, fmt.Errorf("parse policy signatures: %d bytes are more than %d", len(b), maxFile)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return File{}, fmt.Errorf("parse policy signatures: %w", err)
	}
	if d.More() {
		return File{}, fmt.Errorf("parse policy signatures: text after the end at byte %d", d.InputOffset())
	}
	if err := f.check(); err != nil {
		return File{}, fmt.Errorf("parse policy signatures: %w", err)
	}
	return f, nil
}

func (f File) check() error {
	switch {
	case f.Format != Format:
		return fmt.Errorf("format is %.40q, this program reads %q", f.Format, Format)
	case f.PCR != Register || f.Bank != "sha256":
		return fmt.Errorf("they are for PCR %d of bank %.20q, want PCR %d of sha256", f.PCR, f.Bank, Register)
	case len(f.Policies) == 0 || len(f.Policies) > maxPolicies:
		return fmt.Errorf("%d policies, want 1 to %d", len(f.Policies), maxPolicies)
	}
	for i, p := range f.Policies {
		switch {
		case p.Floor < 0 || p.Floor > MaxEpoch:
			return fmt.Errorf("policies[%d].floor: %d is not 0 to %d", i, p.Floor, MaxEpoch)
		case p.Ref != Ref(p.Floor):
			return fmt.Errorf("policies[%d].ref: %.40q is not %q", i, p.Ref, Ref(p.Floor))
		}
		if _, err := p.Policy(); err != nil {
			return fmt.Errorf("policies[%d].digest: %w", i, err)
		}
	}
	return nil
}

// Policy is the approved digest.
func (s Signed) Policy() (d Digest, err error) {
	b, err := hex.DecodeString(s.Digest)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("parse %.70q: want %d hex digits", s.Digest, 2*len(d))
	}
	return Digest(b), nil
}

// Verify checks every signature of the file by a key that is trusted from
// elsewhere; the key that the file names says only whose signatures they are.
func (f File) Verify(trusted []byte) error {
	k, err := ParseKey(trusted)
	if err != nil {
		return err
	}
	for i, p := range f.Policies {
		d, err := p.Policy()
		if err != nil {
			return err
		}
		sum := Approval(d, p.Ref)
		if rsa.VerifyPKCS1v15(k.RSA, crypto.SHA256, sum[:], p.Signature) != nil {
			return fmt.Errorf("verify policy signatures: policies[%d] (floor %d): %w", i, p.Floor, ErrSignature)
		}
	}
	return nil
}

// Find gives the signature for a digest at a floor.
func (f File) Find(d Digest, floor int) (Signed, bool) {
	want := hex.EncodeToString(d[:])
	i := slices.IndexFunc(f.Policies, func(p Signed) bool { return p.Floor == floor && p.Digest == want })
	if i < 0 {
		return Signed{}, false
	}
	return f.Policies[i], true
}

// Epoch is the highest floor that the file has a signature for, for this
// digest; -1 for none.
func (f File) Epoch(d Digest) int {
	want, top := hex.EncodeToString(d[:]), -1
	for _, p := range f.Policies {
		if p.Digest == want {
			top = max(top, p.Floor)
		}
	}
	return top
}
