package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/source/debian/debiantest"
)

// fixture is an archive with one package, locked, and a fetcher for it.
type fixture struct {
	*Fetcher
	a  *debiantest.Archive
	in lock.Input
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	a := debiantest.New(t)
	a.Add(debiantest.Package{Name: "stub", Version: "1-1", Files: map[string]string{"usr/lib/stub": strings.Repeat("stub ", 1000)}})
	a.Publish()
	f := fetcher(t, a, newStore(t))
	in, date, err := f.Package(context.Background(), "trixie", "amd64", "stub")
	if err != nil {
		t.Fatal(err)
	}
	if !date.Equal(a.Date) {
		t.Errorf("date %v, want %v", date, a.Date)
	}
	in.Name = "stub"
	a.Hits()
	return &fixture{f, a, in}
}

func fetcher(t *testing.T, a *debiantest.Archive, s *Store) *Fetcher {
	t.Helper()
	f, err := New(Options{Store: s, Mirror: a.Main, Security: a.Security, Keys: a.Keys(), Now: a.Now})
	if err != nil {
		t.Fatal(err)
	}
	f.pause = time.Millisecond
	return f
}

func (x *fixture) fetch() (string, error) {
	return x.Fetch(context.Background(), x.in, "")
}

// mustFetch fetches and compares the content with the locked digest.
func (x *fixture) mustFetch(t *testing.T) {
	t.Helper()
	path, err := x.fetch()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := debiantest.Sum(b); got != x.in.SHA256 {
		t.Errorf("content has %s, want %s", got, x.in.SHA256)
	}
}

func TestFetchDownloadsOnce(t *testing.T) {
	x := newFixture(t)
	x.mustFetch(t)
	x.mustFetch(t)
	if got, want := x.a.Hits(), []string{"/debian/" + x.in.Path}; !slices.Equal(got, want) {
		t.Errorf("requests %v, want %v", got, want)
	}
}

func TestCorruptCacheEntryIsFetchedAgain(t *testing.T) {
	x := newFixture(t)
	x.mustFetch(t)
	path, _ := x.Store.Path(x.in.SHA256)
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	x.Store = &Store{Dir: x.Store.Dir}
	x.mustFetch(t)
	if got := len(x.a.Hits()); got != 2 {
		t.Errorf("%d requests, want 2", got)
	}
}

func TestCorruptPackageIsRefused(t *testing.T) {
	x := newFixture(t)
	x.a.Edit(".deb", func(b []byte) []byte { b[100] ^= 1; return b })
	_, err := x.fetch()
	var digest *DigestError
	if !errors.As(err, &digest) {
		t.Fatalf("got %v, want a DigestError", err)
	}
	for _, s := range []string{"stub", x.in.SHA256, digest.Got, x.a.Main} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not name %s", err, s)
		}
	}
	if x.Store.Has(x.in.SHA256) || x.Store.Has(digest.Got) {
		t.Error("the wrong bytes are in the cache")
	}
}

func TestTamperedIndexIsRefused(t *testing.T) {
	x := newFixture(t)
	x.a.Edit("main/binary-amd64/", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	f := fetcher(t, x.a, newStore(t))
	_, _, err := f.Package(context.Background(), "trixie", "amd64", "stub")
	var digest *DigestError
	if !errors.As(err, &digest) {
		t.Errorf("got %v, want a DigestError", err)
	}
}

func TestIndexOfAnotherSizeIsRefused(t *testing.T) {
	x := newFixture(t)
	x.a.Edit("main/binary-amd64/", func(b []byte) []byte { return append(b, 0) })
	f := fetcher(t, x.a, newStore(t))
	if _, _, err := f.Package(context.Background(), "trixie", "amd64", "stub"); err == nil || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("got %v", err)
	}
}

func TestOffline(t *testing.T) {
	x := newFixture(t)
	x.Offline = true
	_, err := x.fetch()
	if !errors.Is(err, ErrOffline) || !strings.Contains(err.Error(), "stub") {
		t.Errorf("cold: %v, want %v with the input's name", err, ErrOffline)
	}
	if _, _, err := x.Package(context.Background(), "trixie", "amd64", "stub"); !errors.Is(err, ErrOffline) {
		t.Errorf("resolve: %v, want %v", err, ErrOffline)
	}
	if hits := x.a.Hits(); len(hits) != 0 {
		t.Errorf("offline, and yet it asked for %v", hits)
	}
	x.Offline = false
	x.mustFetch(t)
	x.Offline = true
	x.mustFetch(t)
}

