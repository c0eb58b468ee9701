// Package source gets inputs: it keeps every file by its SHA-256 in a cache and
// fills that from local files, a vendor bundle, Debian archives, downloads and
// OCI registries. Nothing is used before its digest is the locked one.
//
// A Store is the cache. A Fetcher is the cache with a network behind it, and
// what internal/lock resolves and builds ask:
//
//	f, err := source.New(source.Options{Mirror: r.Mirror})
//	path, err := f.Fetch(ctx, *l.Find("kernel"), r.Dir)
//	t, done, err := deb.Tree(path, "lib/modules", "usr/lib/modules")
package source

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/lock/local"
	"github.com/ingot-os/ingot/internal/source/debian"
)

// Options configures a Fetcher. Only what differs from the host's habits needs
// to be set: the zero value asks the mirrors of the host's apt.
type Options struct {
	Store *Store // nil means Default()
	// Mirror is the root of Debian's archive that the recipe or the operator
	// names; the security archive is then expected beside it, with "-security"
	// appended to its name, and else where the host has it. "" = the host's apt
	// configuration; without that either, packages cannot be fetched.
	Mirror   string
	Security string // root of the security archive, when it is elsewhere
	// Snapshot is asked for a package that the mirrors have dropped: the root of
	// a service with the interface of the Debian snapshot archive, or of one archive in it
	// (".../archive/debian/20260912T000000Z").
	Snapshot string
	Vendor   string // directory written by lock.Vendor; "" = none
	Offline  bool   // never use the network
	Client   *http.Client
	Progress func(Progress)     // called often while a download runs, possibly concurrently
	Now      func() time.Time   // nil means time.Now; decides on expired signatures
	Keys     openpgp.EntityList // nil means the embedded keyring of Debian
	// Pockets restricts the pockets of a suite that are searched, for archives
	// that have no others; nil means all of main, updates and security.
	Pockets []string
}

// Fetcher finds and fetches inputs. Its options must not change after first
// use; its methods may be called concurrently.
type Fetcher struct {
	Options

	once    sync.Once
	http    *http.Client
	archive *debian.Archive
	pause   time.Duration // before the first retry; tests shorten it
	root    fs.FS         // the host's files; nil means "/"
}

// New checks the options and returns a Fetcher.
func New(o Options) (*Fetcher, error) {
	if o.Store == nil {
		s, err := Default()
		if err != nil {
			return nil, err
		}
		o.Store = s
	}
	for _, a := range []string{o.Mirror, o.Security, o.Snapshot} {
		if a == "" {
			continue
		}
		u, err := url.Parse(a)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("use mirror %q: not an http or https address", a)
		}
	}
	return &Fetcher{Options: o}, nil
}

// Progress is one report about a download.
type Progress struct {
	Name        string // the input's name
	URL         string
	Done, Total int64 // bytes; Total 0 = unknown
	End         bool
}

// setup asks the host's configuration once.
func (f *Fetcher) setup() {
	if f.root == nil {
		f.root = os.DirFS("/")
	}
	host := debian.HostMirrors(f.root)
	f.http = f.Client
	if f.http == nil {
		f.http = newClient(host.Proxy)
	}
	main, security := host.Main, host.Security
	if f.Mirror != "" {
		main = []string{f.Mirror}
		security = append([]string{debian.SecurityOf(f.Mirror)}, security...)
	}
	if f.Security != "" {
		security = []string{f.Security}
	}
	f.archive = &debian.Archive{
		Main: main, Security: security, Pockets: f.Pockets,
		Keys: f.Keys, Now: f.Now, Source: archiveSource{f},
	}
}

// Package finds the newest package of a name in a suite and returns it as a
// lock input without a name, and the newest date of the indexes consulted.
func (f *Fetcher) Package(ctx context.Context, suite, arch, name string) (lock.Input, time.Time, error) {
	if f.Offline {
		return lock.Input{}, time.Time{}, fmt.Errorf("find package %s: %w", name, offlineError{})
	}
	f.once.Do(f.setup)
	p, err := f.archive.Find(ctx, suite, arch, name)
	if err != nil {
		return lock.Input{}, time.Time{}, err
	}
	return lock.Input{
		Kind: lock.KindDeb, SHA256: p.SHA256, Size: p.Size,
		Package: p.Name, Version: p.Version, Source: p.SourcePackage(), Arch: p.Arch,
		Suite: suite, Pocket: p.Pocket, Via: p.Via, Path: p.Filename,
	}, p.Date, nil
}

// Open reads an entry of the cache; see Store.Open.
func (f *Fetcher) Open(sha string) (*os.File, error) { return f.Store.Open(sha) }

var _ lock.Fetcher = (*Fetcher)(nil)

// Fetch makes one input available and returns the path of the verified file or
// directory: for a package or download its entry in the cache, for an OCI image
// the entry of its manifest, for local inputs their own place below dir, the
// recipe's directory. Go modules are the business of the Go toolchain: "".
func (f *Fetcher) Fetch(ctx context.Context, in lock.Input, dir string) (string, error) {
	switch in.Kind {
	case lock.KindDeb:
		return f.fetchDeb(ctx, in)
	case lock.KindURL:
		return f.blob(ctx, want{what: in.Name, sha: in.SHA256, size: in.Size, limit: MaxURL}, []string{in.Path})
	case lock.KindFile, lock.KindDir, lock.KindGoDir:
		return fetchLocal(in, dir)
	case lock.KindOCI:
		return f.fetchImage(ctx, in, dir)
	case lock.KindGoModule:
		return "", nil
	}
	return "", fmt.Errorf("fetch %s: unknown kind %q", in.Name, in.Kind)
}

// fetchLocal checks that local files are still the locked ones.
func fetchLocal(in lock.Input, dir string) (string, error) {
	path := in.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if in.Kind == lock.KindFile {
		got, _, err := local.HashFile(path)
		if err != nil {
			return "", fmt.Errorf("check %s: %w", in.Name, err)
		}
		if got != in.SHA256 {
			return "", &DigestError{Input: in.Name, From: path, Want: in.SHA256, Got: got}
		}
		return path, nil
	}
	for _, m := range local.Compare(path, in.Files, in.Kind == lock.KindDir) {
		return "", &DigestError{Input: in.Name, From: filepath.Join(path, m.Path), Want: m.Want, Got: m.Got}
	}
	return path, nil
}
