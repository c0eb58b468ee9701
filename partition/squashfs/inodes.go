package squashfs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"slices"
)

// tables collects inodes and directories.
type tables struct {
	inodes, dirs metaWriter
	epoch        uint32
	count        uint32
}

// all writes files first, because a hard link may stand in any directory, and
// then directories from the last to the first, so that each finds the places
// of all that it holds.
func (t *tables) all(inodes []*inode) error {
	for _, i := range inodes {
		if i.node.Mode.IsDir() {
			continue
		}
		if err := t.add(i); err != nil {
			return fmt.Errorf("%q: %w", i.node.Path, err)
		}
	}
	for _, i := range slices.Backward(inodes) {
		if !i.node.Mode.IsDir() {
			continue
		}
		if err := t.directory(i); err != nil {
			return fmt.Errorf("%q: %w", i.node.Path, err)
		}
	}
	t.inodes.flush()
	t.dirs.flush()
	return nil
}

// add writes the inode of anything but a directory.
func (t *tables) add(i *inode) error {
	var body []byte
	extended := i.xattr != none
	switch i.node.Mode.Type() {
	case 0:
		return t.file(i)
	case fs.ModeSymlink:
		body = marshal(nil, symlinkInode{i.links, uint32(len(i.node.Target))})
		body = append(body, i.node.Target...)
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		dev, err := encodeDevice(i.node.Major, i.node.Minor)
		if err != nil {
			return err
		}
		body = marshal(nil, deviceInode{i.links, dev})
	default:
		body = marshal(nil, i.links)
	}
	if extended {
		body = marshal(body, i.xattr)
	}
	t.put(i, extended, body)
	return nil
}

// put writes head and body of an inode.
func (t *tables) put(i *inode, extended bool, body []byte) {
	typ, _ := inodeType(i.node.Mode) // checked when the plan was made
	if extended {
		typ += typeExtended
	}
	i.at = t.inodes.pos()
	t.inodes.write(marshal(nil, inodeHead{typ, permissions(i.node.Mode), i.uid, i.gid, t.epoch, i.number}))
	t.inodes.write(body)
}

func permissions(m fs.FileMode) uint16 {
	p := uint16(m.Perm())
	for i, bit := range []fs.FileMode{fs.ModeSticky, fs.ModeSetgid, fs.ModeSetuid} {
		if m&bit != 0 {
			p |= 0o1000 << i
		}
	}
	return p
}

func (t *tables) file(i *inode) error {
	d, size := &i.data, uint64(i.node.Size())
	extended := i.xattr != none || i.links > 1 || d.sparse > 0 || size > math.MaxUint32 || d.start > math.MaxUint32
	var body []byte
	if extended {
		body = marshal(nil, extFileInode{d.start, size, d.sparse, i.links, d.fragment, d.offset, i.xattr})
	} else {
		body = marshal(nil, fileInode{uint32(d.start), d.fragment, d.offset, uint32(size)})
	}
	for _, word := range d.blocks {
		body = binary.LittleEndian.AppendUint32(body, word)
	}
	t.put(i, extended, body)
	return nil
}

func (t *tables) directory(i *inode) error {
	start := t.dirs.pos()
	size, index, err := t.listing(i.entries)
	if err != nil {
		return err
	}
	// The root's parent is a number that no inode has.
	parent, links := t.count+1, i.dirs+2
	if i.parent != nil {
		parent = i.parent.number
	}
	size += 3 // for "." and "..", which are not stored
	if i.xattr == none && len(index) == 0 && size <= math.MaxUint16 {
		t.put(i, false, marshal(nil, dirInode{uint32(start.block()), links, uint16(size), uint16(start.off()), parent}))
		return nil
	}
	body := marshal(nil, extDirInode{links, uint32(size), uint32(start.block()), parent, uint16(len(index)), uint16(start.off()), i.xattr})
	for _, x := range index {
		body = marshal(body, dirIndex{x.at, x.block, uint32(len(x.name) - 1)})
		body = append(body, x.name...)
	}
	t.put(i, true, body)
	return nil
}

// indexEntry lets the kernel skip the metadata blocks of a big directory that
// hold only names before the one it looks for.
type indexEntry struct {
	at    uint32 // bytes from the start of the listing to a header
	block uint32 // metadata block of that header
	name  string // first after the header
}

// listing writes the entries of a directory and returns its bytes.
func (t *tables) listing(entries []entry) (size int, index []indexEntry, err error) {
	seen := t.dirs.pos().block()
	for len(entries) > 0 {
		pos := t.dirs.pos()
		n := runLength(entries, metaSize-pos.off())
		if pos.block() != seen {
			seen = pos.block()
			index = append(index, indexEntry{uint32(size), uint32(seen), entries[0].name})
		}
		b := appendRun(nil, entries[:n])
		t.dirs.write(b)
		size, entries = size+len(b), entries[n:]
		if size > math.MaxInt32 || len(index) > math.MaxUint16 {
			return 0, nil, fmt.Errorf("directory of more than %d bytes", size)
		}
	}
	return size, index, nil
}

// runLength counts the entries that can follow one header: their inodes lie in
// one metadata block with numbers near each other, and a run ends where the
// metadata block ends, so that the next block begins near a header.
func runLength(entries []entry, room int) int {
	first, used := entries[0], 12
	for n, e := range entries {
		delta := int64(e.number) - int64(first.number)
		if n > 0 && (n == maxRun || used >= room || e.at.block() != first.at.block() || delta != int64(int16(delta))) {
			return n
		}
		used += 8 + len(e.name)
	}
	return len(entries)
}

func appendRun(b []byte, entries []entry) []byte {
	first := entries[0]
	b = marshal(b, dirHeader{uint32(len(entries) - 1), uint32(first.at.block()), first.number})
	for _, e := range entries {
		typ, _ := inodeType(e.node.Mode)
		b = marshal(b, dirEntry{uint16(e.at.off()), int16(int64(e.number) - int64(first.number)), typ, uint16(len(e.name) - 1)})
		b = append(b, e.name...)
	}
	return b
}
