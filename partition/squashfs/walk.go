package squashfs

import (
	"io/fs"
	"path"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// walker holds what one reading of the whole tree needs.
type walker struct {
	*FS
	tree   tree.Tree
	dirs   map[ref]bool   // directories that were entered
	linked map[ref]string // first path of each inode with several links
	xattrs map[uint32]map[string][]byte
	facts  map[string]InodeInfo
}

// InodeInfo is what an inode says beside its node.
type InodeInfo struct {
	Number uint32
	Time   int64 // modification time, seconds since 1970
	Start  int64 // of a file: offset of its first own data block; files in fragments only have none
	Stored int64 // bytes of its own data blocks as they are stored
}

// Inodes gives, after Tree, what the inodes say beside their nodes, by path.
func (f *FS) Inodes() map[string]InodeInfo { return f.facts }

// Tree reads all inodes and directories. The contents of files stay in the
// filesystem and are read when their blobs are opened, so its reader must
// outlive the tree. A directory that is entered twice, a path longer than 4095
// bytes and names out of proportion to the filesystem are a *FormatError;
// memory is bounded by a multiple of the filesystem's size.
//
// An inode with several names is a node for its first path and hard links for the others.
func (f *FS) Tree() (*tree.Tree, error) {
	w := &walker{FS: f, dirs: map[ref]bool{}, linked: map[ref]string{}, xattrs: map[uint32]map[string][]byte{}, facts: map[string]InodeInfo{}}
	saved := f.budget
	defer func() { f.budget = saved }()
	if err := w.enter(".", ref(f.sb.Root), typeDir); err != nil {
		return nil, err
	}
	f.facts = w.facts
	return &w.tree, nil
}

// enter adds the inode at r under a path, and what is below it.
func (w *walker) enter(name string, r ref, typ uint16) error {
	i, err := w.inode(r)
	if err != nil {
		return err
	}
	off := w.sb.InodeTable + r.block()
	if i.typ != typ {
		return bad(off, "inode_type", "%q: type %d, its directory says %d", name, i.typ, typ)
	}
	n, err := w.node(name, i)
	if err != nil {
		return err
	}
	if w.facts[name], err = w.fact(i); err != nil {
		return err
	}
	if first, ok := w.linked[r]; ok && typ != typeDir {
		n.Link, n.Content, n.Target, n.Xattrs = first, nil, "", nil
	} else if i.links > 1 {
		w.linked[r] = name
	}
	if w.tree.Get(name) != nil && name != "." {
		return bad(off, "directory", "%q is there twice", name)
	}
	if err := w.tree.Add(*n); err != nil {
		return bad(off, "directory", "%v", err)
	}
	if typ != typeDir {
		return nil
	}
	if w.dirs[r] {
		return bad(off, "directory", "%q was entered before", name)
	}
	w.dirs[r] = true
	return w.list(name, i)
}

func (w *walker) node(name string, i *rawInode) (*tree.Node, error) {
	off := w.sb.InodeTable + i.at.block()
	if int(i.head.UID) >= len(w.ids) || int(i.head.GID) >= len(w.ids) {
		return nil, bad(off, "uid", "%q: owner %d:%d of a table of %d", name, i.head.UID, i.head.GID, len(w.ids))
	}
	n := &tree.Node{Path: name, Mode: fileMode(i.typ, i.head.Mode), UID: w.ids[i.head.UID], GID: w.ids[i.head.GID], Target: i.target}
	switch i.typ {
	case typeBlock, typeChar:
		n.Major, n.Minor = decodeDevice(i.device)
	case typeFile:
		if i.size > 0 {
			n.Content = &blob{w.FS, i}
		}
	}
	if i.xattr == none {
		return n, nil
	}
	set, ok := w.xattrs[i.xattr]
	if !ok {
		var err error
		if set, err = w.readXattrs(i.xattr); err != nil {
			return nil, err
		}
		w.xattrs[i.xattr] = set
	}
	n.Xattrs = set
	return n, nil
}

func (w *walker) fact(i *rawInode) (InodeInfo, error) {
	info := InodeInfo{Number: i.head.Number, Time: int64(i.head.Time)}
	if i.typ != typeFile {
		return info, nil
	}
	blocks := i.size / uint64(w.sb.BlockSize)
	if i.fragment == none && i.size%uint64(w.sb.BlockSize) != 0 {
		blocks++
	}
	// The list of a huge file of holes is out of proportion to what it tells.
	if blocks == 0 || blocks > uint64(max(w.budget, 0))/4 {
		return info, nil
	}
	w.budget -= 4 * int64(blocks)
	for sizes := i.blocks; blocks > 0; blocks-- {
		var word uint32
		if err := sizes.decode(&word); err != nil {
			return info, err
		}
		info.Stored += int64(word &^ dataPlain)
	}
	if info.Stored > 0 {
		info.Start = int64(i.start)
	}
	return info, nil
}

func fileMode(typ, perm uint16) fs.FileMode {
	m := fs.FileMode(perm & 0o777)
	for i, bit := range []fs.FileMode{fs.ModeSticky, fs.ModeSetgid, fs.ModeSetuid} {
		if perm&(0o1000<<i) != 0 {
			m |= bit
		}
	}
	return m | map[uint16]fs.FileMode{
		typeDir: fs.ModeDir, typeSymlink: fs.ModeSymlink, typeBlock: fs.ModeDevice, typeChar: fs.ModeDevice | fs.ModeCharDevice,
		typeFifo: fs.ModeNamedPipe, typeSocket: fs.ModeSocket,
	}[typ]
}

// list reads the entries of a directory.
func (w *walker) list(name string, i *rawInode) error {
	c := w.cursor(w.sb.DirTable, i.listing, "directory")
	left := int64(i.size) - 3 // "." and ".." count as three bytes
	for left > 0 {
		var h dirHeader
		if err := c.decode(&h); err != nil {
			return err
		}
		if h.Count >= maxRun {
			return bad(c.at, "directory header", "%q: %d entries, a run ends at %d", name, int64(h.Count)+1, maxRun)
		}
		left -= 12
		for range h.Count + 1 {
			n, err := w.entry(name, c, h)
			if err != nil {
				return err
			}
			left -= n
		}
	}
	if left < 0 {
		return bad(c.at, "directory", "%q: its entries are %d bytes longer than it says", name, -left)
	}
	return nil
}

func (w *walker) entry(dir string, c *cursor, h dirHeader) (int64, error) {
	var e dirEntry
	if err := c.decode(&e); err != nil {
		return 0, err
	}
	size := int(e.NameSize) + 1
	if size > 256 {
		return 0, bad(c.at, "directory entry", "%q: a name of %d bytes", dir, size)
	}
	base, err := c.text(size)
	if err != nil {
		return 0, err
	}
	name := path.Join(dir, base)
	switch {
	case base == "." || base == ".." || strings.ContainsAny(base, "/\x00"):
		return 0, bad(c.at, "directory entry", "%q in %q is no file name", base, dir)
	case len(name) > maxPath:
		return 0, bad(c.at, "directory entry", "a path of %d bytes", len(name))
	case e.Type < typeDir || e.Type > typeSocket:
		return 0, bad(c.at, "directory entry", "%q: type %d", name, e.Type)
	}
	w.budget -= int64(len(name)) // the path is kept too
	return int64(8 + size), w.enter(name, makeRef(uint64(h.Block), int(e.Offset)), e.Type)
}
