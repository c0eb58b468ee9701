package reproduce

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/internal/sparse"
)

// documents describe the other files, so what differs in them mostly follows.
var documents = []string{reference.FileName, sbom.CycloneDXName, sbom.SPDXName, provenance.FileName, release.ManifestName, release.EnvelopeName}

// compare compares all files of two sets: the disk first, because partition and
// structure say most, documents last.
func compare(released, rebuilt *release.Set) (*Result, error) {
	r := &Result{Dir: released.Dir, Same: true, Files: []File{}, Causes: []Cause{}, Follows: []Cause{}}
	var pairs [][2]string
	for _, name := range names(released, rebuilt) {
		f, err := compareFile(name, released.Dir, rebuilt.Dir)
		if err != nil {
			return nil, err
		}
		r.Files = append(r.Files, f)
		if f.Same {
			continue
		}
		r.Same = false
		switch {
		case f.Released == "":
			r.Causes = append(r.Causes, Cause{Kind: "file", Difference: inspect.Difference{Where: name, B: name}})
		case f.Rebuilt == "":
			r.Causes = append(r.Causes, Cause{Kind: "file", Difference: inspect.Difference{Where: name, A: name}})
		case name == release.EnvelopeName: // the manifest says more
		default:
			pairs = append(pairs, [2]string{filepath.Join(released.Dir, name), filepath.Join(rebuilt.Dir, name)})
		}
	}
	if r.Same {
		return r, nil
	}
	return r, r.explain(pairs)
}

// names lists the files of both sets in the order in which they explain each
// other.
func names(a, b *release.Set) []string {
	var list []string
	for _, s := range []*release.Set{a, b} {
		for _, f := range s.Manifest.Files {
			list = append(list, f.Name)
		}
	}
	list = append(list, release.ManifestName)
	if _, err := os.Stat(filepath.Join(a.Dir, release.EnvelopeName)); err == nil {
		list = append(list, release.EnvelopeName)
	}
	stem := a.Manifest.Stem()
	first := []string{stem + ".img", stem + ".efi", stem + ".root"}
	rank := func(name string) int {
		if i := slices.Index(first, name); i >= 0 {
			return i
		}
		if i := slices.Index(documents, name); i >= 0 {
			return len(first) + 1 + i
		}
		return len(first)
	}
	slices.SortFunc(list, func(x, y string) int {
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	return slices.Compact(list)
}

func compareFile(name, a, b string) (File, error) {
	f := File{Name: name}
	if name == release.EnvelopeName {
		return compareEnvelope(f, a, b)
	}
	var err error
	if f.Released, err = digest(filepath.Join(a, name)); err != nil {
		return f, err
	}
	if f.Rebuilt, err = digest(filepath.Join(b, name)); err != nil {
		return f, err
	}
	f.Same = f.Released == f.Rebuilt
	return f, nil
}

// compareEnvelope compares what the release signs with the rebuilt manifest.
func compareEnvelope(f File, a, b string) (File, error) {
	data, err := os.ReadFile(filepath.Join(a, f.Name))
	if err != nil {
		return f, err
	}
	e, err := dsse.Parse(data)
	if err != nil {
		return f, fmt.Errorf("%s: %w", f.Name, err)
	}
	manifest, err := os.ReadFile(filepath.Join(b, release.ManifestName))
	if err != nil {
		return f, err
	}
	x, y := sha256.Sum256(e.Payload), sha256.Sum256(manifest)
	f.Released, f.Rebuilt = hex.EncodeToString(x[:]), hex.EncodeToString(y[:])
	f.Same = bytes.Equal(e.Payload, manifest)
	return f, nil
}

// digest is the SHA-256 of a file, whose holes are not read; "" when there is none.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if err := sparse.Copy(h, f, 0, info.Size()); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// explain finds the causes of what differs. A digest or a size in a document
// is what follows from a difference in the file it speaks of.
func (r *Result) explain(pairs [][2]string) error {
	diffs, err := inspect.CompareFiles(pairs)
	if err != nil {
		return err
	}
	disk := slices.ContainsFunc(r.Files, func(f File) bool { return !f.Same && strings.HasSuffix(f.Name, ".img") })
	var inDocuments []Cause
	for _, d := range diffs {
		c := Cause{Kind: kindOf(d), Difference: d}
		switch {
		case d.Follows() || signed(d) || disk && ofDisk(d) || slices.ContainsFunc(r.Causes, c.repeats):
			r.Follows = append(r.Follows, c)
		case inDocument(d):
			inDocuments = append(inDocuments, c)
		default:
			r.Causes = append(r.Causes, c)
		}
	}
	for _, c := range inDocuments {
		if len(r.Causes) > 0 && (isDigest(c.Difference) || ofReference(c.Difference)) {
			r.Follows = append(r.Follows, c)
		} else {
			r.Causes = append(r.Causes, c)
		}
	}
	if len(r.Causes) == 0 { // nothing but what usually follows
		r.Causes, r.Follows = r.Follows, []Cause{}
	}
	return nil
}
