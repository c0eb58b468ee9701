package provenance

import (
	"bytes"
	sum256 "crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
)

func digest(s string) string {
	h := sum256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func fixture() Input {
	l := &lock.Lock{
		Format: 1, Name: "gateway", Version: "1.0.0", Arch: "amd64", Recipe: digest("recipe"), Epoch: 1795227046,
		Ingot: lock.Ingot{Format: 1, Init: digest("init")}, Go: "go1.26.8",
		Inputs: []lock.Input{
			{Name: "root", Kind: lock.KindOCI, SHA256: digest("image"), Path: "registry.example.com/team/app:1", Blobs: []lock.Blob{{MediaType: "application/vnd.oci.image.config.v1+json", SHA256: digest("config")}}},
			{Name: "kernel", Kind: lock.KindDeb, SHA256: digest("kernel"), Package: "linux-image-6.12.117+deb13-amd64", Version: "6.12.117-1", Arch: "amd64", Suite: "trixie", Path: "pool/main/l/linux-signed-amd64/x.deb"},
			{Name: "go/portal", Kind: lock.KindGoDir, SHA256: digest("portal"), Path: "./portal"},
		},
	}
	return Input{
		Manifest: &release.Manifest{Build: digest("lock"), Epoch: l.Epoch, Tools: release.Tools{Ingot: "0.1.0", Go: l.Go}},
		Lock:     l,
		Outputs: []release.File{
			{Name: "gateway-1.0.0.img", SHA256: digest("img")}, {Name: "gateway-1.0.0.efi", SHA256: digest("efi")}, {Name: "sbom.cdx.json", SHA256: digest("sbom")},
		},
	}
}

func marshal(t testing.TB, in Input) []byte {
	t.Helper()
	data, err := New(in).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGolden(t *testing.T) {
	got := marshal(t, fixture())
	golden.Equal(t, "testdata/provenance.json", string(got))
	s, err := Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(New(fixture()), s); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
}

func TestOrderDoesNotCount(t *testing.T) {
	in := fixture()
	slices.Reverse(in.Outputs)
	slices.Reverse(in.Lock.Inputs)
	if !bytes.Equal(marshal(t, in), marshal(t, fixture())) {
		t.Error("another order of inputs gives other bytes")
	}
	in.Builder = "https://example.com/builder/2"
	if s := New(in); s.Predicate.RunDetails.Builder.ID != in.Builder {
		t.Errorf("builder %s", s.Predicate.RunDetails.Builder.ID)
	}
}

// TestEveryInputIsThere: a dependency per input, with its digest.
func TestEveryInputIsThere(t *testing.T) {
	in := fixture()
	got := map[string]string{}
	for _, d := range New(in).Predicate.BuildDefinition.ResolvedDependencies {
		got[d.Name] = d.Digest["sha256"]
	}
	want := map[string]string{"ingot-init": in.Lock.Ingot.Init, "root/blob-000": digest("config")}
	for _, x := range in.Lock.Inputs {
		want[x.Name] = x.SHA256
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("dependencies (-want +got):\n%s", d)
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(marshal(t, fixture()))
	for _, c := range []struct{ name, old, new, field string }{
		{"no JSON", good, "{", ""},
		{"something behind", good, good + "{}", ""},
		{"another statement", StatementType, "https://in-toto.io/Statement/v0.1", "_type"},
		{"another predicate", PredicateType, "https://slsa.dev/provenance/v2", "predicateType"},
		{"another build", BuildType, "https://example.com/build", "buildType"},
		{"unknown parameter", `"recipe": {`, `"debug": true, "recipe": {`, ""},
		{"short digest", digest("img"), "abc", "subject[1].digest"},
		{"upper case", digest("efi"), strings.ToUpper(digest("efi")), "subject[0].digest"},
		{"subject twice", `"gateway-1.0.0.img"`, `"gateway-1.0.0.efi"`, "subject[1].name"},
		{"no name of an input", `"name": "go/portal"`, `"name": ""`, "resolvedDependencies[0].name"},
		{"no recipe", digest("recipe"), "", "externalParameters[0]"},
		{"no arch", `"arch": "amd64"`, `"arch": ""`, "externalParameters"},
		{"builder", DefaultBuilder, "me", "builder.id"},
		{"a clock", `"finishedOn": "2026`, `"finishedOn": "2027`, "metadata"},
		{"epoch", `"epoch": `, `"epoch": -`, "epoch"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Fatalf("%s: %q is not in the statement", c.name, c.old)
		}
		var fe *FormatError
		if _, err := Parse([]byte(text)); !errors.As(err, &fe) || !strings.Contains(fe.Field, c.field) {
			t.Errorf("%s: error %v, want one about %q", c.name, err, c.field)
		}
	}
	if _, err := Parse(make([]byte, maxStatement+1)); err == nil {
		t.Error("a statement above the bound is read")
	}
	if _, err := New(Input{Manifest: &release.Manifest{}, Lock: &lock.Lock{}}).Marshal(); err == nil {
		t.Error("a statement without subjects is written")
	}
}

func TestCheckOutputs(t *testing.T) {
	s := New(fixture())
	files := s.Subjects()
	files["manifest.json"] = digest("manifest")
	if err := s.CheckOutputs(files); err != nil {
		t.Errorf("equal: %v", err)
	}
	files["gateway-1.0.0.img"] = digest("other")
	if err := s.CheckOutputs(files); err == nil || !strings.Contains(err.Error(), "gateway-1.0.0.img") {
		t.Errorf("changed: %v", err)
	}
	delete(files, "gateway-1.0.0.img")
	if err := s.CheckOutputs(files); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("missing: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	var small bytes.Buffer
	if err := json.Compact(&small, marshal(f, fixture())); err != nil {
		f.Fatal(err)
	}
	f.Add(small.Bytes())
	f.Add([]byte(`{"_type":"` + StatementType + `","predicateType":"` + PredicateType + `","predicate":{"buildDefinition":{"buildType":"` + BuildType + `"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		out, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Marshal(); err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("written twice with other bytes: %v", err)
		}
	})
}
