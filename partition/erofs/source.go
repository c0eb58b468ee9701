package erofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	lib "github.com/erofs/go-erofs"

	"github.com/ingot-os/ingot/partition/tree"
)

// source shows a checked tree to the library as a read-only file system.
type source struct {
	nodes    map[string]*node
	children map[string][]fs.DirEntry
}

// node is a file that the library sees. It is its own FileInfo and DirEntry.
type node struct {
	*tree.Node
	name string
	stat *lib.Stat
}

func newSource(t *tree.Tree, o Options) (*source, error) {
	s := &source{nodes: map[string]*node{}, children: map[string][]fs.DirEntry{}}
	if err := s.add(&tree.Node{Path: ".", Mode: fs.ModeDir | 0o755}, o); err != nil {
		return nil, err
	}
	for _, n := range t.Nodes() {
		content := n
		if n.Link != "" {
			var err error
			if content, err = linked(t, n, o); err != nil {
				return nil, fmt.Errorf("%q: %w", n.Path, err)
			}
		}
		if err := check(content); err != nil {
			return nil, fmt.Errorf("%q: %w", n.Path, err)
		}
		same := *content
		same.Path = n.Path
		if err := s.add(&same, o); err != nil {
			return nil, fmt.Errorf("%q: %w", n.Path, err)
		}
	}
	return s, nil
}

// linked returns the node that a hard link stands for.
func linked(t *tree.Tree, n *tree.Node, o Options) (*tree.Node, error) {
	if !o.CopyLinks {
		return nil, fmt.Errorf("a hard link to %q, which go-erofs would store as a copy: use squashfs or accept copies", n.Link)
	}
	for range 16 {
		to := t.Get(n.Link)
		switch {
		case to == nil:
			return nil, fmt.Errorf("hard link to %q, which is not there", n.Link)
		case to.Mode.IsDir():
			return nil, fmt.Errorf("hard link to the directory %q", n.Link)
		case to.Link == "":
			return to, nil
		}
		n = to
	}
	return nil, fmt.Errorf("hard link to %q, which leads nowhere", n.Link)
}

func (s *source) add(n *tree.Node, o Options) error {
	dev, err := device(n)
	if err != nil {
		return err
	}
	e := &node{n, path.Base(n.Path), &lib.Stat{
		Mode: n.Mode, Size: n.Size(), UID: n.UID, GID: n.GID, Mtime: uint64(o.Epoch), Rdev: dev, Xattrs: attributes(n),
	}}
	s.nodes[n.Path] = e
	if n.Mode.IsDir() {
		e.stat.Nlink = 2
	}
	if n.Path == "." {
		return nil
	}
	dir := path.Dir(n.Path)
	s.children[dir] = append(s.children[dir], e)
	if n.Mode.IsDir() {
		s.nodes[dir].stat.Nlink++
	}
	return nil
}

func attributes(n *tree.Node) map[string]string {
	if len(n.Xattrs) == 0 {
		return nil
	}
	out := make(map[string]string, len(n.Xattrs))
	for k, v := range n.Xattrs {
		out[k] = string(v)
	}
	return out
}

// device is the kernel's new_encode_dev.
func device(n *tree.Node) (uint32, error) {
	if n.Mode&fs.ModeDevice == 0 {
		return 0, nil
	}
	if n.Major >= 1<<12 || n.Minor >= 1<<20 {
		return 0, fmt.Errorf("device %d:%d: numbers end at 4095:1048575", n.Major, n.Minor)
	}
	return n.Minor&0xFF | n.Major<<8 | n.Minor&^0xFF<<12, nil
}

func (n *node) Name() string               { return n.name }
func (n *node) Size() int64                { return n.stat.Size }
func (n *node) Mode() fs.FileMode          { return n.Node.Mode }
func (n *node) ModTime() time.Time         { return time.Unix(int64(n.stat.Mtime), 0) }
func (n *node) IsDir() bool                { return n.Node.Mode.IsDir() }
func (n *node) Sys() any                   { return n.stat }
func (n *node) Type() fs.FileMode          { return n.Node.Mode.Type() }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }

func (s *source) get(name string) (*node, error) {
	if n := s.nodes[name]; n != nil {
		return n, nil
	}
	return nil, fs.ErrNotExist
}

// Stat implements fs.StatFS.
func (s *source) Stat(name string) (fs.FileInfo, error) { return s.get(name) }

// ReadDir implements fs.ReadDirFS.
func (s *source) ReadDir(name string) ([]fs.DirEntry, error) { return s.children[name], nil }

// ReadLink gives the target of a symbolic link.
func (s *source) ReadLink(name string) (string, error) {
	n, err := s.get(name)
	if err != nil {
		return "", err
	}
	return n.Target, nil
}

// Open implements fs.FS. The library opens all files before it reads the
// first, so the content is opened with the first read.
func (s *source) Open(name string) (fs.File, error) {
	n, err := s.get(name)
	if err != nil {
		return nil, err
	}
	return &content{node: n}, nil
}

// content reads a file and insists on the size that the tree gave.
type content struct {
	*node
	r    io.ReadCloser
	done int64
}

// Stat implements fs.File.
func (c *content) Stat() (fs.FileInfo, error) { return c.node, nil }

// Read implements fs.File.
func (c *content) Read(p []byte) (int, error) {
	if c.r == nil {
		var err error
		if c.r, err = c.Node.Open(); err != nil {
			return 0, err
		}
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	want := c.Node.Size()
	switch {
	case c.done > want:
		return 0, fmt.Errorf("read %q: more than the %d bytes it said", c.Path, want)
	case errors.Is(err, io.EOF) && c.done < want:
		return n, fmt.Errorf("read %q: %d bytes, it said %d: %w", c.Path, c.done, want, io.ErrUnexpectedEOF)
	case c.done == want && err == nil:
		return n, c.end()
	}
	return n, err
}

// end makes sure that nothing follows; the library would not look.
func (c *content) end() error {
	var more [1]byte
	n, err := io.ReadFull(c.r, more[:])
	if n > 0 {
		return fmt.Errorf("read %q: more than the %d bytes it said", c.Path, c.Node.Size())
	}
	if errors.Is(err, io.EOF) {
		return nil // the caller sees EOF with its next read
	}
	return err
}

// Close implements fs.File.
func (c *content) Close() error {
	if c.r == nil {
		return nil
	}
	return c.r.Close()
}
