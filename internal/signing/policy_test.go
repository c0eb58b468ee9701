package signing_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/measure"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
)

// sealing makes an appliance of a security epoch whose machines encrypt their
// data, and the key set whose export it trusts.
func sealing(t *testing.T, epoch string) (*buildtest.Appliance, string) {
	t.Helper()
	app := buildtest.New(t, "")
	dir := filepath.Join(t.TempDir(), "keys")
	set, err := keys.Init(ctx, dir, keys.Options{Name: "acme", Test: true, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Export(ctx, filepath.Join(app.Dir, "trust")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(app.Dir, "appliance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	app.File("appliance.yaml", strings.Replace(string(text), "data: {disabled: true}\n", "data: {encrypt: tpm}\ntrust: {keys: ./trust}\nsecurityEpoch: "+epoch+"\n", 1), 0o644)
	return app, dir
}

// signatures reads the file of a set, and the one that ingot-init will read.
func signatures(t *testing.T, set *release.Set) policy.File {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(set.Dir, set.Manifest.Stem()+release.PolicySuffix))
	if err != nil {
		t.Fatal(err)
	}
	f, err := policy.ParseFile(data)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.Open(set.Image())
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	l, err := partition.Read(disk, set.Manifest.Disk.Size)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{partition.SlotA, partition.SlotB} {
		p, _ := l.Part(role)
		v, err := fat.Open(p.Section(disk), p.Size)
		if err != nil {
			t.Fatal(err)
		}
		files, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		n := files.Get(boot.PolicyPath)
		if n == nil {
			t.Fatalf("%s has no %s", role, boot.PolicyPath)
		}
		if n.Size() != int64(len(data)) {
			t.Errorf("%s: %s has %d bytes, the file of the set %d", role, n.Path, n.Size(), len(data))
		}
	}
	return f
}

// TestPolicies: a release of security epoch 2 has a signature for each of the
// floors 0 to 2, made inline and split with the same bytes; without keys it has
// the same digests and no signature.
func TestPolicies(t *testing.T) {
	app, dir := sealing(t, "2")
	inline := makeSet(t, app, t.TempDir(), authority(t, dir))
	f := signatures(t, inline)
	public := open(t, dir).Public(keys.Policy).(*rsa.PublicKey)
	uki, err := os.Open(inline.UKI())
	if err != nil {
		t.Fatal(err)
	}
	defer uki.Close()
	info, err := uki.Stat()
	if err != nil {
		t.Fatal(err)
	}
	value, err := measure.PCR11(uki, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Digest{}.PCR(policy.Values{11: value})
	if len(f.Policies) != 3 {
		t.Fatalf("%d policies, want 3", len(f.Policies))
	}
	for i, p := range f.Policies {
		sum := policy.Approval(want, policy.Ref(i))
		if p.Floor != i || p.Digest != hex.EncodeToString(want[:]) || rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], p.Signature) != nil {
			t.Errorf("policy %d: %+v", i, p)
		}
	}

	bare := makeSet(t, app, t.TempDir(), nil)
	for i, p := range signatures(t, bare).Policies {
		if p.Digest != f.Policies[i].Digest || p.Signature != nil {
			t.Errorf("without keys, policy %d: %+v", i, p)
		}
	}
	r := request(t, bare, false)
	if r.Policy == nil || r.Policy.PCR11 != hex.EncodeToString(value[:]) || r.Policy.Epoch != 2 {
		t.Fatalf("the request asks for %+v", r.Policy)
	}
	same(t, "inline and split", inline.Dir, split(t, bare, authority(t, dir)).Dir)
}

// TestPoliciesApart: db key and policy key answer one request on two machines,
// and neither can be left out.
func TestPoliciesApart(t *testing.T) {
	app, dir := sealing(t, "0")
	set := makeSet(t, app, t.TempDir(), nil)
	r := request(t, set, false)
	lone := func(p keys.Purpose) *signing.Authority {
		s := open(t, dir)
		k, err := s.Key(p)
		if err != nil {
			t.Fatal(err)
		}
		uri := strings.Replace(k.URI, "file:", "file:"+dir+"/", 1)
		a, err := signing.Single(ctx, uri, s.Public(p), s.Certificate(p), dev)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	db, pol := answer(t, lone(keys.DB), r), answer(t, lone(keys.Policy), r)
	if len(db.Boot) != 1 || db.Policy != nil || len(pol.Boot) != 0 || pol.Policy == nil {
		t.Fatalf("db key: %+v; policy key: %+v", db, pol)
	}
	if err := signing.Attach(set, []*signing.Response{db}, now); !errors.Is(err, signing.ErrMissing) {
		t.Errorf("without the policy key: %v", err)
	}
	if err := signing.Attach(set, []*signing.Response{pol}, now); !errors.Is(err, signing.ErrMissing) {
		t.Errorf("without the db key: %v", err)
	}
	set = attach(t, set, db, pol)
	if err := signatures(t, set).Verify(set.Manifest.PolicyKey); err != nil {
		t.Error(err)
	}
	if err := signing.Attach(set, []*signing.Response{pol}, now); !errors.Is(err, signing.ErrNotWanted) && !errors.Is(err, signing.ErrOtherSet) {
		t.Errorf("a second time: %v", err)
	}
}

// TestPoliciesRefuse: what does not follow from the boot file is not signed, and
// what another key has signed is not attached.
func TestPoliciesRefuse(t *testing.T) {
	app, dir := sealing(t, "1")
	set := makeSet(t, app, t.TempDir(), nil)
	r := request(t, set, false)
	if _, err := signing.Single(ctx, "file:nowhere", open(t, keySet).Public(keys.Policy), nil, dev); err != nil {
		t.Fatal(err)
	}
	other := authority(t, keySet)
	if _, err := other.Answer(r); err == nil {
		resp, _ := other.Answer(r)
		if resp.Policy != nil {
			t.Error("another policy key has signed")
		}
	}
	good := answer(t, authority(t, dir), r)
	for name, change := range map[string]func(*signing.Response){
		"a bit":        func(x *signing.Response) { x.Policy.Signatures[1][7] ^= 1 },
		"swapped":      func(x *signing.Response) { s := x.Policy.Signatures; s[0], s[1] = s[1], s[0] },
		"one floor":    func(x *signing.Response) { x.Policy.Epoch = 0; x.Policy.Signatures = x.Policy.Signatures[:1] },
		"other digest": func(x *signing.Response) { x.Policy.Digest = strings.Repeat("0", 64) },
	} {
		data, err := json.Marshal(good)
		if err != nil {
			t.Fatal(err)
		}
		x := new(signing.Response)
		if err := json.Unmarshal(data, x); err != nil {
			t.Fatal(err)
		}
		change(x)
		if err := signing.Attach(set, []*signing.Response{x}, now); err == nil {
			t.Errorf("%s: attached", name)
		}
	}
	for name, change := range map[string]func(*signing.PolicyItem){
		"digest": func(p *signing.PolicyItem) { p.Digest = strings.Repeat("0", 64) },
		"value":  func(p *signing.PolicyItem) { p.PCR11 = strings.Repeat("0", 64) },
		"epoch":  func(p *signing.PolicyItem) { p.Epoch = 64 },
		"key":    func(p *signing.PolicyItem) { p.Key = p.Key[1:] },
	} {
		bad := *r
		item := *r.Policy
		change(&item)
		bad.Policy = &item
		if _, err := authority(t, dir).Answer(&bad); err == nil || !strings.Contains(err.Error(), "policy.") {
			t.Errorf("%s: signed, %v", name, err)
		}
	}
}

// TestPoliciesRaw: signatures that another program made are named by their
// floors, and none may be missing or wrong.
func TestPoliciesRaw(t *testing.T) {
	app, dir := sealing(t, "1")
	set := makeSet(t, app, t.TempDir(), nil)
	r := request(t, set, true)
	good := answer(t, authority(t, dir), r)
	cert := open(t, dir).Certificate(keys.DB)
	raw := func(change func(map[string][]byte)) error {
		sigs := map[string][]byte{r.Boot[0].File: good.Boot[0].Signature, policy.Ref(0): good.Policy.Signatures[0], policy.Ref(1): good.Policy.Signatures[1]}
		change(sigs)
		resp, err := signing.Raw(r, sigs, []signing.Certified{{Key: cert.PublicKey, Certificate: cert}})
		if err == nil && resp.Policy != nil {
			return signing.Attach(set, []*signing.Response{resp}, now)
		}
		return err
	}
	for name, c := range map[string]struct {
		change func(map[string][]byte)
		want   string
	}{
		"one of two":    {func(m map[string][]byte) { delete(m, policy.Ref(1)) }, "ingot-floor-1 is missing"},
		"only the last": {func(m map[string][]byte) { delete(m, policy.Ref(0)) }, "1 of them are of no file"},
		"swapped":       {func(m map[string][]byte) { m[policy.Ref(0)], m[policy.Ref(1)] = m[policy.Ref(1)], m[policy.Ref(0)] }, policy.ErrSignature.Error()},
		"another floor": {func(m map[string][]byte) { m[policy.Ref(2)] = m[policy.Ref(1)] }, "the set wants tiny-1.0.0.efi ingot-floor-0 ingot-floor-1"},
	} {
		if err := raw(c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if err := raw(func(map[string][]byte) {}); err != nil {
		t.Fatal(err)
	}
	if err := signatures(t, reopen(t, set)).Verify(set.Manifest.PolicyKey); err != nil {
		t.Error(err)
	}
}
