package erofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	lib "github.com/erofs/go-erofs"

	"github.com/ingot-os/ingot/partition/tree"
)

type walker struct {
	*FS
	tree   tree.Tree
	dirs   map[int64]bool
	linked map[int64]string
}

func (w *walker) enter(name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*lib.Stat)
	if !ok {
		return bad(-1, "inode", "%q: no details", name)
	}
	n, err := w.node(name, info, st)
	if err != nil {
		return err
	}
	if w.tree.Get(name) != nil {
		return bad(-1, "directory", "%q is there twice", name)
	}
	w.inodes[name] = InodeInfo{st.Ino, int64(st.Mtime)}
	if err := w.tree.Add(*n); err != nil {
		return bad(-1, "directory", "%v", err)
	}
	if !n.Mode.IsDir() {
		return nil
	}
	if w.dirs[st.Ino] {
		return bad(-1, "directory", "%q was entered before", name)
	}
	w.dirs[st.Ino] = true
	return w.list(name)
}

func (w *walker) node(name string, info fs.FileInfo, st *lib.Stat) (*tree.Node, error) {
	// info.Mode has no setuid bit and foreign bits in version 0.3.1; st.Mode is right.
	n := &tree.Node{Path: name, Mode: st.Mode, UID: st.UID, GID: st.GID}
	if first, ok := w.linked[st.Ino]; ok && !n.Mode.IsDir() {
		n.Link = first
		return n, nil
	}
	if st.Nlink > 1 && !n.Mode.IsDir() {
		w.linked[st.Ino] = name
	}
	switch n.Mode.Type() {
	case 0:
		if info.Size() < 0 {
			return nil, bad(-1, "i_size", "%q: %d", name, info.Size())
		}
		if info.Size() > 0 {
			n.Content = &blob{w.img, name, info.Size()}
		}
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		n.Major, n.Minor = st.Rdev>>8&0xFFF, st.Rdev&0xFF|st.Rdev>>12&0xFFF00
	case fs.ModeSymlink:
		if info.Size() > maxTarget {
			return nil, bad(-1, "symlink", "%q: a target of %d bytes", name, info.Size())
		}
		links, ok := w.img.(interface{ ReadLink(string) (string, error) })
		if !ok {
			return nil, bad(-1, "symlink", "%q: cannot be read", name)
		}
		var err error
		if n.Target, err = links.ReadLink(name); err != nil {
			return nil, bad(-1, "symlink", "%q: %v", name, err)
		}
	}
	for k, v := range st.Xattrs {
		if n.Xattrs == nil {
			n.Xattrs = map[string][]byte{}
		}
		n.Xattrs[k] = []byte(v)
	}
	return n, nil
}

func (w *walker) list(name string) error {
	f, err := w.img.Open(name)
	if err != nil {
		return bad(-1, "directory", "%q: %v", name, err)
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return bad(-1, "directory", "%q: cannot be listed", name)
	}
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if err := w.entry(name, e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(entries) == 0 {
			return nil
		}
		if err != nil {
			return bad(-1, "directory", "%q: %v", name, err)
		}
	}
}

func (w *walker) entry(dir string, e fs.DirEntry) error {
	name := path.Join(dir, e.Name())
	if e.Name() == "" || e.Name() == "." || e.Name() == ".." || strings.ContainsAny(e.Name(), "/\x00") || len(name) > maxPath {
		return bad(-1, "directory", "%q in %q is no file name", e.Name(), dir)
	}
	if w.left--; w.left < 0 {
		return bad(-1, "directory", "more names than a filesystem of %d bytes can have", w.info.Size)
	}
	info, err := e.Info()
	if err != nil {
		return bad(-1, "inode", "%q: %v", name, err)
	}
	return w.enter(name, info)
}

// blob is the content of a file inside a filesystem.
type blob struct {
	img  fs.FS
	name string
	size int64
}

// Size implements tree.Blob.
func (b *blob) Size() int64 { return b.size }

// Open implements tree.Blob.
func (b *blob) Open() (r io.ReadCloser, err error) {
	err = guard(b.name, func() (err error) {
		r, err = b.img.Open(b.name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read erofs: %w", err)
	}
	return guarded{r, b.name}, nil
}

// guarded reads a file without a panic.
type guarded struct {
	io.ReadCloser
	name string
}

// Read implements io.Reader.
func (g guarded) Read(p []byte) (n int, err error) {
	gerr := guard(g.name, func() error {
		n, err = g.ReadCloser.Read(p)
		return nil
	})
	if gerr != nil {
		return 0, gerr
	}
	return n, err
}
