package squashfs

import (
	"fmt"
	"io/fs"
	"math/bits"
	"path"
	"runtime"

	"github.com/ingot-os/ingot/partition/tree"
)

// Options are the inputs of a filesystem besides its tree. The zero value of
// all but Epoch is a default.
type Options struct {
	Epoch     int64 // seconds since 1970 UTC, every time in the filesystem; 0 to 2^32-1
	Level     int   // zstd level, by default 3; the encoder knows four grades (1, 3, 7, 11 and more)
	BlockSize int   // bytes, a power of two from 4 KiB to 1 MiB, by default 128 KiB
	Workers   int   // goroutines that compress, by default one for each processor; the bytes do not depend on it
}

func (o Options) validate() (Options, error) {
	if o.Level == 0 {
		o.Level = 3
	}
	if o.BlockSize == 0 {
		o.BlockSize = defaultBlock
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	switch {
	case o.Epoch < 0 || o.Epoch > 1<<32-1:
		return o, fmt.Errorf("epoch %d: squashfs has times from 0 to 2^32-1", o.Epoch)
	case o.BlockSize < minBlock || o.BlockSize > maxBlock || bits.OnesCount(uint(o.BlockSize)) != 1:
		return o, fmt.Errorf("block size %d: want a power of two from %d to %d", o.BlockSize, minBlock, maxBlock)
	case o.Level < 1 || o.Level > 22:
		return o, fmt.Errorf("level %d: zstd has 1 to 22", o.Level)
	}
	return o, nil
}

// inode is one inode to write; hard links share it.
type inode struct {
	node     *tree.Node
	number   uint32
	links    uint32
	uid, gid uint16 // indexes in the id table
	xattr    uint32 // index in the attribute table or none
	parent   *inode
	entries  []entry // of a directory, sorted by name
	dirs     uint32  // entries that are directories
	data     fileData
	at       ref // once it is written
}

// entry is a name in a directory.
type entry struct {
	name string
	*inode
}

// fileData is where the content of a file went.
type fileData struct {
	start    uint64
	blocks   []uint32 // sizes on disk; 0 is a hole
	sparse   uint64   // bytes in holes
	fragment uint32
	offset   uint32 // in the fragment
}

// plan is the tree as inodes: numbered in tree order, parents first.
type plan struct {
	inodes []*inode
	ids    []uint32
	idOf   map[uint32]uint16
	xattrs xattrTable
}

func newPlan(t *tree.Tree) (*plan, error) {
	p := &plan{idOf: map[uint32]uint16{}}
	byPath := map[string]*inode{}
	nodes := t.Nodes()
	if len(nodes) == 0 || nodes[0].Path != "." {
		nodes = append([]*tree.Node{{Path: ".", Mode: fs.ModeDir | 0o755}}, nodes...)
	}
	for _, n := range nodes {
		if n.Link != "" {
			continue
		}
		i, err := p.add(n)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", n.Path, err)
		}
		byPath[n.Path] = i
	}
	for _, n := range nodes {
		i, err := resolve(t, byPath, n)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", n.Path, err)
		}
		if n.Path != "." {
			i.enter(byPath[path.Dir(n.Path)], path.Base(n.Path))
		}
	}
	return p, nil
}

func (p *plan) add(n *tree.Node) (*inode, error) {
	if err := checkNode(n); err != nil {
		return nil, err
	}
	i := &inode{node: n, number: uint32(len(p.inodes) + 1), data: fileData{fragment: none}}
	var err error
	if i.uid, err = p.id(n.UID); err != nil {
		return nil, err
	}
	if i.gid, err = p.id(n.GID); err != nil {
		return nil, err
	}
	if i.xattr, err = p.xattrs.add(n.Xattrs); err != nil {
		return nil, err
	}
	p.inodes = append(p.inodes, i)
	return i, nil
}

func checkNode(n *tree.Node) error {
	switch {
	case len(n.Path) > maxPath || len(path.Base(n.Path)) > maxName:
		return fmt.Errorf("a name ends at %d bytes and a path at %d", maxName, maxPath)
	case n.Mode&fs.ModeSymlink != 0 && (n.Target == "" || len(n.Target) > maxTarget):
		return fmt.Errorf("a link target of %d bytes, want 1 to %d", len(n.Target), maxTarget)
	}
	_, err := inodeType(n.Mode)
	return err
}

func inodeType(m fs.FileMode) (uint16, error) {
	switch m.Type() {
	case 0:
		return typeFile, nil
	case fs.ModeDir:
		return typeDir, nil
	case fs.ModeSymlink:
		return typeSymlink, nil
	case fs.ModeDevice:
		return typeBlock, nil
	case fs.ModeDevice | fs.ModeCharDevice:
		return typeChar, nil
	case fs.ModeNamedPipe:
		return typeFifo, nil
	case fs.ModeSocket:
		return typeSocket, nil
	}
	return 0, fmt.Errorf("mode %v is no file that squashfs knows", m)
}

func (p *plan) id(id uint32) (uint16, error) {
	i, ok := p.idOf[id]
	if !ok {
		if len(p.ids) == 1<<16-1 {
			return 0, fmt.Errorf("owner %d: more than 65535 different owners and groups", id)
		}
		i = uint16(len(p.ids))
		p.ids, p.idOf[id] = append(p.ids, id), i
	}
	return i, nil
}

// resolve follows hard links to the inode of a node.
func resolve(t *tree.Tree, byPath map[string]*inode, n *tree.Node) (*inode, error) {
	first := n
	for range 16 {
		if n.Link == "" {
			if n != first && n.Mode.IsDir() {
				return nil, fmt.Errorf("hard link to the directory %q", n.Path)
			}
			return byPath[n.Path], nil
		}
		to := t.Get(n.Link)
		if to == nil {
			return nil, fmt.Errorf("hard link to %q, which is not there", n.Link)
		}
		n = to
	}
	return nil, fmt.Errorf("hard link to %q, which leads nowhere", n.Link)
}

// enter makes the inode an entry of a directory.
func (i *inode) enter(dir *inode, name string) {
	dir.entries = append(dir.entries, entry{name, i})
	i.links++
	if i.node.Mode.IsDir() {
		i.parent = dir
		dir.dirs++
	}
}
