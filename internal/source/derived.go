package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Derived returns the digest of a result that was computed before from the
// inputs that key stands for. ok is false when there is none, when its record
// is damaged, or when the result itself is no longer in the cache.
//
// A key names everything that can change the result: the step, its revision
// and the digests of its inputs.
func (s *Store) Derived(key string) (sha string, ok bool) {
	b, err := os.ReadFile(s.derivedPath(key))
	if err != nil {
		return "", false
	}
	sha, sum, _ := strings.Cut(strings.TrimSuffix(string(b), "\n"), " ")
	if sum != bind(key, sha) || !s.Has(sha) {
		return "", false
	}
	return sha, true
}

// SetDerived records that key leads to the cache entry sha, which must exist.
func (s *Store) SetDerived(key, sha string) error {
	if !s.Has(sha) {
		return fmt.Errorf("record derived result %s: %w", sha, ErrNotCached)
	}
	p := s.derivedPath(key)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return fmt.Errorf("record derived result: %w", err)
	}
	return writeAtomic(p, []byte(sha+" "+bind(key, sha)+"\n"))
}

func (s *Store) derivedPath(key string) string {
	h := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(h[:])
	return filepath.Join(s.Dir, "derived", name[:2], name)
}

// bind makes a damaged or misplaced record recognisable.
func bind(key, sha string) string {
	h := sha256.Sum256([]byte(key + "\x00" + sha))
	return hex.EncodeToString(h[:8])
}

// writeAtomic replaces a file in one step, so that readers see old or new.
func writeAtomic(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
