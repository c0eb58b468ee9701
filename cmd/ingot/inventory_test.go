package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/internal/source/oci/ocitest"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/squashfs"
	"github.com/ingot-os/ingot/partition/tree"
)

// everything is hello with content of every kind: commands of u-root, files
// out of the recipe and beside it, firmware, an EFI program, a container image.
func everything(t testing.TB, f *fixture) string {
	return kindOf(t, f, ", root: 16M", func(dir, y string) string {
		if err := f.pinTrust(dir); err != nil {
			t.Fatal(err)
		}
		image := ocitest.New(t, "amd64",
			layer(map[string]string{"etc/base": "base", "etc/both": "old"}), layer(map[string]string{"etc/both": "new", "srv/app": "app"}),
		)
		image.WriteLayout(t, filepath.Join(dir, "image"), "v1")
		writeFile(t, filepath.Join(dir, "motd"), "welcome")
		writeFile(t, filepath.Join(dir, "nic.bin"), "firmware")
		writeFile(t, filepath.Join(dir, "tool.efi"), string(buildtest.Stub(t)))
		y = strings.Replace(y, "files:\n", "files:\n  - {path: /etc/from, source: ./motd}\n", 1)
		return y + "uroot: [ls, cat]\nfirmware: [{source: ./nic.bin}]\nroot: {oci: \"./image@" + image.Digest.String() + "\"}\n" +
			"boot:\n  entries:\n    - {title: Tool, efi: /EFI/tool/tool.efi, source: ./tool.efi}\n"
	})
}

func layer(files map[string]string) ocitest.Layer {
	var l ocitest.Layer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		l.Files = append(l.Files, ocitest.File{Header: tar.Header{Name: name}, Content: files[name]})
	}
	return l
}

// TestInventory is B14: what the partitions and the boot file really hold, found
// by the formats' readers and not by the build, is in the SBOM: each file once,
// in one component, with its digest, and nothing else is.
func TestInventory(t *testing.T) {
	f := warm(t)
	for _, kind := range []string{"plain", "busybox", "squashfs", "everything"} {
		t.Run(kind, func(t *testing.T) {
			recipe, dir := f.built(t, kind)
			set, err := release.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			l, err := lock.Read(filepath.Join(recipe, "appliance.lock"))
			if err != nil {
				t.Fatal(err)
			}
			found, listed := inImage(t, set), inSBOM(t, set, l)
			for name, sum := range found {
				switch owners := listed[name]; {
				case len(owners) != 1:
					t.Errorf("%s is in %d components", name, len(owners))
				case owners[0].sha256 != sum:
					t.Errorf("%s: component %s has sha256 %s, the image %s", name, owners[0].component, owners[0].sha256, sum)
				}
			}
			for name, owners := range listed {
				if _, ok := found[name]; !ok {
					t.Errorf("%s of component %s is not in the image", name, owners[0].component)
				}
			}
			t.Logf("%d files", len(found))
		})
	}
}

// inImage gives the digest of every regular file and of every section.
func inImage(t *testing.T, set *release.Set) map[string]string {
	t.Helper()
	disk, err := os.Open(set.Image())
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	table, _, err := gpt.Read(disk, set.Manifest.Disk.Size)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, p := range table.Partitions {
		section := io.NewSectionReader(disk, p.Start, p.Size)
		switch p.Name {
		case partition.ESP, partition.SlotA, partition.SlotB:
			v, err := fat.Open(section, p.Size)
			if err != nil {
				t.Fatal(err)
			}
			files, err := v.Tree()
			if err != nil {
				t.Fatal(err)
			}
			walk(t, p.Name, files, found)
		case partition.RootA, partition.RootB:
			v, err := squashfs.Open(section, p.Size)
			if err != nil {
				t.Fatal(err)
			}
			files, err := v.Tree()
			if err != nil {
				t.Fatal(err)
			}
			walk(t, p.Name, files, found)
		case partition.State, partition.Data: // for the machine to fill
			if sum, want := sumOf(t, section), sumOf(t, io.LimitReader(zeros{}, p.Size)); sum != want {
				t.Errorf("partition %s is not empty", p.Name)
			}
		default:
			t.Errorf("partition %s is of a kind that this test does not know", p.Name)
		}
	}
	inBootFile(t, set, found)
	return found
}

