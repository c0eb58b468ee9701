package local

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// Tree turns a directory into a tree under the rules of the package comment.
// files is what HashDir gave or the lock holds; only its entries are used.
// Reading a file whose bytes are not the listed ones ends in an error, so a
// file that changes during a build cannot enter the image.
func Tree(dir string, files map[string]string) (*tree.Tree, error) {
	t := &tree.Tree{}
	for path, value := range files {
		n, err := node(dir, path, value)
		if err != nil {
			return nil, fmt.Errorf("read directory %s: %w", dir, err)
		}
		if err := t.Add(n); err != nil {
			return nil, fmt.Errorf("read directory %s: %w", dir, err)
		}
	}
	return t, nil
}

func node(dir, path, value string) (tree.Node, error) {
	if target, ok := strings.CutPrefix(value, "-> "); ok {
		return tree.Node{Path: path, Mode: fs.ModeSymlink | 0o777, Target: target}, nil
	}
	kind, octal, _ := strings.Cut(value, " ")
	if kind == "dir" {
		mode, err := parseMode(octal, 0o755)
		return tree.Node{Path: path, Mode: fs.ModeDir | mode}, err
	}
	mode, err := parseMode(octal, 0o644)
	if err != nil {
		return tree.Node{}, err
	}
	f, err := File(filepath.Join(dir, filepath.FromSlash(path)), kind)
	return tree.Node{Path: path, Mode: mode, Content: f}, err
}

func parseMode(octal string, usual fs.FileMode) (fs.FileMode, error) {
	if octal == "" {
		return usual, nil
	}
	v, err := strconv.ParseUint(octal, 8, 12)
	if err != nil {
		return 0, fmt.Errorf("mode %q: %w", octal, err)
	}
	m := fs.FileMode(v & 0o777)
	for _, b := range []struct {
		bit  uint64
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if v&b.bit != 0 {
			m |= b.mode
		}
	}
	return m, nil
}

// File returns a local file as a blob that gives an error instead of its end
// when its bytes do not have the SHA-256 sha (hex).
func File(path, sha string) (tree.Blob, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	return checkedFile{path, sha, info.Size()}, nil
}

type checkedFile struct {
	path, sha string
	size      int64
}

func (c checkedFile) Size() int64 { return c.size }

func (c checkedFile) Open() (io.ReadCloser, error) {
	f, err := os.Open(c.path)
	if err != nil {
		return nil, err
	}
	return &checkedReader{f: f, c: c, h: sha256.New()}, nil
}

type checkedReader struct {
	f    *os.File
	c    checkedFile
	h    hash.Hash
	done int64
}

// Read compares with the last byte, not at the end of the file: a writer that
// knows the size never asks for the end. The last bytes are withheld, because
// io.ReadFull drops an error that comes with them.
func (r *checkedReader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.h.Write(p[:n])
	r.done += int64(n)
	if r.done >= r.c.size || err == io.EOF {
		if got := hex.EncodeToString(r.h.Sum(nil)); got != r.c.sha {
			return 0, fmt.Errorf("read %s: changed during the build: expected sha256 %s, got %s", r.c.path, r.c.sha, got)
		}
	}
	return n, err
}

func (r *checkedReader) Close() error { return r.f.Close() }
