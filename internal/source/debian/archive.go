// Package debian reads Debian archives: which mirror to ask, what an archive's
// signed index vouches for, and which binary package answers a name.
//
// The chain is the one of apt-secure(8): InRelease is signed by a key of the
// embedded keyring, it names the Packages indexes by SHA-256, and those name
// every package by SHA-256. Only main and non-free-firmware are searched, in
// the suite itself, its updates and its security pocket; the highest version
// wins. No dependencies are resolved, except that a kernel metapackage is
// followed to the kernel it depends on.
//
//	a := &debian.Archive{Main: mirrors, Security: security, Source: source}
//	found, err := a.Find(ctx, "trixie", "amd64", "linux-image-cloud-amd64")
package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/ingot-os/ingot/internal/source/unpack"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

// The pockets of a suite (S11). Packages of the security pocket come from the
// security archive, the others from the main one.
const (
	PocketMain     = "main"
	PocketUpdates  = "updates"
	PocketSecurity = "security"
)

// Source gets files; it is how an Archive reaches network and cache.
type Source interface {
	// Small returns a file of at most limit bytes from the first URL that has it.
	// what names it in errors.
	Small(ctx context.Context, what string, urls []string, limit int64) ([]byte, error)
	// Blob returns the file of the given digest and size, from the cache or the
	// first URL that has it. The caller closes it.
	Blob(ctx context.Context, what string, urls []string, sha string, size int64) (io.ReadCloser, error)
}

// Archive finds packages in a Debian archive. It keeps what it has read, so
// one value sees one state of the archive. Methods may be called concurrently.
type Archive struct {
	Main     []string // mirrors, best first: "http://mirror.example.org/debian"
	Security []string // mirrors of the security archive
	// Pockets are those to search; nil means all that the suite has.
	Pockets []string
	Keys    openpgp.EntityList // nil means Keyring()
	Now     func() time.Time   // nil means time.Now
	Source  Source

	mu      sync.Mutex
	indexes map[indexKey]*index
}

// Found is the answer to Find.
type Found struct {
	Package
	Pocket string
	Via    string    // the metapackage that was asked for, when it was followed
	Date   time.Time // the newest Date among the indexes that were searched
}

// NotFoundError says that no index of the suite has the package.
type NotFoundError struct {
	Package, Suite, Arch string
	Pockets              []string
	Near                 string // a name in the archive that looks alike, or ""
}

// Error implements error.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("find package %s: not in %s for %s (searched %s; main and non-free-firmware)",
		e.Package, e.Suite, e.Arch, strings.Join(e.Pockets, ", "))
}

// Hint is the package that was probably meant.
func (e *NotFoundError) Hint() string {
	if e.Near == "" {
		return ""
	}
	return "did you mean " + e.Near + "?"
}

// components are searched in this order; the free one first. non-free-firmware
// exists since Debian 12 and holds what firmware: in a recipe usually names.
var components = []string{"main", "non-free-firmware"}

// Limits in bytes.
const (
	MaxRelease = 8 << 20   // an InRelease file; trixie's has 140 kB
	MaxIndex   = 256 << 20 // a compressed Packages index; trixie/main has 10 MB
	maxPlain   = 1 << 30   // the same, decompressed
)

type indexKey struct{ suite, pocket, arch string }

// index is what Find needs of one pocket.
type index struct {
	packages map[string][]Package
	date     time.Time
}

// Find returns the newest package of that name for arch (or for all
// architectures) in the pockets of suite. A kernel metapackage is followed.
func (a *Archive) Find(ctx context.Context, suite, arch, name string) (*Found, error) {
	best, err := a.find(ctx, suite, arch, name, "")
	if err != nil {
		return nil, err
	}
	image, version, meta := best.Image()
	if !meta {
		return best, nil
	}
	kernel, err := a.find(ctx, suite, arch, image, version)
	if err != nil {
		return nil, fmt.Errorf("follow metapackage %s %s: %w", name, best.Version, err)
	}
	kernel.Via = name
	return kernel, nil
}

// find searches all pockets; version "" takes the newest.
func (a *Archive) find(ctx context.Context, suite, arch, name, version string) (*Found, error) {
	var best *Found
	var date time.Time
	var names []string
	pockets := a.pockets(suite)
	for _, pocket := range pockets {
		ix, err := a.load(ctx, indexKey{suite, pocket, arch})
		if err != nil {
			return nil, err
		}
		if ix.date.After(date) {
			date = ix.date
		}
		for _, p := range ix.packages[name] {
			if (version == "" || p.Version == version) && (best == nil || Compare(p.Version, best.Version) > 0) {
				best = &Found{Package: p, Pocket: pocket}
			}
		}
		if best == nil {
			names = slices.AppendSeq(names, maps.Keys(ix.packages))
		}
	}
	if best == nil {
		slices.Sort(names) // so that of two equally near names always the same is suggested
		return nil, &NotFoundError{name, suite, arch, pockets, strictyaml.Nearest(name, names)}
	}
	best.Date = date
	return best, nil
}

