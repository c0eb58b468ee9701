package verify_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/internal/verify"
)

// edited is a copy of a set whose documents are changed and signed again: what
// a builder with the keys could lie about. Its image is a link.
func edited(t *testing.T, set *release.Set, a imageset.Authority, edit func(dir string, m *release.Manifest)) string {
	t.Helper()
	dir := copySet(t, set)
	data, err := os.ReadFile(filepath.Join(dir, release.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	m, err := release.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	edit(dir, m)
	if data, err = m.Marshal(); err != nil {
		t.Fatal(err)
	}
	env, err := a.Manifest(data)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, release.ManifestName), data)
	write(t, filepath.Join(dir, release.EnvelopeName), env)
	return dir
}

// copySet links the large files and copies the small ones.
func copySet(t testing.TB, set *release.Set) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), filepath.Base(set.Dir))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(set.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		from, to := filepath.Join(set.Dir, e.Name()), filepath.Join(dir, e.Name())
		if strings.HasSuffix(from, ".json") {
			data, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			write(t, to, data)
		} else if err := os.Link(from, to); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// replaceDocument writes a document and puts its digest into the manifest.
func replaceDocument(t *testing.T, dir string, m *release.Manifest, name string, data []byte) {
	t.Helper()
	write(t, filepath.Join(dir, name), data)
	sum := sha256.Sum256(data)
	i := slices.IndexFunc(m.Files, func(f release.File) bool { return f.Name == name })
	m.Files[i].Size, m.Files[i].SHA256 = int64(len(data)), hex.EncodeToString(sum[:])
}

// withSBOM edits the SBOM, and lets manifest and provenance know.
func withSBOM(t *testing.T, edit func(*sbom.Inventory)) func(string, *release.Manifest) {
	return func(dir string, m *release.Manifest) {
		data, err := os.ReadFile(filepath.Join(dir, sbom.CycloneDXName))
		if err != nil {
			t.Fatal(err)
		}
		v, err := sbom.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		edit(v)
		if data, err = v.CycloneDX(); err != nil {
			t.Fatal(err)
		}
		replaceDocument(t, dir, m, sbom.CycloneDXName, data)
		withProvenance(t, func(s *provenance.Statement) { s.SetOutputs(outputs(m)) })(dir, m)
	}
}

// withReference edits the reference, and lets manifest and provenance know.
func withReference(t *testing.T, edit func(*attest.Reference)) func(string, *release.Manifest) {
	return withReferenceText(t, func(data []byte) []byte {
		r, err := reference.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		edit(r)
		if data, err = reference.Marshal(r); err != nil {
			t.Fatal(err)
		}
		return data
	})
}

func withReferenceText(t *testing.T, edit func([]byte) []byte) func(string, *release.Manifest) {
	return func(dir string, m *release.Manifest) {
		data, err := os.ReadFile(filepath.Join(dir, reference.FileName))
		if err != nil {
			t.Fatal(err)
		}
		replaceDocument(t, dir, m, reference.FileName, edit(data))
		withProvenance(t, func(s *provenance.Statement) { s.SetOutputs(outputs(m)) })(dir, m)
	}
}

func outputs(m *release.Manifest) []release.File {
	return slices.DeleteFunc(slices.Clone(m.Files), func(f release.File) bool { return f.Name == provenance.FileName })
}

func withProvenance(t *testing.T, edit func(*provenance.Statement)) func(string, *release.Manifest) {
	return func(dir string, m *release.Manifest) {
		data, err := os.ReadFile(filepath.Join(dir, provenance.FileName))
		if err != nil {
			t.Fatal(err)
		}
		s, err := provenance.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		edit(s)
		if data, err = s.Marshal(); err != nil {
			t.Fatal(err)
		}
		replaceDocument(t, dir, m, provenance.FileName, data)
	}
}

// component returns the component that owns a file, and the file's number.
func component(v *sbom.Inventory, partition string) (*sbom.Component, int) {
	for i := range v.Components {
		for j, f := range v.Components[i].Files {
			if f.Partition == partition {
				return &v.Components[i], j
			}
		}
	}
	panic("no file in " + partition)
}

const otherGUID = "01234567-89ab-8def-8123-456789abcdef"

const zero64 = "0000000000000000000000000000000000000000000000000000000000000000"

// TestLies: a manifest, SBOM or provenance that says something else than the
// image is refused although the right key has signed it.
func TestLies(t *testing.T) {
	a := authority(t, ours)
	set := makeSet(t, fixture(t, full), a)
	manifest := func(edit func(*release.Manifest)) func(string, *release.Manifest) {
		return func(_ string, m *release.Manifest) { edit(m) }
	}
	for _, c := range []struct {
		name  string
		edit  func(string, *release.Manifest)
		code  verify.Code
		place string
	}{
		{"an entry less", manifest(func(m *release.Manifest) { m.Contents = m.Contents[:len(m.Contents)-1] }), verify.InitramfsContents, "section .initrd"},
		{"an entry more", manifest(func(m *release.Manifest) {
			m.Contents = append(m.Contents, release.Entry{Path: "zz", Mode: "040755"})
		}), verify.InitramfsContents, "section .initrd → zz"},
		{"an entry twice", manifest(func(m *release.Manifest) { m.Contents = append(m.Contents, m.Contents[0]) }), verify.ManifestInconsistent, "contents"},
		{"another mode", manifest(func(m *release.Manifest) { m.Contents[1].Mode = "104755" }), verify.InitramfsContents, "section .initrd"},
		{"another owner", manifest(func(m *release.Manifest) { m.Contents[1].Owner = "7:7" }), verify.InitramfsContents, "section .initrd"},
		{"another init", manifest(func(m *release.Manifest) { m.Tools.Init = zero64 }), verify.InitramfsIdentity, "→ init"},
		{"another section", manifest(func(m *release.Manifest) { m.Sections[1].SHA256 = zero64 }), verify.BootSection, ".efi → section"},
		{"a section less", manifest(func(m *release.Manifest) { m.Sections = m.Sections[:1] }), verify.BootSection, ".efi → section"},
		{"a section more", manifest(func(m *release.Manifest) { m.Sections = append(m.Sections, release.Part{Name: ".more"}) }), verify.BootSection, "section .more"},
		{"another command line", manifest(func(m *release.Manifest) { m.Cmdline += " quiet" }), verify.BootCmdline, ".cmdline"},
		{"another build", manifest(func(m *release.Manifest) {
			m.Cmdline, m.Build = strings.ReplaceAll(m.Cmdline, m.Build, zero64), zero64
		}), verify.InitramfsIdentity, "appliance.json → build"},
		{"a build that the command line contradicts", manifest(func(m *release.Manifest) { m.Build = zero64 }), verify.ManifestInconsistent, "cmdline"},
		{"another architecture", manifest(func(m *release.Manifest) { m.Arch = "arm64" }), verify.BootMalformed, "machine"},
		{"another epoch", manifest(func(m *release.Manifest) { m.Epoch++ }), verify.InitramfsIdentity, "epoch"},
		{"another root hash", manifest(func(m *release.Manifest) {
			m.Cmdline, m.Root.RootHash = strings.ReplaceAll(m.Cmdline, m.Root.RootHash, zero64), zero64
		}), verify.RootHash, "root-a"},
		{"a root of other size", manifest(func(m *release.Manifest) { m.Root.DataSize += 4096; m.Root.HashStart += 4096 }), verify.RootVerity, "root-a"},
		{"a root of other format", manifest(func(m *release.Manifest) { m.Root.Format = "erofs" }), verify.RootMalformed, "root-a"},
		{"a root without its partition", manifest(func(m *release.Manifest) { m.Root.HashStart = 1 << 40; m.Root.DataSize = 1 << 40 }), verify.ManifestInconsistent, "hashStart"},
		{"another disk GUID", manifest(func(m *release.Manifest) { m.Disk.GUID = otherGUID }), verify.ManifestInconsistent, "disk → guid"},
		{"another partition GUID", manifest(func(m *release.Manifest) { m.Disk.Partitions[1].GUID = otherGUID }), verify.ManifestInconsistent, "slot-a → guid"},
		{"a GUID twice", manifest(func(m *release.Manifest) { m.Disk.GUID = m.Disk.Partitions[0].GUID }), verify.ManifestInconsistent, "disk"},
		{"another layout", manifest(func(m *release.Manifest) { m.Disk.Layout += "0" }), verify.ManifestInconsistent, "disk → layout"},
		{"a partition elsewhere", manifest(func(m *release.Manifest) { m.Disk.Partitions[6-1].Start += 1 << 20 }), verify.ManifestInconsistent, "disk"},
		{"another sector size", manifest(func(m *release.Manifest) { m.Disk.SectorSize = 4096 }), verify.TablePrimary, "primary header"},
		{"another partition digest", manifest(func(m *release.Manifest) { m.Disk.Partitions[1].SHA256 = zero64 }), verify.PartitionDigest, "slot-a"},
		{"a file less", manifest(func(m *release.Manifest) { m.Files = m.Files[1:] }), verify.ManifestInconsistent, "files"},
		{"a file twice", manifest(func(m *release.Manifest) { m.Files = append(m.Files, m.Files[0]) }), verify.ManifestInconsistent, "files"},
		{"a file's digest", manifest(func(m *release.Manifest) {
			m.Files[slices.IndexFunc(m.Files, func(f release.File) bool { return strings.HasSuffix(f.Name, ".img") })].SHA256 = zero64
		}), verify.FileDigest, ".img"},

		{"SBOM without a file", withSBOM(t, func(v *sbom.Inventory) { c, i := component(v, "esp"); c.Files = slices.Delete(c.Files, i, i+1) }), verify.SBOMFiles, "esp → EFI"},
		{"SBOM with a file twice", withSBOM(t, func(v *sbom.Inventory) {
			c, i := component(v, "root-a")
			for j := range v.Components {
				if &v.Components[j] != c && v.Components[j].Kind == sbom.KindGenerated {
					v.Components[j].Files = append(v.Components[j].Files, c.Files[i])
				}
			}
		}), verify.SBOMFiles, "root-a"},
		{"SBOM with a file more", withSBOM(t, func(v *sbom.Inventory) {
			c, i := component(v, "slot-a")
			f := c.Files[i]
			f.Path = "nowhere"
			c.Files = append(c.Files, f)
		}), verify.SBOMFiles, "slot-a → nowhere"},
		{"SBOM with another digest", withSBOM(t, func(v *sbom.Inventory) { c, i := component(v, "initramfs"); c.Files[i].SHA256 = zero64 }), verify.SBOMFiles, "initramfs"},
		{"SBOM with another size", withSBOM(t, func(v *sbom.Inventory) { c, i := component(v, "uki"); c.Files[i].Size++ }), verify.SBOMFiles, "uki"},
		{"SBOM of another build", withSBOM(t, func(v *sbom.Inventory) { v.Build = zero64 }), verify.SBOMIdentity, "build"},
		{"SBOM of another kind", func(dir string, m *release.Manifest) { replaceDocument(t, dir, m, sbom.CycloneDXName, []byte("{}\n")) }, verify.SBOMMalformed, sbom.CycloneDXName},

		{"provenance of another output", withProvenance(t, func(s *provenance.Statement) { s.Subject[0].Digest["sha256"] = zero64 }), verify.ProvenanceOutputs, "subject"},
		{"provenance without an output", withProvenance(t, func(s *provenance.Statement) { s.Subject = s.Subject[1:] }), verify.ProvenanceOutputs, "subject"},
		{"provenance of one more", withProvenance(t, func(s *provenance.Statement) {
			s.Subject = append(s.Subject, provenance.Descriptor{Name: "zz", Digest: map[string]string{"sha256": zero64}})
		}), verify.ProvenanceOutputs, "subject → zz"},
		{"provenance of another lock", withProvenance(t, func(s *provenance.Statement) {
			s.Predicate.BuildDefinition.ExternalParameters.Lock.Digest["sha256"] = zero64
		}), verify.ProvenanceIdentity, "lock"},
		{"provenance of another input", withProvenance(t, func(s *provenance.Statement) {
			for _, d := range s.Predicate.BuildDefinition.ResolvedDependencies {
				d.Digest["sha256"] = zero64
			}
		}), verify.ProvenanceIdentity, "resolvedDependencies → root"},
		{"another data schema", manifest(func(m *release.Manifest) { m.DataSchema, m.DataAccepts = 1, 1 }), verify.InitramfsIdentity, "data.schema"},
		{"more data accepted", manifest(func(m *release.Manifest) { m.DataAccepts++ }), verify.InitramfsIdentity, "data.accepts"},
		{"another security epoch", manifest(func(m *release.Manifest) { m.SecurityEpoch++ }), verify.InitramfsIdentity, "securityEpoch"},
		{"reference of another security epoch", withReference(t, func(r *attest.Reference) { r.Epoch = 7 }), verify.ReferenceDiffers, "reference.json → securityEpoch"},
		{"reference of another version", withReference(t, func(r *attest.Reference) { r.Version = "2" }), verify.ReferenceDiffers, "reference.json → version"},
		{"reference of another kernel", withReference(t, func(r *attest.Reference) {
			i := slices.IndexFunc(r.Paths[3].Events, func(e attest.Expected) bool { return e.Name == ".linux" })
			r.Paths[3].Events[i].Digests[pcr.SHA384][47] ^= 1
		}), verify.ReferenceDiffers, "paths → pxe without Secure Boot → events → PCR 11 .linux → digests → sha384"},
		{"reference with a way to boot less", withReference(t, func(r *attest.Reference) { r.Paths = r.Paths[:1] }), verify.ReferenceDiffers, "paths → disk without Secure Boot"},
		{"reference with an event more", withReference(t, func(r *attest.Reference) {
			r.Paths[0].Events = append(r.Paths[0].Events, r.Paths[0].Events[0])
		}), verify.ReferenceDiffers, "disk with Secure Boot → events"},
		{"reference with a word more", withReference(t, func(r *attest.Reference) { r.Phases = append(r.Phases, "debug") }), verify.ReferenceDiffers, "phases → 1"},
		{"reference of another disk", withReference(t, func(r *attest.Reference) { r.Paths[0].Layout.Partitions[2].Start++ }), verify.ReferenceDiffers, "layout → partitions → 2 → start"},
		{"reference in another encoding", withReferenceText(t, func(b []byte) []byte { return append(b, '\n') }), verify.ReferenceDiffers, "reference.json"},
		{"reference of another kind", withReferenceText(t, func([]byte) []byte { return []byte("{}\n") }), verify.ReferenceMalformed, "reference.json"},
		{"provenance of another kind", func(dir string, m *release.Manifest) { replaceDocument(t, dir, m, provenance.FileName, []byte("{}\n")) }, verify.ProvenanceMalformed, provenance.FileName},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := edited(t, set, a, c.edit)
			refused(t, run(t, verify.Options{Path: dir, Trust: trust(t, ours)}), c.code, c.place)
		})
	}
}
