package verify_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
)

// sealing is an appliance whose machines encrypt their data, and the keys that
// it trusts.
func sealing(t *testing.T) (*buildtest.Appliance, string) {
	t.Helper()
	a, dir := buildtest.New(t, ""), filepath.Join(t.TempDir(), "keys")
	set, err := keys.Init(ctx, dir, keys.Options{Name: "acme", Test: true, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Export(ctx, filepath.Join(a.Dir, "trust")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(a.Dir, "appliance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	a.File("appliance.yaml", strings.Replace(string(text), "data: {disabled: true}\n", "data: {encrypt: tpm}\ntrust: {keys: ./trust}\nsecurityEpoch: 1\n", 1), 0o644)
	return a, dir
}

// withPolicies edits the policy signatures of the set, not those in the slots.
func withPolicies(t *testing.T, edit func(*policy.File)) func(string, *release.Manifest) {
	return func(dir string, m *release.Manifest) {
		name := m.Stem() + release.PolicySuffix
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f, err := policy.ParseFile(data)
		if err != nil {
			t.Fatal(err)
		}
		edit(&f)
		if data, err = f.Bytes(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil { // it is a link
			t.Fatal(err)
		}
		replaceDocument(t, dir, m, name, data)
		withProvenance(t, func(s *provenance.Statement) { s.SetOutputs(outputs(m)) })(dir, m)
	}
}

// TestPolicies: the policy signatures of a set are verified, and a file of them
// that says something else is refused although the image key has signed it.
func TestPolicies(t *testing.T) {
	a, dir := sealing(t)
	by := authority(t, dir)
	set := makeSet(t, a, by)
	r := run(t, verify.Options{Path: set.Dir, Trust: trust(t, dir)})
	accepted(t, r, verify.Verified)
	i := slices.IndexFunc(r.Checks, func(c *verify.Check) bool { return c.Name == verify.CheckPolicies })
	if c := r.Checks[i]; c.State != verify.Passed || c.Count != 2 {
		t.Errorf("policies: %s of %d, want 2", c.State, c.Count)
	}
	bare := run(t, verify.Options{Path: makeSet(t, a, nil).Dir, Unsigned: true})
	accepted(t, bare, verify.Unsigned)
	if c := bare.Checks[i]; c.State != verify.Skipped || c.Why != verify.WhyUnsigned {
		t.Errorf("policies of an unsigned set: %s, %s", c.State, c.Why)
	}

	const zero = "0000000000000000000000000000000000000000000000000000000000000000"
	for _, c := range []struct {
		name  string
		edit  func(string, *release.Manifest)
		code  verify.Code
		place string
	}{
		{"signature", withPolicies(t, func(f *policy.File) { f.Policies[1].Signature[9] ^= 1 }), verify.PolicySignature, ".pcrsig"},
		{"one signature of two", withPolicies(t, func(f *policy.File) { f.Policies[1].Signature = nil }), verify.PolicySignature, ".pcrsig"},
		{"digest", withPolicies(t, func(f *policy.File) { f.Policies[0].Digest = zero }), verify.PolicyDiffers, "policies → 0 → digest"},
		{"floor", withPolicies(t, func(f *policy.File) { f.Policies[0].Floor, f.Policies[0].Ref = 1, policy.Ref(1) }), verify.PolicyDiffers, "policies → 0 → floor"},
		{"a floor less", withPolicies(t, func(f *policy.File) { f.Policies = f.Policies[:1] }), verify.PolicyDiffers, "policies"},
		{"another file than in the slots", withPolicies(t, func(f *policy.File) { f.Policies[1].Signature[9] ^= 1 }), verify.PolicyDiffers, "slot-a → EFI/INGOT/release.pcrsig"},
		{"key of the file", withPolicies(t, func(f *policy.File) { f.Key = f.Key[1:] }), verify.PolicyDiffers, "policyKey"},
		{"key of the manifest", func(_ string, m *release.Manifest) { m.PolicyKey[40] ^= 1 }, verify.InitramfsIdentity, "trust.policy"},
		{"no key in the manifest", func(_ string, m *release.Manifest) { m.PolicyKey = nil }, verify.InitramfsIdentity, "trust.policy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, run(t, verify.Options{Path: edited(t, set, by, c.edit), Trust: trust(t, dir)}), c.code, c.place)
		})
	}
}
