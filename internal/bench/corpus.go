package main

import (
	"context"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// goSources is a tree that every machine with this program has: the sources of
// the Go distribution, thousands of files, copied once so that both sides read
// the same directory.
func goSources(ctx context.Context, l *lab) (dir string, err error) {
	dir = filepath.Join(l.dir, "tree")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	return dir, os.CopyFS(dir, os.DirFS(filepath.Join(strings.TrimSpace(string(root)), "src")))
}

// treeOf is a directory as a tree; its files are opened when they are read.
func treeOf(dir string) (*tree.Tree, error) {
	t := new(tree.Tree)
	return t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		n := tree.Node{Path: filepath.ToSlash(rel), Mode: info.Mode()}
		if info.Mode().IsRegular() {
			n.Content = file{path, info.Size()}
		}
		return t.Add(n)
	})
}

// file is a file of the host as content.
type file struct {
	path string
	size int64
}

// Size implements tree.Blob.
func (f file) Size() int64 { return f.size }

// Open implements tree.Blob.
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.path) }

// noise writes a file that nothing compresses.
func noise(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(f, rand.New(rand.NewSource(1)), size)
	return err
}
