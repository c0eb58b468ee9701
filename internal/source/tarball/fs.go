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
	root *inode
	made int
}

// inode is what all names of a file have in common; its Path and Link are unused.
type inode struct {
	tree.Node
	children map[string]*inode // directories
}

// maxHops bounds symbolic links in one path, like the kernel's ELOOP.
const maxHops = 40

// Put adds an entry. Symbolic links in its parent are followed inside the tree,
// as container layers expect (a layer may say bin/x where bin is a link to
// usr/bin); the last element is never followed. Missing parents are made.
func (f *FS) Put(n tree.Node) error {
	dir, err := f.parent(n.Path, true)
	if err != nil {
		return err
	}
	ino := &inode{Node: n}
	if n.Link != "" {
		if ino, err = f.linkTarget(n); err != nil {
			return err
		}
	}
	base := path.Base(n.Path)
	if base == "." {
		return f.putRoot(ino)
	}
	if old := dir.children[base]; old != nil && old.Mode.IsDir() && ino.Mode.IsDir() {
		ino.children = old.children // a directory over a directory keeps what it holds
	}
	return f.add(dir, base, ino)
}

func (f *FS) putRoot(ino *inode) error {
	if !ino.Mode.IsDir() {
		return &EntryError{".", "the root is a directory"}
	}
	ino.children = f.top().children
	f.root = ino
	return nil
}

func (f *FS) linkTarget(n tree.Node) (*inode, error) {
	dir, err := f.parent(n.Link, false)
	if err == nil {
		if ino := dir.children[path.Base(n.Link)]; ino != nil && !ino.Mode.IsDir() {
			return ino, nil
		}
	}
	return nil, &EntryError{n.Path, fmt.Sprintf("hard link to %q, which is no file before it", n.Link)}
}

func (f *FS) add(dir *inode, base string, ino *inode) error {
	if f.made++; f.made > MaxEntries {
		return &EntryError{base, fmt.Sprintf("more than %d entries", MaxEntries)}
	}
	if dir.children == nil {
		dir.children = map[string]*inode{}
	}
	dir.children[base] = ino
	return nil
}

func (f *FS) top() *inode {
	if f.root == nil {
		f.root = newDir()
	}
	return f.root
}

func newDir() *inode { return &inode{Node: tree.Node{Mode: fs.ModeDir | 0o755}} }

// step is one directory on the way from the root.
type step struct {
	dir    *inode
	length int // of the path so far, in bytes
}

// parent finds the directory that a path's last element is in. A missing
// directory is made, or is an error.
func (f *FS) parent(name string, create bool) (*inode, error) {
	stack := []step{{dir: f.top()}} // ".." never leads above the first
	todo := strings.Split(path.Dir(name), "/")
	for hops := 0; len(todo) > 0; {
		e := todo[0]
		todo = todo[1:]
		at := stack[len(stack)-1]
		if e == "" || e == "." {
			continue
		}
		if e == ".." {
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		next, err := f.child(at.dir, e, create)
		switch {
		case err != nil:
			return nil, &EntryError{name, err.Error()}
		case next.Mode.IsDir():
			stack = append(stack, step{next, at.length + len(e) + 1})
		case next.Mode&fs.ModeSymlink != 0:
			if hops++; hops > maxHops {
				return nil, &EntryError{name, "too many levels of symbolic links"}
			}
			if path.IsAbs(next.Target) {
				stack = stack[:1]
			}
			todo = append(strings.Split(next.Target, "/"), todo...)
		default:
			return nil, &EntryError{name, fmt.Sprintf("%q is not a directory", e)}
		}
	}
	last := stack[len(stack)-1]
	if last.length > MaxName {
		return nil, &EntryError{name, "path too long behind its symbolic links"}
	}
	return last.dir, nil
}

func (f *FS) child(dir *inode, name string, create bool) (*inode, error) {
	if next := dir.children[name]; next != nil {
		return next, nil
	}
	if !create {
		return nil, fmt.Errorf("directory %q does not exist", name)
	}
	next := newDir()
	return next, f.add(dir, name, next)
}

// Remove removes a name and what is below it; one that is not there is no error.
func (f *FS) Remove(name string) {
	if dir, err := f.parent(name, false); err == nil {
		delete(dir.children, path.Base(name))
	}
}

// Clear removes what is below a directory and leaves the directory.
func (f *FS) Clear(name string) {
	if name == "." {
		f.top().children = nil
		return
	}
	if dir, err := f.parent(name, false); err == nil {
		if d := dir.children[path.Base(name)]; d != nil {
			d.children = nil
		}
	}
}

// Tree returns the result. Of names that share a file the first in the order of
// tree.Tree carries the content; the others are links to it.
func (f *FS) Tree() (*tree.Tree, error) {
	t := &tree.Tree{}
	first := map[*inode]string{}
	return t, f.top().addTo(t, ".", first)
}

func (i *inode) addTo(t *tree.Tree, name string, first map[*inode]string) error {
	n := i.Node
	n.Path, n.Link = name, ""
	if other, shared := first[i]; shared {
		n.Link, n.Content = other, nil
	} else if n.Mode.IsRegular() { // a second link to a symbolic link or a device is a copy
		first[i] = name
	}
	if err := t.Add(n); err != nil {
		return err
	}
	for _, base := range slices.Sorted(maps.Keys(i.children)) {
		if err := i.children[base].addTo(t, path.Join(name, base), first); err != nil {
			return err
		}
	}
	return nil
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
