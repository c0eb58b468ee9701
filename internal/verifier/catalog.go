package verifier

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
)

// Release is a release that hosts may run.
type Release struct {
	Name    string       `json:"name"`
	Version string       `json:"version"`
	Epoch   int64        `json:"securityEpoch"`
	Dir     string       `json:"dir"`
	Signers []string     `json:"signers,omitempty"` // ids of keys; none: nobody was asked
	Sum     audit.Digest `json:"reference"`

	document []byte
	parsed   attest.Reference
}

// Refused is an image set that is not among the releases.
type Refused struct {
	Dir    string `json:"dir"`
	Reason string `json:"reason"`
}

// Catalog is the releases that were found.
type Catalog struct {
	Releases []Release `json:"releases"`
	Refused  []Refused `json:"refused,omitempty"`

	references []attest.Reference
	sums       []audit.Digest
}

// LoadCatalog reads image sets and directories of image sets. Of each set the
// reference counts that its signed manifest names, when a key of trust has
// signed; with unsigned nobody's word is asked for. A set that is refused is
// listed, and the others go on. The error says that a directory itself cannot
// be read.
func LoadCatalog(dirs []string, trust verify.Trust, unsigned bool) (*Catalog, error) {
	c := &Catalog{}
	for _, dir := range dirs {
		sets, err := findSets(dir)
		if err != nil {
			return nil, fmt.Errorf("look for releases: %w", err)
		}
		for _, set := range sets {
			if r, err := load(set, trust, unsigned); err != nil {
				c.Refused = append(c.Refused, Refused{set, err.Error()})
			} else if !slices.ContainsFunc(c.Releases, func(x Release) bool { return x.Sum == r.Sum }) {
				c.Releases = append(c.Releases, *r)
			}
		}
	}
	slices.SortStableFunc(c.Releases, func(a, b Release) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Epoch, b.Epoch), strings.Compare(a.Version, b.Version))
	})
	for _, r := range c.Releases {
		c.references, c.sums = append(c.references, r.parsed), append(c.sums, r.Sum)
	}
	return c, nil
}

// findSets gives dir, when it is an image set, or those below it.
func findSets(dir string) ([]string, error) {
	if isSet(dir) {
		return []string{dir}, nil
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range list {
		if path := filepath.Join(dir, e.Name()); !strings.HasPrefix(e.Name(), ".") && isSet(path) {
			out = append(out, path)
		}
	}
	return out, nil
}

func isSet(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, release.ManifestName))
	return err == nil
}

var errNoKeys = errors.New("no key is given that may sign releases")

func load(dir string, trust verify.Trust, unsigned bool) (*Release, error) {
	if unsigned {
		trust = verify.Trust{}
	} else if len(trust.Image) == 0 {
		return nil, errNoKeys
	}
	list, err := evidence.References([]string{dir}, trust)
	if err != nil {
		return nil, err
	}
	r := &list[0]
	document, err := reference.Marshal(&r.Reference)
	if err != nil {
		return nil, err
	}
	return &Release{Name: r.Name, Version: r.Version, Epoch: r.Epoch, Dir: dir, Signers: r.Signers,
		Sum: audit.Sum(document), document: document, parsed: r.Reference}, nil
}

// Fingerprint tells whether LoadCatalog would find something else: names, sizes
// and times of the files that it reads, and of those of who may sign (what
// verify.LoadTrust takes).
func Fingerprint(dirs []string, signers ...string) string {
	var b strings.Builder
	for _, dir := range dirs {
		sets, err := findSets(dir)
		fmt.Fprintf(&b, "%s %v\n", dir, err)
		for _, set := range sets {
			for _, name := range []string{release.ManifestName, release.EnvelopeName, reference.FileName} {
				stamp(&b, filepath.Join(set, name))
			}
		}
	}
	for _, path := range signers {
		for _, name := range []string{"", "keys.json", "image.pem", "image.crt", "image.pub", "db.pem"} {
			stamp(&b, filepath.Join(path, name))
		}
	}
	return b.String()
}

// stamp adds one file; none is nothing.
func stamp(b *strings.Builder, path string) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
	case err != nil:
		fmt.Fprintf(b, "%s %v\n", path, err)
	default:
		fmt.Fprintf(b, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
	}
}