func TestSupersededPackage(t *testing.T) {
	x := newFixture(t)
	x.a.Edit(".deb", func([]byte) []byte { return nil })
	_, err := x.fetch()
	var gone *SupersededError
	if !errors.As(err, &gone) || !strings.Contains(err.Error(), "superseded: run ingot lock --update stub") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(err.Error(), x.a.Main) {
		t.Errorf("%q does not say who was asked", err)
	}
}

// TestSnapshotService: with the interface of Debian's snapshot service.
func TestSnapshotService(t *testing.T) {
	x := newFixture(t)
	var deb []byte
	x.a.Edit(".deb", func(b []byte) []byte { deb = b; return nil })
	x.a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/mr/binary/stub/1-1/binfiles":
			fmt.Fprint(w, `{"_comment":"foo","result":[{"architecture":"arm64","hash":"00ff"},{"architecture":"amd64","hash":"1234abcd"}]}`)
		case "/file/1234abcd":
			w.Write(deb)
		default:
			return false
		}
		return true
	})
	x.Snapshot = strings.TrimSuffix(x.a.Main, "/debian")
	x.mustFetch(t)

	x.in.Version = "2-1" // the service has no such
	x.in.SHA256 = strings.Repeat("0", 64)
	var gone *SupersededError
	if _, err := x.fetch(); !errors.As(err, &gone) {
		t.Errorf("got %v, want a SupersededError", err)
	}
}

func TestFrozenArchiveAsSnapshot(t *testing.T) {
	x := newFixture(t)
	var deb []byte
	x.a.Edit(".deb", func(b []byte) []byte { deb = b; return nil })
	x.a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/archive/debian/20260912T000000Z/"+x.in.Path {
			return false
		}
		w.Write(deb)
		return true
	})
	x.Snapshot = strings.TrimSuffix(x.a.Main, "/debian") + "/archive/debian/20260912T000000Z/"
	x.mustFetch(t)
}

func TestServerErrorsAreTriedAgain(t *testing.T) {
	for _, tc := range []struct {
		name     string
		failures int32
		how      func(w http.ResponseWriter)
		ok       bool
	}{
		{"two times 503", 2, func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, true},
		{"always 503", 99, func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, false},
		{"connection cut in the middle", 2, func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		}, true},
		{"forbidden is final", 1, func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := newFixture(t)
			var left atomic.Int32
			left.Store(tc.failures)
			x.a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
				if left.Add(-1) < 0 {
					return false
				}
				tc.how(w)
				return true
			})
			if _, err := x.fetch(); (err == nil) != tc.ok {
				t.Errorf("got %v, want success: %v", err, tc.ok)
			}
			if n := len(x.a.Hits()); n > attempts {
				t.Errorf("%d requests, want at most %d", n, attempts)
			}
		})
	}
}

// TestDownloadsAreBounded: an answer without an end is cut off at the limit.
func TestDownloadsAreBounded(t *testing.T) {
	x := newFixture(t)
	x.a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
		w.(http.Flusher).Flush() // chunked: no length is announced
		for range 1000 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		return true
	})
	if _, err := x.fetch(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("limit of %d bytes", x.in.Size)) {
		t.Errorf("got %v", err)
	}
}

