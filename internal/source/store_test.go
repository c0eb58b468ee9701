package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	return &Store{Dir: filepath.Join(t.TempDir(), "cache")}
}

func put(t testing.TB, s *Store, text string) string {
	t.Helper()
	sha, size, err := s.Put(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(len(text)) {
		t.Fatalf("size %d, want %d", size, len(text))
	}
	return sha
}

func read(t testing.TB, s *Store, sha string) string {
	t.Helper()
	f, err := s.Open(sha)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPutAndOpen(t *testing.T) {
	s := newStore(t)
	sha := put(t, s, "hello\n")
	if want := "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"; sha != want {
		t.Errorf("digest %s, want %s", sha, want)
	}
	for _, store := range []*Store{s, {Dir: s.Dir}} { // the second has checked nothing yet
		if got := read(t, store, sha); got != "hello\n" {
			t.Errorf("content %q", got)
		}
	}
	if _, err := s.Open(strings.Repeat("0", 64)); !errors.Is(err, ErrNotCached) {
		t.Errorf("missing entry: %v, want %v", err, ErrNotCached)
	}
	for _, bad := range []string{"", "../../etc/passwd", strings.ToUpper(sha), sha[:63]} {
		if _, err := s.Open(bad); err == nil || errors.Is(err, ErrNotCached) {
			t.Errorf("digest %q: %v, want it refused", bad, err)
		}
	}
}

func TestFailedPutLeavesNothing(t *testing.T) {
	s := newStore(t)
	if _, _, err := s.Put(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("cut")))); err == nil {
		t.Fatal("no error")
	}
	if err := s.PutAs(strings.Repeat("0", 64), strings.NewReader("other")); err == nil || !strings.Contains(err.Error(), "expected sha256 0000") {
		t.Errorf("PutAs of other content: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, "*", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestCorruptEntryIsRemoved changes an entry in every way a disk or a person does.
func TestCorruptEntryIsRemoved(t *testing.T) {
	for _, tc := range []struct {
		name string
		by   func(path string) error
	}{
		{"one bit, same size and time", func(p string) error {
			info, err := os.Stat(p)
			if err != nil {
				return err
			}
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b[2] ^= 1
			return errors.Join(os.Chmod(p, 0o644), os.WriteFile(p, b, 0o644), os.Chtimes(p, info.ModTime(), info.ModTime()))
		}},
		{"cut short", func(p string) error { return os.Truncate(p, 3) }},
		{"grown", func(p string) error { return os.Truncate(p, 4096) }},
		{"emptied", func(p string) error { return os.Truncate(p, 0) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStore(t)
			sha := put(t, s, "some content")
			path, _ := s.Path(sha)
			if err := tc.by(path); err != nil {
				t.Fatal(err)
			}
			var corrupt *CorruptError
			if _, err := (&Store{Dir: s.Dir}).Open(sha); !errors.As(err, &corrupt) || corrupt.Want != sha {
				t.Fatalf("got %v, want a CorruptError", err)
			}
			if s.Has(sha) {
				t.Error("the entry is still there")
			}
		})
	}
}

// TestChangeWithinAProcess: an entry that was checked is checked again when its
// time or size is another.
func TestChangeWithinAProcess(t *testing.T) {
	s := newStore(t)
	sha := put(t, s, "some content")
	read(t, s, sha)
	path, _ := s.Path(sha)
	if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, []byte("SOME CONTENT"), 0o644), os.Chtimes(path, time.Now(), time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := s.Open(sha); !errors.As(err, &corrupt) {
		t.Errorf("got %v, want a CorruptError", err)
	}
}

func TestConcurrentWriters(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			other := &Store{Dir: s.Dir} // as another process
			for j := range 20 {
				sha, _, err := other.Put(bytes.NewReader(bytes.Repeat([]byte{byte(j)}, 10000)))
				if err != nil {
					t.Errorf("writer %d: %v", i, err)
					return
				}
				f, err := other.Open(sha)
				if err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				f.Close()
			}
		})
	}
	wg.Wait()
}

func TestStaleTemporaryFilesGo(t *testing.T) {
	s := newStore(t)
	tmp := filepath.Join(s.Dir, "tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(tmp, "put-old"), filepath.Join(tmp, "put-young")
	for _, p := range []string{old, young} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	when := time.Now().Add(-2 * staleTemp)
	if err := os.Chtimes(old, when, when); err != nil {
		t.Fatal(err)
	}
	put(t, s, "x")
	if _, err := os.Stat(old); err == nil {
		t.Error("a file of a process long dead is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("a file of a running process is gone")
	}
}

func TestUnwritableDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		// root may write everywhere, so a file stands in the way instead.
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := (&Store{Dir: file}).Put(strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want an error that names %s", err, file)
		}
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (&Store{Dir: filepath.Join(dir, "c")}).Put(strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names %s", err, dir)
	}
}

func TestDerived(t *testing.T) {
	s := newStore(t)
	sha, other := put(t, s, "result"), put(t, s, "other")
	if _, ok := s.Derived("key"); ok {
		t.Error("a result before there is one")
	}
	if err := s.SetDerived("key", strings.Repeat("0", 64)); !errors.Is(err, ErrNotCached) {
		t.Errorf("result that is not stored: %v, want %v", err, ErrNotCached)
	}
	if err := s.SetDerived("key", sha); err != nil {
		t.Fatal(err)
	}
	if got, ok := s.Derived("key"); !ok || got != sha {
		t.Errorf("got %s %v, want %s", got, ok, sha)
	}
	if _, ok := s.Derived("another key"); ok {
		t.Error("a key that was never set has a result")
	}
	record := s.derivedPath("key")
	for _, bad := range []string{"", sha, sha + " 0000000000000000\n", other + " " + bind("key", sha) + "\n", fmt.Sprintf("%s %s\n", sha, bind("another key", sha))} {
		if err := os.WriteFile(record, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := s.Derived("key"); ok {
			t.Errorf("damaged record %q gives %s", bad, got)
		}
	}
	if err := s.SetDerived("key", sha); err != nil {
		t.Fatal(err)
	}
	path, _ := s.Path(sha)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Derived("key"); ok {
		t.Error("the result is gone from the cache, the record still stands")
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("INGOT_CACHE", "/x/y")
	if d, err := DefaultDir(); err != nil || d != "/x/y" {
		t.Errorf("got %q %v", d, err)
	}
	t.Chdir("/")
	t.Setenv("INGOT_CACHE", "x/y") // the toolchain gets paths below it, and runs elsewhere
	if d, err := DefaultDir(); err != nil || d != "/x/y" {
		t.Errorf("relative: got %q %v", d, err)
	}
	t.Setenv("INGOT_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/z")
	if d, err := DefaultDir(); err != nil || d != "/z/ingot" {
		t.Errorf("got %q %v", d, err)
	}
}
