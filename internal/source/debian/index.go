package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/source/unpack"
)

type indexKey struct{ suite, pocket, arch string }

// index is what Find needs of one pocket.
type index struct {
	packages map[string][]Package
	date     time.Time
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
