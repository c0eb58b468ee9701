package tarball

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// FS is a tree under construction, in which a later entry replaces an earlier
// one as unpacking on a disk would. The zero value is empty.
//
// Hard links share one inode, so a link keeps its content when the name it was
// made from is replaced or removed.
type FS struct {
	nodes map[string]*inode
}

// inode is what all names of one file have in common; Path and Link are unused.
type inode struct {
	tree.Node
}

// maxHops bounds symbolic links in one path, like the kernel's ELOOP.
const maxHops = 40

// Put adds an entry. The parent's symbolic links are followed inside the tree,
// as container layers expect (a layer may say bin/x where bin is a link to
// usr/bin); the last element is never followed. Missing parents are made.
func (f *FS) Put(n tree.Node) error {
	if f.nodes == nil {
		f.nodes = map[string]*inode{}
	}
	name, err := f.resolve(n.Path, true)
	if err != nil {
		return err
	}
	ino := &inode{n}
	if n.Link != "" {
		target, err := f.resolve(n.Link, true)
		if err != nil {
			return err
		}
		if ino = f.nodes[target]; ino == nil || ino.Mode.IsDir() {
			return &EntryError{n.Path, fmt.Sprintf("hard link to %q, which is no file before it", n.Link)}
		}
		if target == name {
			return nil
		}
	}
	return f.set(name, ino)
}

// set replaces what has the name, except that a directory keeps its content
// when a directory comes over it.
func (f *FS) set(name string, ino *inode) error {
	if name == "." && !ino.Mode.IsDir() {
		return &EntryError{name, "the root is a directory"}
	}
	if old := f.nodes[name]; old != nil && old.Mode.IsDir() && !ino.Mode.IsDir() {
		f.Remove(name)
	}
	if len(f.nodes) >= MaxEntries {
		return &EntryError{name, fmt.Sprintf("more than %d entries", MaxEntries)}
	}
	f.nodes[name] = ino
	return nil
}

// resolve follows the links of a path's parent; a missing directory is made or
// an error.
func (f *FS) resolve(name string, make bool) (string, error) {
	todo := strings.Split(path.Dir(name), "/")
	at, hops := ".", 0
	for len(todo) > 0 {
		e := todo[0]
		todo = todo[1:]
		switch e {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, e)
		n := f.nodes[next]
		switch {
		case n == nil && !make:
			return "", &EntryError{name, fmt.Sprintf("%q does not exist", next)}
		case n == nil:
			f.nodes[next] = &inode{tree.Node{Mode: fs.ModeDir | 0o755}}
			at = next
		case n.Mode.IsDir():
			at = next
		case n.Mode&fs.ModeSymlink != 0:
			if hops++; hops > maxHops {
				return "", &EntryError{name, "too many levels of symbolic links"}
			}
			if path.IsAbs(n.Target) {
				at = "."
			}
			todo = append(strings.Split(n.Target, "/"), todo...)
		default:
			return "", &EntryError{name, fmt.Sprintf("%q is not a directory", next)}
		}
	}
	return path.Join(at, path.Base(name)), nil
}

// Remove removes a name and what is below it. Links in its parent are followed.
func (f *FS) Remove(name string) {
	if f.nodes == nil {
		return
	}
	name, err := f.resolve(name, false)
	if err != nil {
		return
	}
	if n := f.nodes[name]; n != nil && n.Mode.IsDir() {
		f.Clear(name)
	}
	delete(f.nodes, name)
}

// Clear removes what is below a directory and leaves the directory.
func (f *FS) Clear(dir string) {
	for p := range f.nodes {
		if strings.HasPrefix(p, dir+"/") || dir == "." && p != "." {
			delete(f.nodes, p)
		}
	}
}

// Tree returns the result. Of names that share a file the first in byte order
// carries the content; the others are links to it.
func (f *FS) Tree() (*tree.Tree, error) {
	t := &tree.Tree{}
	first := map[*inode]string{}
	for _, name := range slices.SortedFunc(maps.Keys(f.nodes), comparePaths) {
		ino := f.nodes[name]
		n := ino.Node
		n.Path, n.Link = name, ""
		if other, shared := first[ino]; shared {
			n.Link, n.Content = other, nil
		} else {
			first[ino] = name
		}
		if err := t.Add(n); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// comparePaths orders as tree.Tree does, component by component: the separator
// sorts before every other byte.
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		default:
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

// Index lists the entries of an uncompressed archive of size bytes in its
// order. The contents are sections of r, which must outlive them.
func Index(r io.ReaderAt, size int64, o Options) ([]tree.Node, error) {
	var list []tree.Node
	in := io.NewSectionReader(r, 0, size)
	err := walk(in, o, func(h *tar.Header, n *tree.Node, _ io.Reader) error {
		if n.Mode.IsRegular() && n.Link == "" {
			// archive/tar reads whole blocks and never ahead, so the reader stands
			// at the first byte of the content; TestIndexOffsets keeps watch.
			at, err := in.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			n.Content = tree.Section{R: r, Off: at, N: h.Size}
		}
		list = append(list, *n)
		return nil
	})
	return list, err
}

// Tree reads one whole uncompressed archive; see Index and FS.
func Tree(r io.ReaderAt, size int64, o Options) (*tree.Tree, error) {
	entries, err := Index(r, size, o)
	if err != nil {
		return nil, err
	}
	f := &FS{}
	for _, n := range entries {
		if err := f.Put(n); err != nil {
			return nil, err
		}
	}
	return f.Tree()
}
