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
	"syscall"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/internal/verify"
	"github.com/ingot-os/ingot/partition"
)

// Release is a release that hosts may run.
type Release struct {
	Name    string       `json:"name"`
	Version string       `json:"version"`
	Epoch   int64        `json:"securityEpoch"`
	Dir     string       `json:"dir"`
	Signers []string     `json:"signers,omitempty"` // ids of keys; none: nobody was asked
	Sum     audit.Digest `json:"reference"`
	Arch    string       `json:"arch,omitempty"`
	Layout  string       `json:"layout,omitempty"` // id of the disk layout
	Digest  string       `json:"digest"`           // SHA-256 of its manifest
	// Boot is what machines fetch that boot it over the network; zero for a set
	// whose manifest names no such files.
	Boot bootfiles.Set `json:"-"`

	document []byte
	parsed   attest.Reference
	parts    map[string]depot.Part // what machines write, by updateapi's names
}

// Refused is an image set that is not among the releases.
type Refused struct {
	Dir    string `json:"dir"`
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
}

// NewRefused is a set that is refused for an error, with what to do when a file of it is
// not there.
func NewRefused(dir string, err error) Refused {
	r := Refused{Dir: dir, Reason: err.Error()}
	if errors.Is(err, fs.ErrNotExist) {
		r.Hint = "it is half copied, or of an earlier ingot: copy the whole set, under a name that begins with a dot until all is there; or build it again"
	}
	return r
}

// Catalog is the releases that were found.
type Catalog struct {
	Releases []Release `json:"releases"`
	Refused  []Refused `json:"refused,omitempty"`

	references []attest.Reference
	sums       []audit.Digest
	offers     []assign.Release // in the order of Releases
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
				c.Refused = append(c.Refused, NewRefused(set, err))
			} else if !slices.ContainsFunc(c.Releases, func(x Release) bool { return x.Digest == r.Digest }) {
				c.Releases = append(c.Releases, *r)
			}
		}
	}
	slices.SortStableFunc(c.Releases, func(a, b Release) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Epoch, b.Epoch), strings.Compare(a.Version, b.Version))
	})
	c.index()
	return c, nil
}

// index computes what is asked of a catalog again and again.
func (c *Catalog) index() {
	for _, r := range c.Releases {
		c.offers = append(c.offers, assign.Release{Digest: r.Digest, Name: r.Name, Version: r.Version, Arch: r.Arch, Layout: r.Layout, Epoch: r.Epoch,
			Slot: r.parts[updateapi.PartSlot].SHA256})
		if !slices.Contains(c.sums, r.Sum) { // sets of one reference may have two manifests
			c.references, c.sums = append(c.references, r.parsed), append(c.sums, r.Sum)
		}
	}
}

// release gives a release by the digest of its manifest, nil when it is none.
func (c *Catalog) release(digest string) *Release {
	i := slices.IndexFunc(c.Releases, func(r Release) bool { return r.Digest == digest })
	if i < 0 {
		return nil
	}
	return &c.Releases[i]
}

// offer gives what a decision knows of a release, nil when it is none.
func (c *Catalog) offer(digest string) *assign.Release {
	i := slices.IndexFunc(c.offers, func(r assign.Release) bool { return r.Digest == digest })
	if i < 0 {
		return nil
	}
	return &c.offers[i]
}

// base is the part of a release of the same appliance and architecture that has
// a digest; nil when there is none.
func (c *Catalog) base(of *Release, part, digest string) *depot.Part {
	i := slices.IndexFunc(c.Releases, func(r Release) bool {
		return r.Name == of.Name && r.Arch == of.Arch && r.parts[part].SHA256 == digest && digest != ""
	})
	if i < 0 {
		return nil
	}
	p := c.Releases[i].parts[part]
	return &p
}

// images are the files that parts are in.
func (c *Catalog) images() map[string]bool {
	out := map[string]bool{}
	for _, r := range c.Releases {
		for _, p := range r.parts {
			out[p.Path] = true
		}
	}
	return out
}

// kind gives architecture and layout of a version; nothing when the releases
// that have it differ.
func (c *Catalog) kind(name, version string) (arch, layout string) {
	for i, r := range c.Releases {
		if r.Name != name || r.Version != version {
			continue
		}
		if arch != "" && (arch != r.Arch || layout != r.Layout) {
			return "", ""
		}
		arch, layout = c.Releases[i].Arch, c.Releases[i].Layout
	}
	return arch, layout
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
	m := r.Manifest
	if m.Name != r.Name || m.Version != r.Version || int64(m.SecurityEpoch) != r.Epoch {
		return nil, fmt.Errorf("%s: the manifest is of %s %s with security epoch %d, its reference of %s %s with %d", dir, m.Name, m.Version, m.SecurityEpoch, r.Name, r.Version, r.Epoch)
	}
	boot, err := bootfiles.Of(dir, m)
	if err != nil {
		boot = bootfiles.Set{} // it has nothing that could be served
	}
	return &Release{Boot: boot, Name: r.Name, Version: r.Version, Epoch: r.Epoch, Dir: dir, Signers: r.Signers, Arch: m.Arch, Layout: m.Disk.Layout, Digest: r.Digest,
		Sum: audit.Sum(document), document: document, parsed: r.Reference, parts: parts(&release.Set{Dir: dir, Manifest: m})}, nil
}

// parts are the partitions of a set that machines write. Both slots hold the
// same in an image, and both roots.
func parts(set *release.Set) map[string]depot.Part {
	out := map[string]depot.Part{}
	for _, p := range set.Manifest.Disk.Partitions {
		switch p.Role {
		case partition.SlotA:
			out[updateapi.PartSlot] = depot.Part{Path: set.Image(), Start: p.Start, Size: p.Size, SHA256: p.SHA256}
		case partition.ESP:
			out[updateapi.PartESP] = depot.Part{Path: set.Image(), Start: p.Start, Size: p.Size, SHA256: p.SHA256}
		case partition.RootA:
			out[updateapi.PartRoot] = depot.Part{Path: set.Image(), Start: p.Start, Size: p.Size, SHA256: p.SHA256}
		}
	}
	return out
}

// Fingerprint tells whether LoadCatalog would find something else, or who boots machines
// with the files of Release.Boot: names, sizes and times of the files of image sets, and
// of those of who may sign (what verify.LoadTrust takes). Files are copied one after the
// other, so a set whose manifest is there already is looked at again with each that comes.
func Fingerprint(dirs []string, signers ...string) string {
	var b strings.Builder
	for _, dir := range dirs {
		sets, err := findSets(dir)
		fmt.Fprintf(&b, "%s %v\n", dir, err)
		for _, set := range sets {
			for _, name := range []string{release.ManifestName, release.EnvelopeName, reference.FileName} {
				stamp(&b, filepath.Join(set, name))
			}
			for _, suffix := range bootfiles.Suffixes {
				stampAll(&b, set, suffix)
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

// stampAll adds the files of a set with that end of their names.
func stampAll(b *strings.Builder, set, suffix string) {
	list, err := os.ReadDir(set)
	if err != nil {
		fmt.Fprintf(b, "%v\n", err)
	}
	for _, e := range list {
		if strings.HasSuffix(e.Name(), suffix) {
			stamp(b, filepath.Join(set, e.Name()))
		}
	}
}

// stamp adds one file; none is nothing. The time of change of its inode is nobody's to
// set: rsync sets back that of the content, and chmod leaves it alone.
func stamp(b *strings.Builder, path string) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
	case err != nil:
		fmt.Fprintf(b, "%s %v\n", path, err)
	default:
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(b, "%s %d %d %d %d\n", path, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
	}
}