// inBootFile adds the sections and, out of .initrd, the initramfs.
func inBootFile(t *testing.T, set *release.Set, found map[string]string) {
	t.Helper()
	uki, err := os.Open(set.UKI())
	if err != nil {
		t.Fatal(err)
	}
	defer uki.Close()
	info, err := uki.Stat()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := boot.Inspect(uki, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range parts.Sections {
		section := io.NewSectionReader(uki, s.Offset, s.Size)
		found["uki:"+s.Name] = sumOf(t, section)
		if s.Name != ".initrd" {
			continue
		}
		files, _, err := initramfs.Open(section, s.Size)
		if err != nil {
			t.Fatal(err)
		}
		walk(t, sbom.Initramfs, files, found)
	}
}

func walk(t *testing.T, where string, files *tree.Tree, found map[string]string) {
	t.Helper()
	n := 0
	for _, e := range files.Nodes() {
		if !e.Mode.IsRegular() || e.Link != "" {
			continue
		}
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		found[where+":"+e.Path] = sumOf(t, r)
		r.Close()
		n++
	}
	if n == 0 {
		t.Errorf("%s holds no file", where)
	}
}

func sumOf(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type owner struct{ component, sha256 string }

// component is what this test reads of a CycloneDX document.
type component struct {
	Ref        string `json:"bom-ref"`
	Type, Name string
	Hashes     []struct{ Alg, Content string }
	Properties []struct{ Name, Value string }
	Components []component
}

// inSBOM gives the components that list a file. A component that has files
// names an input of the lock, or is one of the three that have none.
func inSBOM(t *testing.T, set *release.Set, l *lock.Lock) map[string][]owner {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(set.Dir, sbom.CycloneDXName))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Components []component }
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	listed := map[string][]owner{}
	for _, c := range doc.Components {
		for _, f := range c.Components {
			o := owner{component: c.Ref}
			for _, h := range f.Hashes {
				if h.Alg == "SHA-256" {
					o.sha256 = h.Content
				}
			}
			listed[f.Name] = append(listed[f.Name], o)
		}
		fromLock := slices.ContainsFunc(c.Properties, func(p struct{ Name, Value string }) bool {
			return p.Name == "ingot:input" && l.Find(p.Value) != nil
		})
		if len(c.Components) > 0 && !fromLock && !slices.Contains([]string{"ingot-generated", "recipe"}, c.Ref) && !strings.HasPrefix(c.Ref, "ingot-init") {
			t.Errorf("component %s has files and no input of the lock", c.Ref)
		}
	}
	return listed
}

// TestDocumentSchemas validates the documents of real sets against the official
// schemas, and broken ones, which must not pass.
func TestDocumentSchemas(t *testing.T) {
	f := warm(t)
	_, dir := f.built(t, "signed with SPDX")
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatalf("find the schema: %v", err)
	}
	cdx := filepath.Join(strings.TrimSpace(string(out)), "schema")
	for _, tt := range []struct {
		file, schema string
		parts        map[string]string
		old, new     string
	}{
		{sbom.CycloneDXName, "http://cyclonedx.org/schema/bom-1.6.schema.json", map[string]string{
			"http://cyclonedx.org/schema/bom-1.6.schema.json":  filepath.Join(cdx, "bom-1.6.schema.json"),
			"http://cyclonedx.org/schema/spdx.schema.json":     filepath.Join(cdx, "spdx.schema.json"),
			"http://cyclonedx.org/schema/jsf-0.82.schema.json": filepath.Join(cdx, "jsf-0.82.schemax.json"),
		}, `"type": "operating-system"`, `"type": "appliance"`},
		{sbom.SPDXName, "http://spdx.org/rdf/terms/2.3", map[string]string{
			"http://spdx.org/rdf/terms/2.3": "../../internal/sbom/testdata/spdx-2.3.schema.json",
		}, `"relationshipType": "CONTAINS"`, `"relationshipType": "HOLDS"`},
	} {
		data, err := os.ReadFile(filepath.Join(dir, tt.file))
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(t, tt.schema, tt.parts, data); err != nil {
			t.Errorf("%s: %v", tt.file, err)
		}
		bad := bytes.Replace(data, []byte(tt.old), []byte(tt.new), 1)
		if err := valid(t, tt.schema, tt.parts, bad); err == nil {
			t.Errorf("%s: a broken document is valid", tt.file)
		}
	}
}

func valid(t *testing.T, id string, parts map[string]string, document []byte) error {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for id, path := range parts {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err == nil {
			err = c.AddResource(id, doc)
		}
		if err != nil {
			t.Fatal(fmt.Errorf("%s: %w", path, err))
		}
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return c.MustCompile(id).Validate(doc)
}
