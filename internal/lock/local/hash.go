// Package local reads inputs that lie beside the recipe: files, directory
// trees and tar archives.
//
// A directory is described by one string per entry, keyed by the path below it:
//
//	"<sha256>"         a regular file that nobody may execute
//	"<sha256> 0755"    a regular file with any execute bit; set-id and sticky bits are kept: 4755
//	"-> target"        a symbolic link, never followed
//	"dir"              an empty directory ("dir 1777" with special bits)
//
// This is all that enters an image: the owner of every entry is 0:0, modes are
// 0644 or 0755, times come from the epoch. So neither umask nor user nor a
// checkout changes a digest. Trees that need exact modes and owners are given
// as a tar archive or an OCI image. Devices, sockets and pipes are refused.
package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// MaxEntries bounds the number of entries of a directory tree.
const MaxEntries = 1 << 20

// HashFile returns the SHA-256 in hex and the size in bytes of a regular file.
func HashFile(path string) (sha string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	if !info.Mode().IsRegular() {
		return "", 0, fmt.Errorf("hash %s: not a regular file", path)
	}
	h := sha256.New()
	size, err = io.Copy(h, f)
	if err != nil {
		return "", 0, fmt.Errorf("hash %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// HashDir describes every entry below dir and returns the digest of the list
// as ListDigest computes it.
func HashDir(dir string) (files map[string]string, sha string, err error) {
	files, err = describe(dir)
	if err != nil {
		return nil, "", err
	}
	return files, ListDigest(files), nil
}

// ListDigest is the SHA-256 in hex of the lines "value  path\n", sorted by path.
func ListDigest(files map[string]string) string {
	paths := make([]string, 0, len(files))
	for p := range files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	h := sha256.New()
	for _, p := range paths {
		fmt.Fprintf(h, "%s  %s\n", files[p], p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// describe walks first and hashes then, on all processors.
func describe(dir string) (map[string]string, error) {
	files := map[string]string{}
	var regular []string
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("read %s: not a directory", dir)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		value, err := describeEntry(path, d)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if err := checkName(rel); err != nil {
			return err
		}
		if len(files) >= MaxEntries {
			return fmt.Errorf("read %s: more than %d entries", dir, MaxEntries)
		}
		files[rel] = value
		if d.Type().IsRegular() {
			regular = append(regular, rel)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := hashAll(dir, files, regular); err != nil {
		return nil, err
	}
	dropFullDirs(files)
	return files, nil
}

// checkName keeps the lines of ListDigest unambiguous.
func checkName(rel string) error {
	if strings.ContainsAny(rel, "\n\x00") {
		return fmt.Errorf("read directory: name %q has a line break", rel)
	}
	return nil
}

// describeEntry gives the value of an entry, for files without the digest.
func describeEntry(path string, d fs.DirEntry) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	switch {
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err == nil && strings.ContainsAny(target, "\n\x00") {
			err = fmt.Errorf("read link %s: target has a line break", path)
		}
		return "-> " + target, err
	case d.IsDir():
		return strings.TrimSuffix("dir "+modeText(info.Mode(), 0o755), " "), nil
	case d.Type().IsRegular():
		return modeText(info.Mode(), 0o644), nil
	}
	return "", fmt.Errorf("read %s: neither file, directory nor symbolic link", path)
}

// modeText is the normalised mode in octal, "" when it is usual.
func modeText(m fs.FileMode, usual uint32) string {
	bits := uint32(0o644)
	if m.IsDir() || m.Perm()&0o111 != 0 {
		bits = 0o755
	}
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 && !m.IsDir() {
		bits |= 0o2000 // on a directory it is inherited from the host's parent, so it says nothing
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	if bits == usual {
		return ""
	}
	return fmt.Sprintf("%04o", bits)
}

// ModeText is the normalised mode of a regular file in octal, "" for 0644.
func ModeText(m fs.FileMode) string { return modeText(m, 0o644) }

func hashAll(dir string, files map[string]string, regular []string) error {
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, rel := range regular {
		g.Go(func() error {
			sha, _, err := HashFile(filepath.Join(dir, filepath.FromSlash(rel)))
			mu.Lock()
			defer mu.Unlock()
			files[rel] = strings.TrimSuffix(sha+" "+files[rel], " ")
			return err
		})
	}
	return g.Wait()
}

// dropFullDirs removes plain directories that their content implies.
func dropFullDirs(files map[string]string) {
	full := map[string]bool{}
	for p := range files {
		if i := strings.LastIndexByte(p, '/'); i >= 0 {
			full[p[:i]] = true
		}
	}
	for p, v := range files {
		if v == "dir" && full[p] {
			delete(files, p)
		}
	}
}

// Mismatch is one difference between what is locked and what is there.
type Mismatch struct {
	Path      string
	Want, Got string // as described in the package comment; "nothing" for a missing entry
}

// Nothing stands for an entry that is not there, in a Mismatch.
const Nothing = "nothing"

// Compare returns where a directory differs from files, sorted by path. With
// all, entries that files does not list count too; without, they are ignored.
func Compare(dir string, files map[string]string, all bool) []Mismatch {
	got := map[string]string{}
	if all {
		found, err := describe(dir)
		if err != nil {
			return []Mismatch{{Path: ".", Want: fmt.Sprintf("a directory of %d entries", len(files)), Got: err.Error()}}
		}
		got = found
	} else {
		for p := range files {
			got[p] = hashListed(filepath.Join(dir, filepath.FromSlash(p)))
		}
	}
	var list []Mismatch
	for p, want := range files {
		if g, ok := got[p]; !ok {
			list = append(list, Mismatch{p, want, Nothing})
		} else if g != want {
			list = append(list, Mismatch{p, want, g})
		}
	}
	for p, g := range got {
		if _, ok := files[p]; !ok {
			list = append(list, Mismatch{p, Nothing, g})
		}
	}
	slices.SortFunc(list, func(a, b Mismatch) int { return strings.Compare(a.Path, b.Path) })
	return list
}

func hashListed(path string) string {
	sha, _, err := HashFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Nothing
	case err != nil:
		return err.Error()
	}
	return sha
}
