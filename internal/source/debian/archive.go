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
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

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
