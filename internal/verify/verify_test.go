package verify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
)

// TestGood: what ingot builds is verified, and every check looked at something.
func TestGood(t *testing.T) {
	for name, recipe := range map[string]string{
		"squashfs": full, "erofs": "root: {directory: ./rootfs, format: erofs}\n", "small": "", "zstd": "compress: zstd\n", "containers": "outputs: [qcow2, vhd, vmdk, zst, iso]\n",
		"hard links": "root: {tar: ./rootfs.tar}\n", "hard links in erofs": "root: {tar: ./rootfs.tar, format: erofs}\n",
	} {
		t.Run(name, func(t *testing.T) {
			set := makeSet(t, fixture(t, recipe), authority(t, ours))
			r := run(t, verify.Options{Path: set.Dir, Trust: trust(t, ours)})
			accepted(t, r, verify.Verified)
			if n := len(r.NotChecked); n != 1 && name != "containers" {
				t.Errorf("not checked: %v, want the SPDX document alone", r.NotChecked)
			}
			noted(t, r, "sbom.spdx.json", verify.WhyDigestOnly)
			for _, c := range r.Checks {
				if c.State != verify.Passed && (c.Name != verify.CheckRoot || strings.Contains(recipe, "root:")) && (c.Name != verify.CheckContainers || name == "containers") && c.Name != verify.CheckPolicies || c.State == verify.Passed && c.Count == 0 {
					t.Errorf("%s: %s of %d, %s", c.Name, c.State, c.Count, c.Why)
				}
			}
		})
	}
}

// TestSet changes what is in the directory of a set.
func TestSet(t *testing.T) {
	a := authority(t, ours)
	set := makeSet(t, fixture(t, full), a)
	stem := set.Manifest.Stem()
	for _, c := range []struct {
		name  string
		do    func(dir string) error
		code  verify.Code
		place string
	}{
		{"an extra file", func(dir string) error { return os.WriteFile(dir+"/more", nil, 0o644) }, verify.FileStranger, "more"},
		{"an extra hidden directory", func(dir string) error { return os.Mkdir(dir+"/.more", 0o755) }, verify.FileStranger, ".more"},
		{"no image", func(dir string) error { return os.Remove(dir + "/" + stem + ".img") }, verify.FileMissing, ".img"},
		{"no UKI", func(dir string) error { return os.Remove(dir + "/" + stem + ".efi") }, verify.FileMissing, ".efi"},
		{"no SBOM", func(dir string) error { return os.Remove(dir + "/sbom.cdx.json") }, verify.FileMissing, "sbom.cdx.json"},
		{"no manifest", func(dir string) error { return os.Remove(dir + "/manifest.json") }, verify.ManifestMissing, "manifest.json"},
		{"no envelope", func(dir string) error { return os.Remove(dir + "/manifest.dsse.json") }, verify.EnvelopeMissing, "manifest.dsse.json"},
		{"a link for a file", func(dir string) error {
			return errors.Join(os.Remove(dir+"/provenance.json"), os.Symlink(set.Dir+"/provenance.json", dir+"/provenance.json"))
		}, verify.FileKind, "provenance.json"},
		{"a directory for a file", func(dir string) error {
			return errors.Join(os.Remove(dir+"/"+stem+".root"), os.Mkdir(dir+"/"+stem+".root", 0o755))
		}, verify.FileKind, ".root"},
		{"a truncated image", func(dir string) error { return resize(dir+"/"+stem+".img", -1) }, verify.FileSize, ".img"},
		{"an image with a byte more", func(dir string) error { return resize(dir+"/"+stem+".img", 1) }, verify.FileSize, ".img"},
		{"a truncated manifest", func(dir string) error { return resize(dir+"/manifest.json", -2) }, verify.EnvelopePayload, "manifest.json"},
		{"a truncated envelope", func(dir string) error { return resize(dir+"/manifest.dsse.json", -2) }, verify.EnvelopeMalformed, "manifest.dsse.json"},
		{"an empty envelope", func(dir string) error { return os.Truncate(dir+"/manifest.dsse.json", 0) }, verify.EnvelopeMalformed, "manifest.dsse.json"},
		{"swapped partitions", func(dir string) error { return swap(dir+"/"+stem+".img", set.Manifest, 0, 1) }, verify.PartitionDigest, "slot-a"},
		{"swapped table entries", func(dir string) error { return swapEntries(dir + "/" + stem + ".img") }, verify.TablePrimary, "slot-a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copySet(t, set)
			unlink(t, dir, stem+".img")
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			refused(t, run(t, verify.Options{Path: dir, Trust: trust(t, ours)}), c.code, c.place)
		})
	}
}

