package squashfs

import (
	"math"
)

// rawInode is an inode of either form.
type rawInode struct {
	head    inodeHead
	typ     uint16 // basic
	at      ref
	size    uint64
	links   uint32
	xattr   uint32
	listing ref // of a directory
	target  string
	device  uint32

	start    uint64 // of a file: data, fragment, and where its list of blocks begins
	fragment uint32
	offset   uint32
	blocks   cursor
}

func (f *FS) inode(r ref) (*rawInode, error) {
	c := f.cursor(f.sb.InodeTable, r, "inode")
	i := &rawInode{at: r, xattr: none}
	if err := c.decode(&i.head); err != nil {
		return nil, err
	}
	extended := i.head.Type > typeExtended
	i.typ = i.head.Type
	if extended {
		i.typ -= typeExtended
	}
	var err error
	switch i.typ {
	case typeDir:
		err = i.readDir(c, extended)
	case typeFile:
		err = i.readFile(c, extended)
	case typeSymlink:
		err = i.readSymlink(c)
	case typeBlock, typeChar:
		var d deviceInode
		err = c.decode(&d)
		i.links, i.device = d.Links, d.Device
	case typeFifo, typeSocket:
		err = c.decode(&i.links)
	default:
		err = bad(c.at, "inode_type", "%d", i.head.Type)
	}
	if err == nil && extended && i.typ != typeDir && i.typ != typeFile {
		err = c.decode(&i.xattr)
	}
	return i, err
}

func (i *rawInode) readDir(c *cursor, extended bool) error {
	if extended {
		var d extDirInode
		err := c.decode(&d)
		i.size, i.xattr, i.listing = uint64(d.FileSize), d.Xattr, makeRef(uint64(d.Block), int(d.Offset))
		return err
	}
	var d dirInode
	err := c.decode(&d)
	i.size, i.listing = uint64(d.FileSize), makeRef(uint64(d.Block), int(d.Offset))
	return err
}

func (i *rawInode) readFile(c *cursor, extended bool) error {
	var d extFileInode
	if extended {
		if err := c.decode(&d); err != nil {
			return err
		}
	} else {
		var b fileInode
		if err := c.decode(&b); err != nil {
			return err
		}
		d = extFileInode{Start: uint64(b.Start), FileSize: uint64(b.FileSize), Links: 1, Fragment: b.Fragment, Offset: b.Offset, Xattr: none}
	}
	if d.FileSize > math.MaxInt64 {
		return bad(c.at, "file_size", "%d", d.FileSize)
	}
	i.start, i.size, i.links, i.fragment, i.offset, i.xattr = d.Start, d.FileSize, d.Links, d.Fragment, d.Offset, d.Xattr
	i.blocks = *c
	return nil
}

func (i *rawInode) readSymlink(c *cursor) (err error) {
	var s symlinkInode
	if err := c.decode(&s); err != nil {
		return err
	}
	if s.TargetSize == 0 || s.TargetSize > maxTarget {
		return bad(c.at, "symlink_size", "%d", s.TargetSize)
	}
	i.links = s.Links
	i.target, err = c.text(int(s.TargetSize))
	return err
}

// readXattrs reads the set of attributes with an index.
func (f *FS) readXattrs(index uint32) (map[string][]byte, error) {
	at := f.sb.XattrTable
	var raw [16]byte
	if at == absent {
		return nil, bad(56, "xattr_id_table_start", "an inode has attributes, the filesystem has none")
	}
	if err := f.readAt(raw[:], at, "xattr table"); err != nil {
		return nil, err
	}
	var head xattrHead
	unmarshal(raw[:], &head)
	if index >= head.IDs {
		return nil, bad(at, "xattr table", "set %d of %d", index, head.IDs)
	}
	c, err := f.listed(at+16, uint64(index), 16, "xattr table")
	if err != nil {
		return nil, err
	}
	var e xattrEntry
	if err := c.decode(&e); err != nil {
		return nil, err
	}
	set := map[string][]byte{}
	c = f.cursor(head.Table, ref(e.Ref), "xattr")
	for range e.Count {
		name, value, err := f.readXattr(c, head.Table)
		if err != nil {
			return nil, err
		}
		set[name] = value
	}
	return set, nil
}

func (f *FS) readXattr(c *cursor, table uint64) (string, []byte, error) {
	var k struct{ Class, Size uint16 }
	if err := c.decode(&k); err != nil {
		return "", nil, err
	}
	class := k.Class &^ xattrElsewhere
	if int(class) >= len(xattrClasses) || k.Size > maxName {
		return "", nil, bad(c.at, "xattr", "class %d, a name of %d bytes", k.Class, k.Size)
	}
	name, err := c.text(int(k.Size))
	if err != nil {
		return "", nil, err
	}
	value, err := f.xattrValue(c)
	if err == nil && k.Class&xattrElsewhere != 0 {
		if len(value) != 8 {
			return "", nil, bad(c.at, "xattr", "a reference of %d bytes", len(value))
		}
		var r ref
		unmarshal([]byte(value), &r)
		value, err = f.xattrValue(f.cursor(table, r, "xattr"))
	}
	return xattrClasses[class] + name, []byte(value), err
}

func (f *FS) xattrValue(c *cursor) (string, error) {
	var size uint32
	if err := c.decode(&size); err != nil {
		return "", err
	}
	if size > maxXattrValue {
		return "", bad(c.at, "xattr", "a value of %d bytes", size)
	}
	return c.text(int(size))
}
