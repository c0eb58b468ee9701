package fat

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// Options are the inputs of a volume besides its tree.
type Options struct {
	Size   int64  // bytes of the whole volume, a multiple of 512
	Serial uint32 // volume serial number; blkid and lsblk show it as the UUID
	Label  string // at most 11 characters; lower case is stored as upper case
	Epoch  int64  // seconds since 1970 UTC, the only time in the volume
}

// geometry is where the parts of a volume lie, in sectors.
type geometry struct {
	total    uint32
	perClust uint32
	fatSize  uint32
	clusters uint32
}

func (g geometry) clusterSize() int64 { return int64(g.perClust) * sectorSize }
func (g geometry) fatOff(i int) int64 {
	return (reserved + int64(i)*int64(g.fatSize)) * sectorSize
}
func (g geometry) clusterOff(c uint32) int64 {
	return g.fatOff(numFATs) + int64(c-2)*g.clusterSize()
}

// Image is a planned volume: every byte is decided, file contents are read when it is written.
type Image struct {
	geometry
	opts    Options
	label   [11]byte
	stamp   stamp
	used    uint32   // clusters
	runs    []uint32 // length of each chain in clusters; chains follow each other from cluster 2
	regions []region
}

// Size returns the bytes of the volume.
func (m *Image) Size() int64 { return m.opts.Size }

// ClusterSize returns the bytes of a cluster.
func (m *Image) ClusterSize() int64 { return m.clusterSize() }

// Free returns the bytes that are left for files.
func (m *Image) Free() int64 { return int64(m.clusters-m.used) * m.clusterSize() }

// Plan lays a tree out on a volume. A tree that does not fit is a *SpaceError;
// a name or node that FAT cannot hold is an error naming its path.
func Plan(t *tree.Tree, o Options) (*Image, error) {
	m := &Image{opts: o}
	var err error
	if m.geometry, err = plan(o.Size); err != nil {
		return nil, fmt.Errorf("plan fat32: %w", err)
	}
	if m.stamp, err = newStamp(o.Epoch); err != nil {
		return nil, fmt.Errorf("plan fat32: %w", err)
	}
	if m.label, err = packLabel(o.Label); err != nil {
		return nil, fmt.Errorf("plan fat32: %w", err)
	}
	dirs, err := collect(t, o.Label != "")
	if err != nil {
		return nil, fmt.Errorf("plan fat32: %w", err)
	}
	if err := m.allocate(dirs); err != nil {
		return nil, err
	}
	m.place(dirs)
	return m, nil
}

// plan chooses the biggest cluster that keeps the volume FAT32 and is not
// above the usual size for such a volume: big clusters make short chains for
// the firmware to walk. 16 clusters of distance to the FAT16 limit follow the
// advice of section 3.5 on drivers that count wrongly.
func plan(size int64) (geometry, error) {
	total := size / sectorSize
	switch {
	case size <= 0 || size%sectorSize != 0:
		return geometry{}, fmt.Errorf("size %d: not a positive multiple of %d", size, sectorSize)
	case total > 1<<32-1:
		return geometry{}, fmt.Errorf("size %d: more than 2^32-1 sectors", size)
	}
	for spc := usualCluster(size); spc > 1; spc /= 2 {
		if g := layout(uint32(total), spc); g.clusters >= minClusters+16 {
			return g, nil
		}
	}
	g := layout(uint32(total), 1)
	if g.clusters < minClusters {
		return geometry{}, fmt.Errorf("size %d: %d clusters, FAT32 starts at %d: the volume must be %d bytes or more",
			size, g.clusters, minClusters, smallest())
	}
	return g, nil
}

func usualCluster(size int64) uint32 {
	switch {
	case size <= 8<<30:
		return 8
	case size <= 16<<30:
		return 16
	case size <= 32<<30:
		return 32
	}
	return 64
}

// layout finds the smallest FAT that describes all clusters that are left after
// it. FAT sizes are multiples of 4 sectors, so data starts at a multiple of 4096.
func layout(total, spc uint32) geometry {
	g := geometry{total: total, perClust: spc}
	if total <= reserved {
		return g
	}
	const perSector = sectorSize / 4
	per := uint64(perSector*spc + numFATs)
	fat := (uint64(total-reserved) + 2*uint64(spc) + per - 1) / per
	fat = (fat + 3) &^ 3
	if reserved+numFATs*fat >= uint64(total) {
		return g
	}
	g.fatSize = uint32(fat)
	g.clusters = (total - reserved - numFATs*g.fatSize) / spc
	return g
}

