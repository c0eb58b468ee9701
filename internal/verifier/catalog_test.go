package verifier

import (
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
)

func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// writeSet writes what of an image set a verifier reads.
func writeSet(t testing.TB, dir string, ref attest.Reference, key *ecdsa.PrivateKey) {
	t.Helper()
	document, err := reference.Marshal(&ref)
	if err != nil {
		t.Fatal(err)
	}
	m := release.Manifest{Format: release.Format, Name: ref.Name, Version: ref.Version, Arch: "amd64", SecurityEpoch: int(ref.Epoch),
		Files: []release.File{{Name: reference.FileName, Size: int64(len(document)), SHA256: audit.Sum(document).String()}}}
	manifest, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{release.ManifestName: string(manifest), reference.FileName: string(document)}
	if key != nil {
		files[release.EnvelopeName] = signedManifest(t, manifest, key)
	}
	writeFiles(t, dir, files)
}

func signedManifest(t testing.TB, manifest []byte, key *ecdsa.PrivateKey) string {
	t.Helper()
	signer, err := dsse.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := dsse.Sign(dsse.TypeManifest, manifest, signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(envelope)
}

func trustIn(keys ...*ecdsa.PrivateKey) (t verify.Trust) {
	for _, k := range keys {
		t.Image = append(t.Image, k.Public())
	}
	return t
}

// TestCatalog: of a directory the good sets are taken, and each bad one is
// named with its reason.
func TestCatalog(t *testing.T) {
	dir, key := t.TempDir(), newTestKey(t)
	sets := func(name string) string { return filepath.Join(dir, name) }
	for i, version := range []string{"2.0.0", "1.0.0"} {
		ref := recorded(t, int64(1-i)).references[0]
		ref.Version = version
		writeSet(t, sets("evidence-"+version), ref, key)
	}
	ref := recorded(t, 7).references[0]
	writeSet(t, sets("unsigned"), ref, nil)
	writeSet(t, sets("by-another"), ref, newTestKey(t))
	writeSet(t, sets("edited"), ref, key)
	writeFiles(t, sets("edited"), map[string]string{reference.FileName: `{"format":"ingot-reference/1"}`})
	writeSet(t, sets("without"), ref, key)
	if err := os.Remove(filepath.Join(sets("without"), reference.FileName)); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, map[string]string{"notes.txt": "x", "empty/x": "x", ".git/manifest.json": "x"})
	c, err := LoadCatalog([]string{dir, sets("evidence-1.0.0")}, trustIn(key), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Releases) != 2 || c.Releases[0].Version != "1.0.0" || c.Releases[1].Epoch != 1 || len(c.references) != 2 || len(c.Releases[0].Signers) != 1 {
		t.Errorf("%+v", c.Releases)
	}
	reasons := map[string]string{"unsigned": "not signed", "by-another": "not enough valid signatures", "edited": "not the one that the manifest names", "without": "no such file"}
	for _, r := range c.Refused {
		if want := reasons[filepath.Base(r.Dir)]; want == "" || !strings.Contains(r.Reason, want) {
			t.Errorf("%+v", r)
		}
	}
	if len(c.Refused) != len(reasons) {
		t.Errorf("%d refused", len(c.Refused))
	}
	if c, err := LoadCatalog([]string{dir}, verify.Trust{}, false); err != nil || len(c.Releases) != 0 {
		t.Errorf("no keys: %+v, %v", c, err)
	}
	if c, err := LoadCatalog([]string{dir}, verify.Trust{}, true); err != nil || len(c.Releases) != 3 {
		t.Errorf("unsigned: %+v, %v", c.Releases, err)
	}
	if _, err := LoadCatalog([]string{sets("nowhere")}, trustIn(key), false); err == nil {
		t.Error("a directory that is not there")
	}
	before := Fingerprint([]string{dir})
	if before != Fingerprint([]string{dir}) {
		t.Error("nothing changed, and something did")
	}
	writeSet(t, sets("new"), ref, key)
	if before == Fingerprint([]string{dir}) {
		t.Error("a new set is not seen")
	}
	uki := filepath.Join(sets("new"), "evidence-1.0.0.efi")
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"a UKI", func() error { return os.WriteFile(uki, []byte("UKI"), 0o600) }},
		{"its mode", func() error {
			time.Sleep(20 * time.Millisecond) // the clock of inodes goes on in steps of up to 10
			return os.Chmod(uki, 0o644)
		}},
		{"a root payload", func() error { return os.WriteFile(filepath.Join(sets("new"), "evidence-1.0.0.root"), nil, 0o644) }},
		{"no UKI", func() error { return os.Remove(uki) }},
	} {
		before := Fingerprint([]string{dir})
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if before == Fingerprint([]string{dir}) {
			t.Errorf("%s: not seen", step.what)
		}
	}
}
