package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-os/ingot/internal/source/debian"
)

// Limits in bytes of what a download may have when the lock states no size.
const (
	MaxDeb = 1 << 30
	MaxURL = 4 << 30
)

const (
	attempts   = 3
	stallAfter = 60 * time.Second // without a single byte
)

var errStalled = fmt.Errorf("no data for %s", stallAfter)

// ErrOffline is wrapped when something is neither in the cache nor in the
// vendor bundle and the network may not be used.
var ErrOffline = errors.New("offline and the cache is cold")

// offlineError is ErrOffline with what to do about it.
type offlineError struct{}

func (offlineError) Error() string        { return ErrOffline.Error() }
func (offlineError) Is(target error) bool { return target == ErrOffline }

// Hint names the ways to get at the input.
func (offlineError) Hint() string {
	return "do it once without --offline (and without INGOT_OFFLINE), or name a bundle with --vendor DIR"
}

// noMirrorError says that nobody told where a Debian archive is.
type noMirrorError struct{}

func (noMirrorError) Error() string {
	return "no Debian mirror to ask: the recipe names none, and the host's apt is not configured with one"
}

// Hint names the two ways to name one.
func (noMirrorError) Hint() string {
	return "set mirror: in the recipe (mirror: https://mirror.example.org/debian), or give --mirror URL"
}

// errMissing says that a server answered, and does not have the file.
var errMissing = errors.New("not found")

// DigestError says that an input's bytes are not the locked ones.
type DigestError struct {
	Input     string // name of the input
	From      string // URL or path
	Want, Got string // hex sha256
}

// Error implements error.
func (e *DigestError) Error() string {
	return fmt.Sprintf("check %s: %s: expected sha256 %s, got %s", e.Input, e.From, e.Want, e.Got)
}

// want describes a file before it is there.
type want struct {
	what  string // for errors and progress
	sha   string // hex; "" = unknown, and then the file does not enter the cache
	size  int64  // bytes; 0 = unknown
	limit int64  // bytes
}

func (w want) max() int64 {
	if w.size > 0 {
		return w.size
	}
	return w.limit
}

// blob returns the path of a file by its digest: from the cache, the vendor
// bundle or the first URL that has it.
func (f *Fetcher) blob(ctx context.Context, w want, urls []string) (string, error) {
	if path, err := f.local(ctx, w); err == nil || !errors.Is(err, ErrNotCached) {
		return path, err
	}
	return f.remote(ctx, w, urls)
}

// local looks where no network is needed; ErrNotCached when it is nowhere. A
// corrupt cache entry counts as missing: Open has removed it.
func (f *Fetcher) local(ctx context.Context, w want) (string, error) {
	file, err := f.Store.Open(w.sha)
	var corrupt *CorruptError
	switch {
	case err == nil:
		file.Close()
		return f.Store.Path(w.sha)
	case !errors.Is(err, ErrNotCached) && !errors.As(err, &corrupt):
		return "", err
	case f.Vendor == "":
		return "", ErrNotCached
	}
	return f.fromVendor(ctx, w)
}

// VendorPath is where a vendor bundle keeps the file of a digest.
func VendorPath(dir, sha string) string { return filepath.Join(dir, "sha256", sha) }

func (f *Fetcher) fromVendor(ctx context.Context, w want) (string, error) {
	path := VendorPath(f.Vendor, w.sha)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrNotCached
	}
	if err != nil {
		return "", fmt.Errorf("read vendor bundle: %w", err)
	}
	defer file.Close()
	return f.keep(ctx, w, path, file)
}

// remote downloads, from the first URL whose bytes have the digest.
func (f *Fetcher) remote(ctx context.Context, w want, urls []string) (string, error) {
	if f.Offline {
		return "", fmt.Errorf("fetch %s: %w: sha256 %s is not in it", w.what, offlineError{}, w.sha)
	}
	var path string
	err := f.first(ctx, w, urls, func(from string, body io.Reader) (err error) {
		path, err = f.keep(ctx, w, from, body)
		return err
	})
	return path, err
}

// keep stores a file if its digest is the wanted one.
func (f *Fetcher) keep(ctx context.Context, w want, from string, r io.Reader) (string, error) {
	t, err := f.Store.newTemp()
	if err != nil {
		return "", err
	}
	defer t.discard()
	if _, err := copyContext(ctx, t, r); err != nil {
		return "", err
	}
	if got := t.sum(); got != w.sha {
		return "", &DigestError{Input: w.what, From: from, Want: w.sha, Got: got}
	}
	sha, _, err := t.commit()
	if err != nil {
		return "", err
	}
	return f.Store.Path(sha)
}

// first asks one URL after the other until use accepts an answer. The error is
// errMissing when all servers say that they have no such file; otherwise the
// first error that says more.
func (f *Fetcher) first(ctx context.Context, w want, urls []string, use func(from string, body io.Reader) error) error {
	if len(urls) == 0 {
		return fmt.Errorf("fetch %s: %w", w.what, noMirrorError{})
	}
	var worst error
	for _, u := range urls {
		err := f.attempt(ctx, func() error { return f.get(ctx, w, u, use) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("fetch %s: %w", w.what, context.Cause(ctx))
		}
		if worst == nil || errors.Is(worst, errMissing) && !errors.Is(err, errMissing) {
			worst = err
		}
	}
	return fmt.Errorf("fetch %s: %w", w.what, worst)
}

// attempt calls do again while its error may be gone in a moment.
func (f *Fetcher) attempt(ctx context.Context, do func() error) error {
	var err error
	for n := range attempts {
		if n > 0 && !sleep(ctx, f.backoff()<<(n-1)) {
			return err
		}
		if err = do(); !transient(err) {
			return err
		}
	}
	return fmt.Errorf("%w (tried %d times)", err, attempts)
}

func (f *Fetcher) backoff() time.Duration {
	if f.pause > 0 {
		return f.pause
	}
	return 500 * time.Millisecond
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// archiveSource gives package debian its files.
type archiveSource struct{ f *Fetcher }

// Small implements debian.Source.
func (a archiveSource) Small(ctx context.Context, what string, urls []string, limit int64) (b []byte, err error) {
	if a.f.Offline {
		return nil, fmt.Errorf("fetch %s: %w", what, offlineError{})
	}
	err = a.f.first(ctx, want{what: what, limit: limit}, urls, func(_ string, r io.Reader) (err error) {
		b, err = io.ReadAll(r)
		return err
	})
	return b, err
}

// Blob implements debian.Source.
func (a archiveSource) Blob(ctx context.Context, what string, urls []string, sha string, size int64) (io.ReadCloser, error) {
	if _, err := a.f.blob(ctx, want{what: what, sha: sha, size: size, limit: debian.MaxIndex}, urls); err != nil {
		return nil, err
	}
	return a.f.Store.Open(sha)
}