func TestCancelledDownload(t *testing.T) {
	x := newFixture(t)
	ctx, cancel := context.WithCancel(context.Background())
	x.a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	if _, err := x.Fetch(ctx, x.in, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	left, _ := filepath.Glob(filepath.Join(x.Store.Dir, "tmp", "*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestVendorBundle(t *testing.T) {
	x := newFixture(t)
	dir := t.TempDir()
	l := &lock.Lock{Inputs: []lock.Input{x.in}}
	if err := lock.Vendor(context.Background(), l, x.Fetcher, "", dir); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if want := x.in.SHA256 + "  sha256/" + x.in.SHA256 + "\n"; err != nil || string(sums) != want {
		t.Errorf("SHA256SUMS %q %v, want %q", sums, err, want)
	}
	cold := &fixture{fetcher(t, x.a, newStore(t)), x.a, x.in}
	cold.Offline, cold.Vendor = true, dir
	cold.mustFetch(t)

	if err := os.WriteFile(VendorPath(dir, x.in.SHA256), []byte("other bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	cold = &fixture{fetcher(t, x.a, newStore(t)), x.a, x.in}
	cold.Vendor = dir
	var digest *DigestError
	if _, err := cold.fetch(); !errors.As(err, &digest) || !strings.Contains(err.Error(), dir) {
		t.Errorf("damaged bundle: %v, want a DigestError that names it", err)
	}
}

func TestFetchURL(t *testing.T) {
	x := newFixture(t)
	const text = "a download"
	x.a.Intrude(func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, text); return true })
	in := lock.Input{Name: "file/x", Kind: lock.KindURL, Path: x.a.Main + "/x", SHA256: debiantest.Sum([]byte(text))}
	if _, err := x.Fetch(context.Background(), in, ""); err != nil {
		t.Fatal(err)
	}
	in.SHA256 = debiantest.Sum([]byte("another"))
	_, err := x.Fetch(context.Background(), in, "")
	if err == nil || !strings.Contains(err.Error(), "file/x") || !strings.Contains(err.Error(), "expected sha256 "+in.SHA256) {
		t.Errorf("got %v", err)
	}
}

func TestFetchLocal(t *testing.T) {
	x := newFixture(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "motd"), []byte("hi"), 0o644); err != nil {
		t.Fatal(err)
	}
	in := lock.Input{Name: "file/etc/motd", Kind: lock.KindFile, Path: "motd", SHA256: debiantest.Sum([]byte("hi"))}
	if got, err := x.Fetch(context.Background(), in, dir); err != nil || got != filepath.Join(dir, "motd") {
		t.Errorf("got %s %v", got, err)
	}
	in.SHA256 = debiantest.Sum([]byte("ho"))
	if _, err := x.Fetch(context.Background(), in, dir); err == nil || !strings.Contains(err.Error(), "expected sha256") {
		t.Errorf("got %v", err)
	}
}

func TestProgress(t *testing.T) {
	x := newFixture(t)
	var last Progress
	x.Fetcher.Progress = func(p Progress) { last = p }
	x.mustFetch(t)
	if last.Name != "stub" || last.Done != x.in.Size || last.Total != x.in.Size || !last.End {
		t.Errorf("last report %+v", last)
	}
}

func TestNewRefusesMirrorsItCannotAsk(t *testing.T) {
	for _, m := range []string{"ftp://x/debian", "deb.example.org/debian", "file:///srv", "http://"} {
		if _, err := New(Options{Store: newStore(t), Mirror: m}); err == nil {
			t.Errorf("accepted %q", m)
		}
	}
}

// TestNoMirror: a host without apt and a recipe without mirror: get an error
// that says so and what to do; the cache and a snapshot service still serve.
func TestNoMirror(t *testing.T) {
	x := newFixture(t)
	f, err := New(Options{Store: newStore(t), Keys: x.a.Keys(), Now: x.a.Now})
	if err != nil {
		t.Fatal(err)
	}
	f.root = fstest.MapFS{}
	_, _, errFind := f.Package(context.Background(), "trixie", "amd64", "stub")
	_, errFetch := f.Fetch(context.Background(), x.in, "")
	for name, err := range map[string]error{"find": errFind, "fetch": errFetch} {
		var h interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), "no Debian mirror") || !errors.As(err, &h) || !strings.Contains(h.Hint(), "mirror: in the recipe") {
			t.Errorf("%s: %v: want that no mirror is known, with a hint", name, err)
		}
	}

	f, err = New(Options{Store: newStore(t), Snapshot: strings.TrimSuffix(x.a.Main, "/debian") + "/archive/debian/1"})
	if err != nil {
		t.Fatal(err)
	}
	f.root = fstest.MapFS{}
	var deb []byte
	x.a.Edit(".deb", func(b []byte) []byte { deb = b; return nil })
	x.a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/archive/debian/1/"+x.in.Path {
			return false
		}
		w.Write(deb)
		return true
	})
	if _, err := f.Fetch(context.Background(), x.in, ""); err != nil {
		t.Errorf("with a snapshot service: %v", err)
	}
}
