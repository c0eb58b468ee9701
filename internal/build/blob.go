package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/partition/tree"
)

// newFileBlob makes the content of an open file a Blob; the file stays open
// until the build ends, so a cache cleaned meanwhile cannot change it.
func newFileBlob(f *os.File) (tree.Blob, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return tree.Section{R: f, N: info.Size()}, nil
}

func blobDigest(b tree.Blob) (string, error) {
	r, err := b.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// localBlob is a file that is opened when it is read.
type localBlob struct {
	path string
	size int64
}

func (l localBlob) Size() int64                  { return l.size }
func (l localBlob) Open() (io.ReadCloser, error) { return os.Open(l.path) }

// dirTree reads a local directory whose files the lock has listed. Owners are
// root; modes are 0755 for what its owner may execute and 0644 otherwise, so
// the umask of a checkout never reaches the image.
func dirTree(dir string, in lock.Input) (*tree.Tree, error) {
	t := new(tree.Tree)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		n, err := localNode(path, d)
		if err != nil {
			return err
		}
		n.Path = filepath.ToSlash(rel)
		return t.Add(n)
	})
	if err != nil {
		return nil, fmt.Errorf("read directory %s: %w", in.Name, err)
	}
	return t, nil
}

func localNode(path string, d fs.DirEntry) (tree.Node, error) {
	info, err := d.Info()
	if err != nil {
		return tree.Node{}, err
	}
	perm := fs.FileMode(0o644)
	if info.Mode()&0o100 != 0 {
		perm = 0o755
	}
	switch {
	case d.IsDir():
		return tree.Node{Mode: fs.ModeDir | 0o755}, nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return tree.Node{Mode: fs.ModeSymlink | 0o777, Target: target}, err
	case info.Mode().IsRegular():
		return tree.Node{Mode: perm, Content: localBlob{path, info.Size()}}, nil
	}
	return tree.Node{}, fmt.Errorf("%s: neither file, directory nor link", path)
}
