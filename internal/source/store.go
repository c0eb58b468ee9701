package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Store is a content-addressed cache on disk, safe for many processes at once.
//
// Under Dir, sha256/AB/ABCD... holds one read-only file per content, derived/
// remembers results computed from inputs, and tmp/ is where files grow before
// they are renamed into place. A reader therefore never sees half a file, and
// nothing needs a lock: two writers of one content write the same bytes.
//
// No fsync is done. Each process checks the digest of an entry the first time
// it opens it, so a file torn by a power cut is found, removed and fetched anew.
// After that first check an entry is trusted in the same process for as long as
// its size, modification time and inode stay what they were.
type Store struct {
	// Dir is the root of the cache; it is made when something is stored.
	Dir string

	mu      sync.Mutex
	checked map[string]stamp
	swept   bool
}

// stamp is what must stay the same for a checked entry to be trusted again.
type stamp struct {
	info fs.FileInfo
}

func (s stamp) same(i fs.FileInfo) bool {
	return s.info != nil && os.SameFile(s.info, i) && s.info.Size() == i.Size() && s.info.ModTime().Equal(i.ModTime())
}

// ErrNotCached is returned by Open for a digest that the cache does not hold.
var ErrNotCached = errors.New("not in the cache")

// CorruptError is returned by Open for an entry whose bytes are not those of
// its name. The entry has been removed.
type CorruptError struct {
	Want, Got string // hex sha256
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("read cache entry %s: content has sha256 %s; the entry was removed", e.Want, e.Got)
}

// staleTemp is the age after which a file in tmp/ belongs to nobody any more.
const staleTemp = 48 * time.Hour

// DefaultDir returns $INGOT_CACHE, else the folder ingot in the user's cache directory.
func DefaultDir() (string, error) {
	if d := os.Getenv("INGOT_CACHE"); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", &cacheError{fmt.Errorf("find cache directory: %w", err)}
	}
	return filepath.Join(d, "ingot"), nil
}

// Default returns the Store at DefaultDir.
func Default() (*Store, error) {
	d, err := DefaultDir()
	if err != nil {
		return nil, err
	}
	return &Store{Dir: d}, nil
}

// Path returns where the entry of a digest lives, whether it exists or not.
func (s *Store) Path(sha string) (string, error) {
	if !IsDigest(sha) {
		return "", fmt.Errorf("find cache entry %q: not a sha256 in lower-case hex", sha)
	}
	return filepath.Join(s.Dir, "sha256", sha[:2], sha), nil
}

// IsDigest reports whether s is a sha256 as 64 lower-case hex digits.
func IsDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Has reports whether an entry exists; its bytes are checked by Open only.
func (s *Store) Has(sha string) bool {
	p, err := s.Path(sha)
	if err != nil {
		return false
	}
	i, err := os.Lstat(p)
	return err == nil && i.Mode().IsRegular()
}

// Put stores what r gives and returns its sha256 in hex and its length in bytes.
func (s *Store) Put(r io.Reader) (sha string, size int64, err error) {
	t, err := s.newTemp()
	if err != nil {
		return "", 0, err
	}
	defer t.discard()
	if _, err := io.Copy(t, r); err != nil {
		return "", 0, fmt.Errorf("write cache entry: %w", err)
	}
	return t.commit()
}

// Open opens the entry of a digest for reading. The error is ErrNotCached when
// there is none and a *CorruptError when its bytes are not what they must be.
func (s *Store) Open(sha string) (*os.File, error) {
	p, err := s.Path(sha)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open cache entry %s: %w", sha, ErrNotCached)
	}
	if err != nil {
		return nil, fmt.Errorf("open cache entry: %w", err)
	}
	if err := s.check(f, p, sha); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (s *Store) check(f *os.File, path, sha string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("check cache entry: %w", err)
	}
	s.mu.Lock()
	trusted := s.checked[sha].same(info)
	s.mu.Unlock()
	if trusted {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("check cache entry: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sha {
		os.Remove(path)
		return &CorruptError{Want: sha, Got: got}
	}
	s.remember(sha, info)
	_, err = f.Seek(0, io.SeekStart)
	return err
}

func (s *Store) remember(sha string, info fs.FileInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checked == nil {
		s.checked = map[string]stamp{}
	}
	s.checked[sha] = stamp{info}
}

// PutAs stores what r gives if sha is its SHA-256; of other content nothing is
// kept. It exists for what has to be written before its digest is known.
func (s *Store) PutAs(sha string, r io.Reader) error {
	t, err := s.newTemp()
	if err != nil {
		return err
	}
	defer t.discard()
	if _, err := io.Copy(t, r); err != nil {
		return fmt.Errorf("write cache entry: %w", err)
	}
	if got := t.sum(); got != sha {
		return fmt.Errorf("expected sha256 %s, got %s", sha, got)
	}
	_, _, err = t.commit()
	return err
}

// temp is a file in tmp/ that hashes what is written to it.
type temp struct {
	s    *Store
	f    *os.File
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	n int64
}

func (s *Store) newTemp() (*temp, error) {
	tmp := filepath.Join(s.Dir, "tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return nil, &cacheError{fmt.Errorf("make cache directory: %w", err)}
	}
	s.sweep(tmp)
	f, err := os.CreateTemp(tmp, "put-")
	if err != nil {
		return nil, &cacheError{fmt.Errorf("write cache entry: %w", err)}
	}
	return &temp{s: s, f: f, hash: sha256.New()}, nil
}

// cacheError is a cache that cannot be written at all.
type cacheError struct{ error }

// Unwrap gives the cause.
func (e *cacheError) Unwrap() error { return e.error }

// Hint names the way out.
func (*cacheError) Hint() string { return "set INGOT_CACHE to a directory that can be written" }

// sweep removes, once per Store, what killed processes left in tmp/.
func (s *Store) sweep(tmp string) {
	s.mu.Lock()
	done := s.swept
	s.swept = true
	s.mu.Unlock()
	if done {
		return
	}
	list, _ := os.ReadDir(tmp)
	for _, e := range list {
		if i, err := e.Info(); err == nil && time.Since(i.ModTime()) > staleTemp {
			os.Remove(filepath.Join(tmp, e.Name()))
		}
	}
}

func (t *temp) Write(p []byte) (int, error) {
	n, err := t.f.Write(p)
	t.hash.Write(p[:n])
	t.n += int64(n)
	return n, err
}

func (t *temp) sum() string { return hex.EncodeToString(t.hash.Sum(nil)) }

// commit gives the file its final name.
func (t *temp) commit() (sha string, size int64, err error) {
	sha = t.sum()
	p, err := t.s.Path(sha)
	if err != nil {
		return "", 0, err
	}
	if err := t.publish(p); err != nil {
		return "", 0, fmt.Errorf("write cache entry: %w", err)
	}
	if i, err := os.Lstat(p); err == nil {
		t.s.remember(sha, i)
	}
	return sha, t.n, nil
}

func (t *temp) publish(p string) error {
	if err := t.f.Chmod(0o444); err != nil {
		return err
	}
	if err := t.f.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	return os.Rename(t.f.Name(), p)
}

// discard removes the file when commit has not renamed it.
func (t *temp) discard() {
	t.f.Close()
	os.Remove(t.f.Name())
}

// copyContext copies until EOF or until ctx ends.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	return io.Copy(w, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
