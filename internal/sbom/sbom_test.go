package sbom

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
)

func TestCollectGolden(t *testing.T) {
	var b strings.Builder
	for _, c := range collect(t).Components {
		fmt.Fprintf(&b, "%s %s %q %q %s\n", c.Ref, c.Kind, c.Name, c.Version, c.PURL)
		if c.Source != "" {
			fmt.Fprintf(&b, "  source %s %s, %s\n", c.Source, c.SourceVersion, c.Distro)
		}
		for _, in := range c.Inputs {
			fmt.Fprintf(&b, "  input %s\n", in)
		}
		for _, f := range c.Files {
			fmt.Fprintf(&b, "  file %s:%s\n", f.Partition, f.Path)
		}
		for _, d := range c.DependsOn {
			fmt.Fprintf(&b, "  needs %s\n", d)
		}
	}
	golden.Equal(t, "testdata/components.txt", b.String())
}

// TestEveryFileOnce is what the package promises.
func TestEveryFileOnce(t *testing.T) {
	in := fixture()
	count := map[string]int{}
	for _, c := range collect(t).Components {
		for _, f := range c.Files {
			count[f.Partition+":"+f.Path]++
		}
	}
	if len(count) != len(in.Contents) {
		t.Errorf("%d files in components, want %d", len(count), len(in.Contents))
	}
	for _, f := range in.Contents {
		if n := count[f.Partition+":"+f.Path]; n != 1 {
			t.Errorf("%s:%s is in %d components", f.Partition, f.Path, n)
		}
	}
}

func TestCollectRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*Input)
	}{
		{"no lock", "needed", func(in *Input) { in.Lock = nil }},
		{"twice", "twice", func(in *Input) { in.Contents = append(in.Contents, in.Contents[1]) }},
		{"unknown origin", `origin "moon"`, func(in *Input) { in.Contents[1].Origin = "moon" }},
		{"no origin", `origin ""`, func(in *Input) { in.Contents[1].Origin = "" }},
		{"unknown layer", "no layer", func(in *Input) { in.Contents[14].Origin = "root@" + sum("other") }},
		{"no digest", "sha256", func(in *Input) { in.Contents[1].SHA256 = "" }},
		{"bad sha1", "sha1", func(in *Input) { in.Contents[1].SHA1 = "x" }},
		{"colon in partition", "partition", func(in *Input) { in.Contents[1].Partition = "a:b" }},
		{"no path", "no path", func(in *Input) { in.Contents[1].Path = "" }},
		{"not UTF-8", "UTF-8", func(in *Input) { in.Contents[1].Path = "\xff" }},
		{"negative size", "size", func(in *Input) { in.Contents[1].Size = -1 }},
		{"program without information", "build information", func(in *Input) { delete(in.Programs, sum("bin/portal")) }},
		{"init without information", "build information", func(in *Input) { delete(in.Programs, sum("init")) }},
		{"another init", "locked ingot-init", func(in *Input) { in.Lock.Ingot.Init = sum("other") }},
		{"file of the manifest is missing", "belongs to no component", func(in *Input) { in.Contents = in.Contents[1:] }},
		{"file beyond the manifest", "1 files", func(in *Input) { in.Contents = append(in.Contents, file(Initramfs, "extra", "kernel")) }},
		{"other bytes than in the manifest", "manifest says", func(in *Input) { in.Contents[1].SHA256 = sum("other") }},
	} {
		in := fixture()
		c.change(&in)
		if _, err := Collect(in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
}

func documents(t testing.TB, v *Inventory) map[string][]byte {
	t.Helper()
	cyclone, err := v.CycloneDX()
	if err != nil {
		t.Fatal(err)
	}
	spdx, err := v.SPDX()
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{CycloneDXName: cyclone, SPDXName: spdx}
}

func TestSameInputSameBytes(t *testing.T) {
	want := documents(t, collect(t))
	for range 20 {
		in := fixture()
		rand.Shuffle(len(in.Contents), func(i, j int) { in.Contents[i], in.Contents[j] = in.Contents[j], in.Contents[i] })
		v, err := Collect(in)
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range documents(t, v) {
			if !bytes.Equal(got, want[name]) {
				t.Fatalf("%s depends on the order of files", name)
			}
		}
	}
	in := fixture()
	in.Manifest.Build = sum("other lock")
	v, err := Collect(in)
	if err != nil {
		t.Fatal(err)
	}
	if v.uuid("spdx") == collect(t).uuid("spdx") || v.uuid("spdx") == v.uuid("cyclonedx") {
		t.Error("two documents share a serial number")
	}
}

func TestParseReadsBack(t *testing.T) {
	want := collect(t)
	got, err := Parse(documents(t, want)[CycloneDXName])
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(documents(t, collect(t))[CycloneDXName])
	for _, c := range []struct{ name, old, new, want string }{
		{"no JSON", good, "{", "offset"},
		{"another format", `"bomFormat": "CycloneDX"`, `"bomFormat": "SPDX"`, "bomFormat"},
		{"another revision", `"specVersion": "1.6"`, `"specVersion": "1.5"`, "specVersion"},
		{"unknown revision", `"specVersion": "1.6"`, `"specVersion": "9"`, "offset"},
		{"no time", `"timestamp": "2026`, `"timestamp": "x`, "timestamp"},
		{"foreign component", `"value": "generated"`, `"value": "foreign"`, "not a document of ingot"},
		{"no source", `"name": "ingot:debian:source"`, `"name": "x"`, "source package"},
		{"ref twice", `"bom-ref": "recipe"`, `"bom-ref": "ingot-init"`, "bom-ref"},
		{"size", `"name": "ingot:size"`, `"name": "x"`, "number"},
		{"digest", sum("etc/passwd"), "abc", "sha256"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Fatalf("%s: %q is not in the document", c.name, c.old)
		}
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
}

func TestDebianSource(t *testing.T) {
	for _, c := range []struct{ path, version, name, want string }{
		{"pool/updates/main/l/linux-signed-amd64/x.deb", "6.12.117-1", "linux", "6.12.117-1"},
		{"pool/main/l/linux/linux-image-6.12-armmp_6.12_armhf.deb", "6.12.117-1", "linux", "6.12.117-1"},
		{"pool/main/s/systemd/x.deb", "257.13-1~deb13u1+b12", "systemd", "257.13-1~deb13u1"},
		{"pool/non-free-firmware/f/firmware-nonfree/x.deb", "20250410-2", "firmware-nonfree", "20250410-2"},
		{"pool/main/n/name/x.deb", "1.0+beta1-1", "name", "1.0+beta1-1"},
		{"x.deb", "1", "pkg", "1"},
	} {
		name, version := DebianSource(&lock.Input{Package: "pkg", Path: c.path, Version: c.version})
		if name != c.name || version != c.want {
			t.Errorf("DebianSource(%s, %s) = %s %s, want %s %s", c.path, c.version, name, version, c.name, c.want)
		}
	}
	for _, c := range []struct{ source, version, name, want string }{ // the lock has the archive's word, which wins over the pool
		{"linux-signed-amd64 6.12.117+1", "6.12.117-1", "linux", "6.12.117-1"},
		{"gcc-14 14.2.0-19", "1:14.2.0-19+b1", "gcc-14", "14.2.0-19"},
		{"systemd 257.13-1~deb13u1", "257.13-1~deb13u1", "systemd", "257.13-1~deb13u1"},
	} {
		name, version := DebianSource(&lock.Input{Package: "pkg", Source: c.source, Path: "pool/main/p/pool/x.deb", Version: c.version})
		if name != c.name || version != c.want {
			t.Errorf("DebianSource(%s, %s) = %s %s, want %s %s", c.source, c.version, name, version, c.name, c.want)
		}
	}
}

func TestPackageURLs(t *testing.T) {
	for ref, want := range map[string]string{
		"registry.example.com/team/app@sha256:x": "pkg:oci/app@sha256%3AD?repository_url=registry.example.com/team/app",
		"localhost:5000/app:1.0":                 "pkg:oci/app@sha256%3AD?repository_url=localhost:5000/app",
		"./layout@sha256:x":                      "pkg:oci/layout@sha256%3AD",
		"/srv/images/layout:tag":                 "pkg:oci/layout@sha256%3AD",
		"images/layout:tag":                      "pkg:oci/layout@sha256%3AD",
	} {
		if got := PURL(&lock.Input{Kind: lock.KindOCI, Path: ref, SHA256: "D"}); got != want {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
	if got, want := goPURL("github.com/BurntSushi/toml", "v1.0.0+incompatible"), "pkg:golang/github.com/burntsushi/toml@v1.0.0%2Bincompatible"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, k := range []lock.Kind{lock.KindFile, lock.KindDir, lock.KindGoDir, lock.KindGoModule} {
		if got := PURL(&lock.Input{Kind: k, Path: "x"}); got != "" {
			t.Errorf("%s has the package URL %s", k, got)
		}
	}
}

func TestStdlibVersion(t *testing.T) {
	for in, want := range map[string]string{
		"go1.26.8": "1.26.8", "go1.26.8 X:nodwarf5": "1.26.8", "go1.27rc1": "1.27rc1", "go1.26.8-custom": "1.26.8",
		"devel go1.27-abc": "", "": "",
	} {
		if got := stdlibVersion(in); got != want {
			t.Errorf("stdlibVersion(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestReadProgram reads the running test, which is a Go program.
func TestReadProgram(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, ok := ReadProgram(f)
	if !ok || !strings.HasPrefix(info.GoVersion, "go") {
		t.Errorf("got %+v, %v", info, ok)
	}
	if _, ok := ReadProgram(bytes.NewReader([]byte("\x7fELF and no more"))); ok {
		t.Error("a broken file has build information")
	}
}

// TestExampleLock collects a set of the lock that the repository has.
func TestExampleLock(t *testing.T) {
	l, err := lock.Read("../../examples/gateway/appliance.lock")
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Lock: l, Manifest: &release.Manifest{}}
	for _, x := range l.Inputs {
		if x.Kind == lock.KindDeb {
			in.Contents = append(in.Contents, file("uki", x.Name, x.Name))
		}
	}
	v, err := Collect(in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(v.Components, func(c Component) bool { return c.Source == "linux" && c.Distro == "trixie" }) {
		t.Errorf("no component of the source package linux in %+v", v.Components)
	}
}

// BenchmarkLargeRoot lists a root payload of 100,000 files.
func BenchmarkLargeRoot(b *testing.B) {
	in := fixture()
	for i := range 100000 {
		in.Contents = append(in.Contents, file("root-a", fmt.Sprintf("usr/share/file-%06d", i), "root"))
	}
	for b.Loop() {
		v, err := Collect(in)
		if err != nil {
			b.Fatal(err)
		}
		data, err := v.CycloneDX()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(data))/1e6, "MB")
	}
}

func FuzzParse(f *testing.F) {
	v, err := Collect(fixture())
	if err != nil {
		f.Fatal(err)
	}
	data, err := v.CycloneDX()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"metadata":{"timestamp":"2026-01-01T00:00:00Z","component":{"type":"file","name":"x"}},"components":[{"type":"data","bom-ref":"a","name":"n","properties":[{"name":"ingot:kind","value":"generated"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Parse(data)
		if err != nil {
			return
		}
		out, err := v.CycloneDX()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if len(again.Components) != len(v.Components) {
			t.Fatalf("%d components, then %d", len(v.Components), len(again.Components))
		}
	})
}

// TestUpdate: a file made anew has its new digest in the documents, and no
// file of its partition can be left out or come on top.
func TestUpdate(t *testing.T) {
	v := collect(t)
	var files []Content
	for _, c := range v.Components {
		for _, f := range c.Files {
			if f.Partition == Initramfs {
				files = append(files, f)
			}
		}
	}
	files[0].SHA256, files[0].Size = sum("other"), 4711
	if err := v.Update(files); err != nil {
		t.Fatal(err)
	}
	data, err := v.CycloneDX()
	if err != nil || !strings.Contains(string(data), sum("other")) || !strings.Contains(string(data), `"4711"`) {
		t.Errorf("the new digest is not in the document (%v)", err)
	}
	extra := files[0]
	extra.Path = "nowhere"
	for name, list := range map[string][]Content{"less": files[1:], "more": append(files[:len(files):len(files)], extra)} {
		if err := v.Update(list); err == nil {
			t.Errorf("one file %s was accepted", name)
		}
	}
}