func smallest() int64 {
	total := uint32(reserved + minClusters)
	for layout(total, 1).clusters < minClusters {
		total++
	}
	return int64(total) * sectorSize
}

func packLabel(s string) ([11]byte, error) {
	out := [11]byte([]byte("NO NAME    "))
	if s == "" {
		return out, nil
	}
	if len(s) > len(out) {
		return out, fmt.Errorf("label %q: longer than %d characters", s, len(out))
	}
	for i := range out {
		out[i] = shortBlank
	}
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if !isShort(c) && (c != ' ' || i == 0) {
			return out, fmt.Errorf("label %q: no character %q in a volume label", s, s[i])
		}
		out[i] = c
	}
	return out, nil
}

// item is a file or directory as its parent lists it.
type item struct {
	node  *tree.Node
	name  string
	alias alias
	first uint32 // first cluster; 0 for an empty file
	dir   *dir   // nil for a file
}

type dir struct {
	item
	parent *dir
	items  []*item
	size   int64 // bytes of entries
}

func (d *dir) root() bool { return d.parent == nil }

// collect turns the tree into directories, parents first.
func collect(t *tree.Tree, labelled bool) ([]*dir, error) {
	root := &dir{item: item{node: &tree.Node{Path: ".", Mode: fs.ModeDir | 0o755}}}
	dirs, byPath := []*dir{root}, map[string]*dir{".": root}
	for _, n := range t.Nodes() {
		if n.Path == "." {
			continue
		}
		if err := checkNode(n); err != nil {
			return nil, fmt.Errorf("%q: %w", n.Path, err)
		}
		parent := byPath[path.Dir(n.Path)]
		it := &item{node: n, name: path.Base(n.Path)}
		if n.Mode.IsDir() {
			d := &dir{item: *it, parent: parent}
			it, d.dir = &d.item, d
			dirs, byPath[n.Path] = append(dirs, d), d
		}
		parent.items = append(parent.items, it)
	}
	for _, d := range dirs {
		if err := d.measure(labelled); err != nil {
			return nil, fmt.Errorf("directory %q: %w", d.node.Path, err)
		}
	}
	return dirs, nil
}

func checkNode(n *tree.Node) error {
	switch {
	case strings.Count(n.Path, "/") > maxDepth:
		return fmt.Errorf("more than %d directories deep", maxDepth)
	case n.Link != "":
		return errors.New("a hard link, which FAT does not have")
	case !n.Mode.IsDir() && !n.Mode.IsRegular():
		return fmt.Errorf("mode %v, FAT has files and directories only", n.Mode)
	case len(n.Xattrs) > 0:
		return errors.New("extended attributes, which FAT does not have")
	case n.Size() > maxFileSize:
		return fmt.Errorf("%d bytes, a FAT file ends at %d", n.Size(), int64(maxFileSize))
	}
	return nil
}

// measure names the items and counts the entries.
func (d *dir) measure(labelled bool) error {
	names := make([]string, len(d.items))
	for i, it := range d.items {
		names[i] = it.name
	}
	short, err := aliases(names)
	if err != nil {
		return err
	}
	entries := 2 // . and ..
	if d.root() {
		entries = 0
		if labelled {
			entries = 1
		}
	}
	for i, it := range d.items {
		it.alias = short[i]
		entries++
		if !it.alias.exact {
			entries += len(longEntries(it.name, it.alias.name))
		}
	}
	if d.size = int64(entries) * entrySize; d.size > maxDirSize {
		return fmt.Errorf("%d directory entries, FAT has room for %d", entries, maxDirSize/entrySize)
	}
	return nil
}

// allocate gives out clusters from 2 on: directories first, so that a lookup
// reads one small area, then files in tree order.
func (m *Image) allocate(dirs []*dir) error {
	next := uint64(2)
	take := func(it *item, size int64) {
		n := uint64((size + m.clusterSize() - 1) / m.clusterSize())
		if n == 0 {
			return
		}
		it.first = uint32(next)
		m.runs = append(m.runs, uint32(n))
		next += n
	}
	for _, d := range dirs {
		take(&d.item, max(d.size, 1)) // an empty root still has a cluster
	}
	for _, d := range dirs {
		for _, it := range d.items {
			if it.dir == nil {
				take(it, it.node.Size())
			}
		}
	}
	if need := next - 2; need > uint64(m.clusters) {
		return &SpaceError{Need: int64(need) * m.clusterSize(), Have: int64(m.clusters) * m.clusterSize()}
	}
	m.used = uint32(next - 2)
	return nil
}
