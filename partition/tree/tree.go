// Package tree is the shared language of all filesystem and archive writers:
// a sorted set of named nodes whose contents can be opened again and again.
//
// A Tree carries no times. Every writer takes one epoch for all nodes, so the
// same tree gives the same bytes (docs: promise 1). Paths are slash separated,
// relative and clean: "bin/hello", never "/bin/hello" or "bin/../x". The root
// directory itself is the path "." and always exists with mode 0755, owner 0:0.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Blob is file content of a size known before it is read.
type Blob interface {
	// Size returns the number of bytes that Open's reader gives.
	Size() int64
	// Open starts a new independent read from the first byte.
	Open() (io.ReadCloser, error)
}

// Node is one entry of a Tree.
type Node struct {
	Path string // relative and clean; see the package comment
	// Mode holds the type bits of io/fs and the permission bits including
	// ModeSetuid, ModeSetgid and ModeSticky.
	Mode         fs.FileMode
	UID, GID     uint32
	Content      Blob   // regular files; nil means empty
	Target       string // symbolic links
	Link         string // path of the node that this one is a hard link to; Content is then nil
	Major, Minor uint32 // device nodes
	Xattrs       map[string][]byte
	// Origin says which input a file came from, for inventories. No format
	// stores it.
	Origin string
}

// Size returns the content length in bytes: the blob of a file, the target of a symlink, else 0.
func (n *Node) Size() int64 {
	switch {
	case n.Mode&fs.ModeSymlink != 0:
		return int64(len(n.Target))
	case n.Mode.IsRegular() && n.Content != nil:
		return n.Content.Size()
	}
	return 0
}

// Open reads the content of a regular file; an empty reader when there is none.
func (n *Node) Open() (io.ReadCloser, error) {
	if n.Content == nil {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return n.Content.Open()
}

// Tree is a set of nodes with unique paths. The zero value is an empty tree.
type Tree struct {
	nodes map[string]*Node
}

// ErrExists is returned by Add for a path that is already taken by a non-directory.
var ErrExists = errors.New("path already in tree")

// Add puts a node into the tree and creates missing parent directories with
// mode 0755, owner 0:0. A directory may be added again to change its mode and
// owner; any other second use of a path is ErrExists.
func (t *Tree) Add(n Node) error {
	if err := checkPath(n.Path); err != nil {
		return err
	}
	if t.nodes == nil {
		t.nodes = map[string]*Node{}
	}
	if n.Path == "." && !n.Mode.IsDir() {
		return fmt.Errorf("add %q: the root is a directory", n.Path)
	}
	if old, ok := t.nodes[n.Path]; ok && !(old.Mode.IsDir() && n.Mode.IsDir()) {
		return fmt.Errorf("add %q: %w", n.Path, ErrExists)
	}
	if err := t.addParents(n.Path); err != nil {
		return err
	}
	t.nodes[n.Path] = &n
	return nil
}

func (t *Tree) addParents(p string) error {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		old, ok := t.nodes[dir]
		if ok && !old.Mode.IsDir() {
			return fmt.Errorf("add %q: %q is not a directory", p, dir)
		}
		if !ok {
			t.nodes[dir] = &Node{Path: dir, Mode: fs.ModeDir | 0o755}
		}
		if dir == "." {
			return nil
		}
	}
}

func checkPath(p string) error {
	if p == "" || p != path.Clean(p) || path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) {
		return fmt.Errorf("add %q: not a relative clean path", p)
	}
	return nil
}

// Get returns the node at a path, or nil.
func (t *Tree) Get(p string) *Node { return t.nodes[p] }

// Len returns the number of nodes.
func (t *Tree) Len() int { return len(t.nodes) }

// Nodes returns all nodes in byte order of their paths compared component by
// component, so a directory always comes before what it holds.
func (t *Tree) Nodes() []*Node {
	out := make([]*Node, 0, len(t.nodes))
	for _, n := range t.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *Node) int { return comparePaths(a.Path, b.Path) })
	return out
}

func comparePaths(a, b string) int {
	if a == b {
		return 0
	}
	if a == "." {
		return -1
	}
	if b == "." {
		return 1
	}
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// Merge adds every node of o.
func (t *Tree) Merge(o *Tree) error {
	for _, n := range o.Nodes() {
		if n.Path == "." {
			continue
		}
		if err := t.Add(*n); err != nil {
			return err
		}
	}
	return nil
}