// pockets lists what a suite has: unstable and experimental take fixes directly.
func (a *Archive) pockets(suite string) []string {
	switch {
	case a.Pockets != nil:
		return a.Pockets
	case suite == "sid" || suite == "unstable" || suite == "experimental" || suite == "rc-buggy":
		return []string{PocketMain}
	}
	return []string{PocketMain, PocketUpdates, PocketSecurity}
}

// SuiteOf returns the name of a pocket in the archive: trixie, trixie-updates, trixie-security.
func SuiteOf(suite, pocket string) string {
	if pocket == PocketMain {
		return suite
	}
	return suite + "-" + pocket
}

// Roots returns the mirrors that serve a pocket.
func (a *Archive) Roots(pocket string) []string {
	if pocket == PocketSecurity {
		return a.Security
	}
	return a.Main
}

func (a *Archive) load(ctx context.Context, k indexKey) (*index, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ix := a.indexes[k]; ix != nil {
		return ix, nil
	}
	ix, err := a.read(ctx, k)
	if err != nil {
		return nil, err
	}
	if a.indexes == nil {
		a.indexes = map[indexKey]*index{}
	}
	a.indexes[k] = ix
	return ix, nil
}

func (a *Archive) read(ctx context.Context, k indexKey) (*index, error) {
	rel, err := a.release(ctx, k)
	if err != nil {
		return nil, err
	}
	ix := &index{packages: map[string][]Package{}, date: rel.Date}
	for i, component := range components {
		name, ok := rel.packagesIndex(component, k.arch)
		if !ok && i > 0 {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("read archive %s: no Packages index for %s", SuiteOf(k.suite, k.pocket), k.arch)
		}
		if err := a.readIndex(ctx, k, rel, name, ix); err != nil {
			return nil, err
		}
	}
	return ix, nil
}

func (a *Archive) release(ctx context.Context, k indexKey) (*Release, error) {
	suite := SuiteOf(k.suite, k.pocket)
	urls := join(a.Roots(k.pocket), "dists/"+suite+"/InRelease")
	file, err := a.Source.Small(ctx, "InRelease of "+suite, urls, MaxRelease)
	if err != nil {
		return nil, err
	}
	keys := a.Keys
	if keys == nil {
		if keys, err = Keyring(); err != nil {
			return nil, err
		}
	}
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	return ParseRelease(file, suite, keys, now())
}

// packagesIndex picks the best compressed form that the archive vouches for.
// The security archive prefixes its components with "updates/" in some fields,
// but not here.
func (r *Release) packagesIndex(component, arch string) (string, bool) {
	base := component + "/binary-" + arch + "/Packages"
	for _, ext := range []string{".xz", ".gz", ""} {
		if _, ok := r.Index[base+ext]; ok {
			return base + ext, true
		}
	}
	return "", false
}

func (a *Archive) readIndex(ctx context.Context, k indexKey, rel *Release, name string, ix *index) error {
	suite := SuiteOf(k.suite, k.pocket)
	want := rel.Index[name]
	if want.Size > MaxIndex {
		return fmt.Errorf("read index %s of %s: %d bytes is over the limit of %d", name, suite, want.Size, int64(MaxIndex))
	}
	f, err := a.Source.Blob(ctx, "index "+name+" of "+suite, a.indexURLs(k, rel, name), want.SHA256, want.Size)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := decompress(f, name)
	if err != nil {
		return fmt.Errorf("read index %s of %s: %w", name, suite, err)
	}
	err = ScanPackages(plain, func(p Package) error {
		if p.Arch == k.arch || p.Arch == "all" {
			ix.packages[p.Name] = append(ix.packages[p.Name], p)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read index %s of %s: %w", name, suite, err)
	}
	return nil
}

// indexURLs prefers the address by digest: a mirror that is being updated then
// never serves an index newer than the InRelease just read.
func (a *Archive) indexURLs(k indexKey, rel *Release, name string) []string {
	dir := "dists/" + SuiteOf(k.suite, k.pocket) + "/"
	var urls []string
	if rel.ByHash {
		byHash := name[:strings.LastIndexByte(name, '/')] + "/by-hash/SHA256/" + rel.Index[name].SHA256
		urls = join(a.Roots(k.pocket), dir+byHash)
	}
	return append(urls, join(a.Roots(k.pocket), dir+name)...)
}

func decompress(r io.Reader, name string) (io.Reader, error) {
	form := strings.TrimPrefix(strings.TrimPrefix(path.Base(name), "Packages"), ".")
	plain, err := unpack.Reader(r, unpack.Form(form))
	if err != nil {
		return nil, err
	}
	return &limited{r: plain, left: maxPlain}, nil
}

// limited is io.LimitReader with an error instead of a silent end.
type limited struct {
	r    io.Reader
	left int64
}

var errTooLong = errors.New("decompresses to more than 1 GiB")

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

func join(roots []string, path string) []string {
	urls := make([]string, len(roots))
	for i, r := range roots {
		urls[i] = strings.TrimSuffix(r, "/") + "/" + path
	}
	return urls
}
