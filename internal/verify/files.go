package verify

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
)

// checkFiles hashes every file of the manifest and looks for strangers: a
// signed directory holds what was signed, so a file that nobody vouches for is
// refused rather than warned of. What differs is said by explainFiles, which
// knows where.
func (v *verifier) checkFiles(ctx context.Context, c *Check) error {
	c.Count = len(v.files)
	if v.report.Kind == KindFile {
		c.note("", WhyNoSet, "")
		return v.hashFiles(ctx, func(*setFile) bool { return true })
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if v.files[e.Name()] == nil && e.Name() != release.ManifestName && e.Name() != release.EnvelopeName {
			c.refuse(FileStranger, at(e.Name()), "", "")
		}
	}
	return v.hashFiles(ctx, func(*setFile) bool { return true })
}

// documents are those that every set has and a check reads.
var documents = []string{sbom.CycloneDXName, provenance.FileName, reference.FileName}

// understood tells whether another check than that of containers reads a file.
func (v *verifier) understood(name string) bool {
	if suffix, ok := strings.CutPrefix(name, v.m.Stem()); ok {
		return slices.Contains([]string{".img", ".efi", ".root", release.PolicySuffix}, suffix)
	}
	return slices.Contains(documents, name)
}

// checkDocuments hashes the documents beside an image that is verified alone.
func (v *verifier) checkDocuments(ctx context.Context) error {
	return v.hashFiles(ctx, func(f *setFile) bool {
		return slices.Contains(documents, f.entry.Name) || f.entry.Name == v.m.Stem()+release.PolicySuffix
	})
}

// hashFiles hashes the largest file first: the image takes longest by far.
func (v *verifier) hashFiles(ctx context.Context, want func(*setFile) bool) error {
	var list []*setFile
	for _, f := range v.files {
		if f.f != nil && f.problem == "" && want(f) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *setFile) int { return int(min(max(b.size-a.size, -1), 1)) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 2))
	for _, f := range list {
		g.Go(func() (err error) {
			f.sum, _, err = sumOf(ctx, f.f, 0, f.size)
			f.checked, f.intact = true, err == nil && f.sum == f.entry.SHA256
			return err
		})
	}
	return g.Wait()
}

// explainFiles refuses every file that is not as the manifest says, and names
// the place where that is known.
func (v *verifier) explainFiles(c *Check) error {
	if v.report.Kind != KindSet && v.report.Kind != KindFile {
		return nil
	}
	for _, e := range v.m.Files {
		f := v.files[e.Name]
		switch {
		case f == nil:
		case f.problem == FileSize:
			c.refuse(FileSize, at(e.Name), fmt.Sprint(e.Size), fmt.Sprint(f.size))
		case f.problem != "":
			c.refuse(f.problem, at(e.Name), "", "")
		case !f.intact:
			p, err := v.placeInFile(f)
			if err != nil {
				return err
			}
			c.refuse(FileDigest, p, e.SHA256, f.sum)
		}
	}
	return nil
}

// nothing is why there is nothing to look into.
func (v *verifier) nothing() Why {
	if v.image == nil {
		return WhyNoImage
	}
	return WhyRefused
}

// document returns a small file when its digest is the manifest's; otherwise
// why it does not.
func (v *verifier) document(name string) ([]byte, Why, error) {
	f := v.files[name]
	switch {
	case f == nil || f.problem == FileMissing:
		return nil, WhyNoFile, nil
	case !f.intact:
		return nil, WhyRefused, nil
	}
	data := make([]byte, f.size)
	_, err := f.f.ReadAt(data, 0)
	return data, "", err
}
