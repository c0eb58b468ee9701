package accept

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/testkey"
	"github.com/ingot-os/ingot/internal/updateapi"
)

const mib = 1 << 20

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+n)), ed25519.SeedSize)))
}

func digest(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// manifest is a release with a root for the machine of target.
func manifest() *release.Manifest {
	m := &release.Manifest{
		Format: release.Format, Name: "hello", Version: "2.0.0", Arch: "amd64", SecurityEpoch: 3, DataSchema: 1, DataAccepts: 2,
		Disk: release.Disk{Layout: "esp1-slot4-root4-state1", SectorSize: 512, Size: 64 * mib, GUID: "d"},
		Root: &release.Root{Format: "squashfs"},
	}
	for i, role := range []string{"esp", "slot-a", "slot-b", "root-a", "root-b", "state", "data"} {
		m.Disk.Partitions = append(m.Disk.Partitions, release.Partition{
			Index: i + 1, Role: role, GUID: "g-" + role, Start: int64(1+4*i) * mib, Size: 4 * mib, SHA256: digest(strings.TrimRight(role, "-ab")),
		})
	}
	return m
}

func target() *Target {
	t := &Target{Name: "hello", Arch: "amd64", Root: true, Layout: appliance.Layout{ID: "esp1-slot4-root4-state1", Disk: "D", Part: map[string]string{}}}
	for _, role := range []string{"esp", "slot-a", "slot-b", "root-a", "root-b", "state", "data"} {
		t.Layout.Part[role] = "G-" + role
	}
	t.Size = func(string) int64 { return 4 * mib }
	return t
}

func seal(t testing.TB, m *release.Manifest, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return sealed(t, dsse.TypeManifest, b, keys...)
}

func sealed(t testing.TB, typ string, payload []byte, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	var signers []dsse.Signer
	for _, k := range keys {
		s, err := dsse.NewSigner(k)
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, s)
	}
	env, err := dsse.Sign(typ, payload, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func accepter(t testing.TB, target *Target) Accepter {
	t.Helper()
	a, err := New(Options{Keys: []crypto.PublicKey{key(0).Public(), key(1).Public(), key(2).Public()}, Threshold: 2, Target: target})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func code(err error) string {
	var e *updateapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestAccept(t *testing.T) {
	env := seal(t, manifest(), key(0), key(2))
	r, err := accepter(t, target()).Accept(env, time.Time{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := manifest().Marshal()
	want := slot.Content{Version: "2.0.0", Epoch: 3, Schema: 1, Accepts: 2, Image: sha256.Sum256([]byte("slot")), Root: sha256.Sum256([]byte("root"))}
	if r.Content != want || r.Digest != sha256.Sum256(b) || len(r.Signers) != 2 {
		t.Errorf("%+v", r)
	}
	if len(r.Parts) != 2 || r.Parts[0] != (Part{"root", 4 * mib, want.Root}) || r.Parts[1] != (Part{"slot", 4 * mib, want.Image}) {
		t.Errorf("parts %+v: the root comes first, the slot last", r.Parts)
	}
	if got := Role("root", slot.B); got != "root-b" {
		t.Error(got)
	}
}

// A machine takes nothing that is not signed by enough of its keys.
func TestUntrusted(t *testing.T) {
	b, _ := manifest().Marshal()
	good := seal(t, manifest(), key(0), key(1))
	for name, env := range map[string][]byte{
		"one key":             seal(t, manifest(), key(0)),
		"one key twice":       seal(t, manifest(), key(0), key(0)),
		"a foreign key":       seal(t, manifest(), key(0), key(7)),
		"another type":        sealed(t, dsse.TypeInToto, b, key(0), key(1)),
		"a changed signature": []byte(strings.Replace(string(good), `"sig":"`, `"sig":"AAAA`, 1)),
		"no envelope":         b,
		"nothing":             nil,
	} {
		if r, err := accepter(t, target()).Accept(env, time.Time{}, 0); r != nil || code(err) != updateapi.Untrusted {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

// Each of these is signed, and still not for this machine, or no release.
func TestRefused(t *testing.T) {
	part := func(m *release.Manifest, role string) *release.Partition {
		for i := range m.Disk.Partitions {
			if m.Disk.Partitions[i].Role == role {
				return &m.Disk.Partitions[i]
			}
		}
		return nil
	}
	drop := func(m *release.Manifest, role string) {
		p := part(m, role)
		*p = m.Disk.Partitions[len(m.Disk.Partitions)-1]
		m.Disk.Partitions = m.Disk.Partitions[:len(m.Disk.Partitions)-1]
	}
	tests := []struct {
		name, code string
		change     func(*release.Manifest)
	}{
		{"another appliance", updateapi.Mismatched, func(m *release.Manifest) { m.Name = "gateway" }},
		{"another architecture", updateapi.Mismatched, func(m *release.Manifest) { m.Arch = "arm64" }},
		{"another layout", updateapi.Mismatched, func(m *release.Manifest) { m.Disk.Layout = "esp1-slot8-state1" }},
		{"another disk", updateapi.Mismatched, func(m *release.Manifest) { m.Disk.GUID = "e" }},
		{"no disk id", updateapi.Mismatched, func(m *release.Manifest) { m.Disk.GUID = "" }},
		{"another partition", updateapi.Mismatched, func(m *release.Manifest) { part(m, "esp").GUID = "x" }},
		{"one partition more", updateapi.Mismatched, func(m *release.Manifest) { part(m, "esp").Role = "more" }},
		{"no state", updateapi.Mismatched, func(m *release.Manifest) { drop(m, "state") }},
		{"too large", updateapi.Mismatched, func(m *release.Manifest) { part(m, "slot-a").Size += mib; part(m, "slot-b").Size += mib }},
		{"smaller", updateapi.Mismatched, func(m *release.Manifest) { part(m, "root-a").Size = mib; part(m, "root-b").Size = mib }},
		{"no root", updateapi.Mismatched, func(m *release.Manifest) { m.Root = nil; drop(m, "root-a"); drop(m, "root-b") }},
		{"below the floor", updateapi.BelowFloor, func(m *release.Manifest) { m.SecurityEpoch = 2 }},
		{"slots differ", updateapi.Malformed, func(m *release.Manifest) { part(m, "slot-b").SHA256 = digest("x") }},
		{"one slot", updateapi.Malformed, func(m *release.Manifest) { drop(m, "slot-b") }},
		{"slot a twice", updateapi.Malformed, func(m *release.Manifest) { part(m, "slot-b").Role = "slot-a" }},
		{"no slots", updateapi.Malformed, func(m *release.Manifest) { drop(m, "slot-a"); drop(m, "slot-b") }},
		{"root without partitions", updateapi.Malformed, func(m *release.Manifest) { drop(m, "root-a"); drop(m, "root-b") }},
		{"partitions without root", updateapi.Malformed, func(m *release.Manifest) { m.Root = nil }},
		{"tiny", updateapi.Malformed, func(m *release.Manifest) { part(m, "slot-a").Size = 512; part(m, "slot-b").Size = 512 }},
		{"no digest", updateapi.Malformed, func(m *release.Manifest) { part(m, "slot-a").SHA256 = ""; part(m, "slot-b").SHA256 = "" }},
		{"long version", updateapi.Malformed, func(m *release.Manifest) { m.Version = strings.Repeat("1", slot.MaxVersion+1) }},
		{"odd version", updateapi.Malformed, func(m *release.Manifest) { m.Version = "1\n2" }},
	}
	for _, tt := range tests {
		m := manifest()
		tt.change(m)
		if r, err := accepter(t, target()).Accept(seal(t, m, key(0), key(1)), time.Time{}, 3); r != nil || code(err) != tt.code {
			t.Errorf("%s: %v, %v; want %s", tt.name, r, err, tt.code)
		}
	}
	b, _ := manifest().Marshal()
	later := strings.Replace(string(b), `"name"`, `"later": 1, "name"`, 1)
	if _, err := accepter(t, target()).Accept(sealed(t, dsse.TypeManifest, []byte(later), key(0), key(1)), time.Time{}, 3); code(err) != updateapi.Malformed {
		t.Errorf("a field of a later revision: %v", err)
	}
}

// A release without a data partition runs beside one, and one that needs a
// partition this machine has not does not.
func TestData(t *testing.T) {
	m := manifest()
	m.Disk.Partitions = m.Disk.Partitions[:6]
	if _, err := accepter(t, target()).Accept(seal(t, m, key(0), key(1)), time.Time{}, 0); err != nil {
		t.Error(err)
	}
	without := target()
	delete(without.Layout.Part, "data")
	if _, err := accepter(t, without).Accept(seal(t, manifest(), key(0), key(1)), time.Time{}, 0); code(err) != updateapi.Mismatched {
		t.Error(err)
	}
}

func TestForMachine(t *testing.T) {
	if _, err := ForMachine(appliance.Spec{}, nil); err == nil {
		t.Error("a machine without keys accepts")
	}
	if _, err := New(Options{Keys: []crypto.PublicKey{key(0).Public()}, Threshold: 2}); err == nil {
		t.Error("a threshold that nobody reaches")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no signature needed")
	}
}

// A machine of a fleet with TEST keys can tell.
func TestIsTest(t *testing.T) {
	marked := testkey.New("db", nil).Cert.Raw
	real := testkey.New("db", func(c *x509.Certificate) { c.Subject.CommonName = "contest db" }).Cert.Raw
	for want, list := range map[bool][]*appliance.Trust{
		true:  {{DB: [][]byte{real, marked}}, {Server: [][]byte{marked}}, {Operator: marked}},
		false: {nil, {}, {PK: []byte{1}, DB: [][]byte{real}, Server: [][]byte{real}}},
	} {
		for _, trust := range list {
			if IsTest(trust) != want {
				t.Errorf("%+v: want %v", trust, want)
			}
		}
	}
}

// TestMemory holds the bound of the package comment: 100,000 files.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("a manifest of 20 MB")
	}
	m := manifest()
	for i := range 100_000 {
		m.Contents = append(m.Contents, release.Entry{Path: fmt.Sprintf("usr/lib/some/where/file-%06d", i), Mode: "0100644", Size: 4711, SHA256: digest(fmt.Sprint(i))})
	}
	env := seal(t, m, key(0), key(1))
	a := accepter(t, target())
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := a.Accept(env, time.Time{}, 0); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	t.Logf("envelope %d MB, allocated %d MB", len(env)>>20, (after.TotalAlloc-before.TotalAlloc)>>20)
	if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > 400 {
		t.Errorf("%d MB were allocated", got)
	}
}

// FuzzAccept: whatever an envelope holds, only what was signed is accepted.
func FuzzAccept(f *testing.F) {
	good := seal(f, manifest(), key(0), key(1))
	payload, _ := manifest().Marshal()
	f.Add(good)
	f.Add([]byte(`{"payload":"","payloadType":"` + dsse.TypeManifest + `","signatures":[]}`))
	f.Fuzz(func(t *testing.T, env []byte) {
		r, err := accepter(t, target()).Accept(env, time.Time{}, 0)
		if (r == nil) != (err != nil) {
			t.Fatal(r, err)
		}
		if err == nil && r.Digest != sha256.Sum256(payload) {
			t.Errorf("accepted a manifest that was never signed: %x", r.Digest)
		}
	})
}

// FuzzRead: a manifest that reads gives parts that can be written.
func FuzzRead(f *testing.F) {
	payload, _ := manifest().Marshal()
	f.Add(payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Read(b)
		if err != nil {
			if code(err) != updateapi.Malformed {
				t.Error(err)
			}
			return
		}
		_ = target().Fits(r)
		for _, p := range r.Parts {
			if p.Size < slot.HeaderSize || p.Size%slot.HeaderSize != 0 || p.SHA256 == (slot.Digest{}) && hex.EncodeToString(p.SHA256[:]) == "" {
				t.Errorf("part %+v", p)
			}
		}
		if _, err := (slot.Record{Good: slot.A, Slots: [2]slot.Content{r.Content, {}}}).AppendBinary(nil); err != nil {
			t.Errorf("the journal refuses what was accepted: %v", err)
		}
	})
}

// A machine whose partition is not found takes nothing for it.
func TestNoPartition(t *testing.T) {
	m := target()
	r := &Release{Parts: []Part{{Name: "slot", Size: 4 * mib}}}
	if err := m.fitSizes(r); err != nil {
		t.Error(err)
	}
	m.Size = func(role string) int64 {
		if role == "slot-b" {
			return 0
		}
		return 4 * mib
	}
	if err := m.fitSizes(r); err == nil {
		t.Error("slot-b is not there, and the release is taken")
	}
}
