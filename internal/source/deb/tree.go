package deb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ingot-os/ingot/internal/source/tarball"
	"github.com/ingot-os/ingot/partition/tree"
)

// Tree returns what a package holds below any of the prefixes (no prefix:
// everything). The contents lie decompressed in an unlinked temporary file;
// cleanup closes it and must be called after the last read, not before.
func Tree(path string, prefixes ...string) (t *tree.Tree, cleanup func(), err error) {
	spool, err := os.CreateTemp("", "ingot-deb-")
	if err != nil {
		return nil, func() {}, err
	}
	os.Remove(spool.Name())
	files := &tarball.FS{}
	var off int64
	err = Walk(path, func(n *tree.Node, r io.Reader) error {
		if !below(n.Path, prefixes) {
			return nil
		}
		if n.Mode.IsRegular() && n.Link == "" {
			size, err := io.Copy(spool, r)
			if err != nil {
				return err
			}
			n.Content = tree.Section{R: spool, Off: off, N: size}
			off += size
		}
		return files.Put(*n)
	})
	if err == nil {
		t, err = files.Tree()
	}
	if err != nil {
		spool.Close()
		return nil, func() {}, err
	}
	return t, func() { spool.Close() }, nil
}

func below(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return len(prefixes) == 0
}

// Extract writes one regular file of a package to w.
func Extract(path, name string, w io.Writer) error {
	found := false
	err := Walk(path, func(n *tree.Node, r io.Reader) error {
		if n.Path != name {
			return nil
		}
		if !n.Mode.IsRegular() || n.Link != "" {
			return fmt.Errorf("%s is not a regular file", name)
		}
		found = true
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		return fs.SkipAll
	})
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("read deb: %s: %w", name, errNoFile)
	}
	return nil
}

var errNoFile = errors.New("not in the package")