// unlink makes a linked file a sparse copy, so that it may be changed.
func unlink(t *testing.T, dir, name string) {
	t.Helper()
	out, err := exec.Command("cp", "--sparse=always", "--remove-destination", filepath.Join(dir, name), filepath.Join(dir, "copy")).CombinedOutput()
	if err == nil {
		err = os.Rename(filepath.Join(dir, "copy"), filepath.Join(dir, name))
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// resize changes the length of a file of its own.
func resize(path string, by int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	os.Remove(path)
	return errors.Join(os.WriteFile(path, data, 0o644), os.Truncate(path, int64(len(data))+by))
}

// swap exchanges the contents of two partitions of one size.
func swap(path string, m *release.Manifest, i, j int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p, q := m.Disk.Partitions[i], m.Disk.Partitions[j]
	a, b := data[p.Start:p.Start+p.Size], data[q.Start:q.Start+q.Size]
	c := bytes.Clone(a)
	copy(a, b)
	copy(b, c)
	return os.WriteFile(path, data, 0o644)
}

// swapEntries exchanges the entries of the slots in the primary table.
func swapEntries(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 256)
	if _, err := f.ReadAt(b, 1024+128); err != nil {
		return err
	}
	_, err = f.WriteAt(append(bytes.Clone(b[128:]), b[:128]...), 1024+128)
	return err
}

// TestEnvelopes: who signed what.
func TestEnvelopes(t *testing.T) {
	a, b := authority(t, ours), authority(t, theirs)
	app := fixture(t, "")
	set := makeSet(t, app, a)
	app.Recipe("cmdline: [quiet]\n")
	other := makeSet(t, app, a)
	foreign := makeSet(t, app, b)
	manifest, err := os.ReadFile(filepath.Join(set.Dir, release.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	env := func(typ string, signers ...string) []byte {
		var list []dsse.Signer
		for _, dir := range signers {
			k, err := open(t, dir).Signer(ctx, keys.Image, "dev")
			if err != nil {
				t.Fatal(err)
			}
			s, err := dsse.NewSigner(k)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, s)
		}
		data, err := dsse.Sign(typ, manifest, list...)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	from := func(s *release.Set, name string) []byte {
		data, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	both := []string{ours, theirs}
	damaged := func(i int) []byte {
		e, err := dsse.Parse(env(dsse.TypeManifest, both...))
		if err != nil {
			t.Fatal(err)
		}
		e.Signatures[i].Sig[7] ^= 1
		data, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, c := range []struct {
		name      string
		envelope  []byte
		manifest  []byte
		keys      []string
		threshold int
		code      verify.Code
	}{
		{"one of one", env(dsse.TypeManifest, ours), manifest, []string{ours}, 1, ""},
		{"two of two", env(dsse.TypeManifest, both...), manifest, both, 2, ""},
		{"one of two", env(dsse.TypeManifest, theirs), manifest, both, 1, ""},
		{"one of two demanded", env(dsse.TypeManifest, ours), manifest, both, 2, verify.EnvelopeUntrusted},
		{"one key twice", env(dsse.TypeManifest, ours, ours), manifest, both, 2, verify.EnvelopeUntrusted},
		{"another key", env(dsse.TypeManifest, theirs), manifest, []string{ours}, 1, verify.EnvelopeUntrusted},
		{"one of two is damaged", damaged(1), manifest, both, 1, verify.EnvelopeSignature},
		{"one of two is damaged, by a key that was not given", damaged(1), manifest, []string{ours}, 1, ""},
		{"another payload type", env(dsse.TypeInToto, ours), manifest, []string{ours}, 1, verify.EnvelopeType},
		{"old release with new envelope", from(other, release.EnvelopeName), manifest, []string{ours}, 1, verify.EnvelopePayload},
		{"manifest and envelope of another release", from(other, release.EnvelopeName), from(other, release.ManifestName), []string{ours}, 1, verify.FileDigest},
		{"manifest and envelope of another builder", from(foreign, release.EnvelopeName), from(foreign, release.ManifestName), []string{ours}, 1, verify.EnvelopeUntrusted},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copySet(t, set)
			write(t, filepath.Join(dir, release.EnvelopeName), c.envelope)
			write(t, filepath.Join(dir, release.ManifestName), c.manifest)
			r := run(t, verify.Options{Path: dir, Trust: verify.Trust{Image: trust(t, c.keys...).Image}, Threshold: c.threshold})
			if c.code != "" {
				refused(t, r, c.code, "")
				return
			}
			accepted(t, r, verify.Verified)
			if len(r.Signers) != max(c.threshold, 1) {
				t.Errorf("signers %q", r.Signers)
			}
		})
	}
}

// TestTestKeys: TEST keys are marked, and count for desks only.
func TestTestKeys(t *testing.T) {
	set := makeSet(t, fixture(t, ""), authority(t, ours))
	out := filepath.Join(t.TempDir(), "out")
	if _, err := open(t, ours).Export(ctx, out); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{ours, out, filepath.Join(out, "image.pem"), filepath.Join(ours, "image.pub")} {
		tr := trust(t, dir)
		for env, want := range map[string]verify.Code{"": "", "dev": "", "test": "", "prod": verify.EnvelopeTestKey, "stage": verify.EnvelopeTestKey} {
			r := run(t, verify.Options{Path: set.Dir, Trust: tr, Environment: env})
			if len(r.TestSigners) != 1 || r.TestSigners[0] != r.Signers[0] {
				t.Errorf("%s, %q: TEST keys %q of %q", dir, env, r.TestSigners, r.Signers)
			}
			if want != "" {
				refused(t, r, want, "manifest.dsse.json → signatures")
			} else {
				accepted(t, r, verify.Verified)
			}
		}
	}
	real := trust(t, ours)
	real.Test = nil
	if r := run(t, verify.Options{Path: set.Dir, Trust: real, Environment: "prod"}); r.Verdict != verify.Verified || r.TestSigners != nil {
		t.Errorf("a key that is none: %v, %q", r.Verdict, r.TestSigners)
	}
}

// TestUnsigned: without keys nothing is done; without signatures everything
// else is.
func TestUnsigned(t *testing.T) {
	set := makeSet(t, fixture(t, full), nil)
	if _, err := verify.Run(ctx, verify.Options{Path: set.Dir}); !errors.Is(err, verify.ErrNoKeys) {
		t.Errorf("no keys: %v", err)
	}
	r := run(t, verify.Options{Path: set.Dir, Unsigned: true})
	accepted(t, r, verify.Unsigned)
	if !slices.Contains(r.NotChecked, verify.Note{Check: verify.CheckSignature, Why: verify.WhyUnsigned}) ||
		!slices.Contains(r.NotChecked, verify.Note{Check: verify.CheckSecureBoot, Why: verify.WhyUnsigned}) {
		t.Errorf("not checked: %v", r.NotChecked)
	}
	refused(t, run(t, verify.Options{Path: set.Dir, Trust: trust(t, ours)}), verify.EnvelopeMissing, release.EnvelopeName)
	undo := flipByte(t, set.Image(), 3<<20)
	defer undo()
	refused(t, run(t, verify.Options{Path: set.Dir, Unsigned: true}), verify.PartitionDigest, "esp")
}

// TestNothingChecked: a manifest alone, however well signed, is no image.
func TestNothingChecked(t *testing.T) {
	set := makeSet(t, fixture(t, ""), authority(t, ours))
	empty := t.TempDir()
	refused(t, run(t, verify.Options{Path: empty, Unsigned: true}), verify.ManifestMissing, "")
	image := filepath.Join(empty, "x.img")
	write(t, image, nil)
	r := run(t, verify.Options{Path: image, Manifest: set.Dir, Trust: trust(t, ours)})
	refused(t, r, verify.DiskSize, "x.img")
	for _, c := range r.Checks {
		if c.Name == verify.CheckPartitions && c.State == verify.Passed {
			t.Errorf("partitions of an empty file: %s", c.State)
		}
	}
}

// TestSecureBoot: the boot files are judged as firmware with these
// certificates would.
func TestSecureBoot(t *testing.T) {
	a, b := authority(t, ours), authority(t, theirs)
	image := verify.Trust{Image: trust(t, ours).Image}
	with := func(dirs ...string) verify.Trust { return verify.Trust{Image: image.Image, DB: trust(t, dirs...).DB} }
	by := func(boot imageset.Authority) string { return makeSet(t, fixture(t, full), boots{boot, a}).Dir }
	signed, foreign, bare, half := by(a), by(b), edited(t, makeSet(t, fixture(t, full), nil), a, func(string, *release.Manifest) {}), by(&alternating{a, b, 0})
	accepted(t, run(t, verify.Options{Path: signed, Trust: with(ours)}), verify.Verified)
	accepted(t, run(t, verify.Options{Path: half, Trust: with(ours, theirs)}), verify.Verified)
	accepted(t, run(t, verify.Options{Path: signed, Trust: image}), verify.Verified)
	accepted(t, run(t, verify.Options{Path: bare, Trust: image}), verify.Verified)
	refused(t, run(t, verify.Options{Path: foreign, Trust: with(ours)}), verify.SignatureKey, ".efi")
	refused(t, run(t, verify.Options{Path: bare, Trust: with(ours)}), verify.SignatureMissing, ".efi")
	refused(t, run(t, verify.Options{Path: half, Trust: with(ours)}), verify.SignatureKey, "tool.efi")
	r := run(t, verify.Options{Path: half, Trust: image})
	accepted(t, r, verify.Verified)
	noted(t, r, "tiny-1.0.0.efi", verify.WhyNoCert)
	noted(t, r, "EFI/tool/tool.efi", verify.WhyNoCert)
}

// alternating signs the first boot file with one key and the next with another.
type alternating struct {
	a, b imageset.Authority
	n    int
}

func (x *alternating) Boot(file string, req authenticode.Request) ([]byte, error) {
	x.n++
	if x.n == 1 {
		return x.a.Boot(file, req)
	}
	return x.b.Boot(file, req)
}
func (x *alternating) Policy(w imageset.Approval) ([]byte, error) { return x.a.Policy(w) }
func (x *alternating) Manifest(p []byte) ([]byte, error)          { return nil, nil }

// TestTrust reads keys from all places that have some.
func TestTrust(t *testing.T) {
	set := open(t, ours)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := set.Export(ctx, out); err != nil {
		t.Fatal(err)
	}
	id, err := dsse.KeyID(set.Public(keys.Image))
	if err != nil {
		t.Fatal(err)
	}
	for path, db := range map[string]int{ours: 1, out: 1, filepath.Join(out, "image.pem"): 0} {
		tr, err := verify.LoadTrust(path)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := dsse.KeyID(tr.Image[0])
		if len(tr.Image) != 1 || got != id || len(tr.DB) != db {
			t.Errorf("%s: %d keys, %d certificates", path, len(tr.Image), len(tr.DB))
		}
	}
	if tr, err := verify.LoadTrust(ours, out, filepath.Join(out, "image.pem")); err != nil || len(tr.Image) != 1 {
		t.Errorf("one key named three times: %d keys, %v", len(tr.Image), err)
	}
	pem, err := os.ReadFile(filepath.Join(out, "image.pem"))
	if err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(t.TempDir(), "torn.pem")
	write(t, torn, append(pem, pem[:60]...))
	if _, err := verify.LoadTrust(torn); err == nil || !strings.Contains(err.Error(), "torn.pem: line ") {
		t.Errorf("a second block that is cut off: %v", err)
	}
	long := filepath.Join(t.TempDir(), "long.pem")
	write(t, long, append(pem, make([]byte, 1<<20)...))
	if _, err := verify.LoadTrust(long); err == nil {
		t.Error("a file that was read in part is taken")
	}
	var tr verify.Trust
	if err := tr.LoadDB(filepath.Join(out, "image.pem")); err == nil {
		t.Error("a public key is taken for a certificate")
	}
	empty := t.TempDir()
	write(t, filepath.Join(empty, "x.pem"), []byte("nothing"))
	for _, path := range []string{empty, filepath.Join(empty, "x.pem"), filepath.Join(empty, "none"), filepath.Join(ours, "db.key")} {
		if _, err := verify.LoadTrust(path); err == nil {
			t.Errorf("%s: keys were found", path)
		}
	}
}

// TestReportIsStable: two runs over one damaged set say the same.
func TestReportIsStable(t *testing.T) {
	set := makeSet(t, fixture(t, full), authority(t, ours))
	for _, off := range []int64{600, 3 << 20, 40 << 20} {
		flipByte(t, set.Image(), off)
	}
	o := verify.Options{Path: set.Dir, Trust: trust(t, ours)}
	var texts []string
	for range 3 {
		data, err := json.Marshal(run(t, o))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(data))
	}
	if texts[0] != texts[1] || texts[1] != texts[2] {
		t.Errorf("reports differ:\n%s\n%s", texts[0], texts[1])
	}
}

// TestContainers: the disk in a container is the image, in a set and alone.
func TestContainers(t *testing.T) {
	a := authority(t, ours)
	app := fixture(t, "outputs: [qcow2, vhd, vmdk, zst, iso]\n")
	set := makeSet(t, app, a)
	app.Recipe("outputs: [qcow2, vhd, vmdk, zst, iso]\ncmdline: [quiet]\n")
	other := makeSet(t, app, a)
	stem := set.Manifest.Stem()
	for _, suffix := range []string{".qcow2", ".vhd", ".vmdk", ".img.zst"} {
		o := verify.Options{Path: filepath.Join(set.Dir, stem+suffix), Trust: trust(t, ours)}
		accepted(t, run(t, o), verify.Verified)
		o.Path = filepath.Join(other.Dir, stem+suffix)
		o.Manifest = set.Dir
		refused(t, run(t, o), verify.PartitionDigest, "esp")

		data, err := os.ReadFile(o.Path)
		if err != nil {
			t.Fatal(err)
		}
		dir := edited(t, set, a, func(dir string, m *release.Manifest) {
			os.Remove(filepath.Join(dir, stem+suffix))
			replaceDocument(t, dir, m, stem+suffix, data)
			withProvenance(t, func(s *provenance.Statement) { s.SetOutputs(outputs(m)) })(dir, m)
		})
		refused(t, run(t, verify.Options{Path: dir, Trust: trust(t, ours)}), verify.ContainerDisk, stem+suffix)
	}
	for suffix, count := range map[string]int{".iso": 1, ".efi": 1, ".img.bmap": 1} {
		o := verify.Options{Path: filepath.Join(set.Dir, stem+suffix), Trust: trust(t, ours)}
		r := run(t, o)
		accepted(t, r, verify.Verified)
		if r.Kind != verify.KindFile || r.Checks[2].Count != count {
			t.Errorf("%s: kind %s, %d files", suffix, r.Kind, r.Checks[2].Count)
		}
		undo := flipByte(t, o.Path, 1000)
		refused(t, run(t, o), verify.FileDigest, stem+suffix)
		undo()
	}
	dir := edited(t, set, a, func(dir string, m *release.Manifest) {
		os.Remove(filepath.Join(dir, stem+".qcow2"))
		replaceDocument(t, dir, m, stem+".qcow2", []byte("QFI\xfb, and nothing else"))
	})
	refused(t, run(t, verify.Options{Path: dir, Trust: trust(t, ours)}), verify.ContainerFormat, stem+".qcow2")
	refused(t, run(t, verify.Options{Path: filepath.Join(dir, stem+".qcow2"), Trust: trust(t, ours)}), verify.ContainerFormat, stem+".qcow2")
}
