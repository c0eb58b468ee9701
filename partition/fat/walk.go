package fat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf16"

	"github.com/ingot-os/ingot/partition/tree"
)

const maxDepth = 64 // directories; real boot volumes have four

// walker holds what one reading of the whole tree needs.
type walker struct {
	*FS
	seen    []uint64 // one bit a cluster: a second use is a loop or a cross link
	tree    tree.Tree
	entries map[string]EntryInfo
}

// EntryInfo is what a directory entry says beside its node. Times are FAT's,
// without a zone: "2006-01-02 15:04:05", seconds even.
type EntryInfo struct {
	Attributes       uint8
	Created, Written string
	Accessed         string // date only
	Cluster          uint32 // first; 0 for an empty file
	Offset           int64  // of the entry in the volume
}

// Entries gives, after Tree, what the directory entries say beside their
// nodes, by path.
func (f *FS) Entries() map[string]EntryInfo { return f.entries }

// dateText and timeText write FAT's fields as they are, possible or not.
func dateText(d uint16) string { return fmt.Sprintf("%04d-%02d-%02d", 1980+int(d>>9), d>>5&15, d&31) }
func timeText(t uint16) string { return fmt.Sprintf("%02d:%02d:%02d", t>>11, t>>5&63, t&31*2) }

// Tree reads all directories and chains. The contents of files stay in the
// volume and are read when their blobs are opened, so its reader must outlive
// the tree. A chain that loops, leaves the volume, is shared or is shorter than
// its file is a *FormatError; so is a tree deeper than 64 directories. Memory
// is bounded by what the volume's directories and FAT really hold.
//
// Directories come with mode 0755 and files with 0644, owner 0:0.
func (f *FS) Tree() (*tree.Tree, error) {
	w := &walker{FS: f, seen: make([]uint64, f.last/64+1), entries: map[string]EntryInfo{}}
	if err := w.tree.Add(tree.Node{Path: ".", Mode: fs.ModeDir | 0o755}); err != nil {
		return nil, err
	}
	if err := w.dir(".", f.boot.RootCluster, 0); err != nil {
		return nil, err
	}
	f.entries = w.entries
	return &w.tree, nil
}

// run is a stretch of neighbouring clusters.
type run struct{ first, n uint32 }

// chain follows the FAT from a cluster and marks all of it as used.
func (w *walker) chain(what string, c uint32, limit int64) ([]run, error) {
	var runs []run
	for total := int64(0); ; {
		if c < 2 || c > w.last {
			return nil, bad(w.fatOff, "FAT", "%s: chain leads to cluster %d, clusters are 2 to %d", what, c, w.last)
		}
		if w.seen[c/64]&(1<<(c%64)) != 0 {
			return nil, bad(w.fatOff+4*int64(c), "FAT", "%s: cluster %d is used twice", what, c)
		}
		w.seen[c/64] |= 1 << (c % 64)
		if total += w.clusterSize(); total > limit {
			return nil, bad(w.fatOff+4*int64(c), "FAT", "%s: chain is longer than %d bytes", what, limit)
		}
		if k := len(runs) - 1; k >= 0 && runs[k].first+runs[k].n == c {
			runs[k].n++
		} else {
			runs = append(runs, run{c, 1})
		}
		next, err := w.next(c)
		if err != nil {
			return nil, err
		}
		if next > badCluster {
			return runs, nil
		}
		c = next
	}
}

func (w *walker) dir(name string, first uint32, depth int) error {
	if depth > maxDepth {
		return bad(w.clusterOff(first), "DIR_FstClus", "%q: more than %d directories deep", name, maxDepth)
	}
	runs, err := w.chain(name, first, max(maxDirSize, w.clusterSize()))
	if err != nil {
		return err
	}
	var long longName
	for _, r := range runs {
		raw := make([]byte, int64(r.n)*w.clusterSize())
		if _, err := w.r.ReadAt(raw, w.clusterOff(r.first)); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read fat32: directory %q: %w", name, err)
		}
		for i := 0; i < len(raw); i += entrySize {
			if raw[i] == 0 { // section 6.1: nothing is used from here on
				return nil
			}
			if err := w.entry(name, raw[i:i+entrySize], w.clusterOff(r.first)+int64(i), &long, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) entry(dir string, raw []byte, off int64, long *longName, depth int) error {
	const deleted = 0xE5
	if raw[0] == deleted {
		long.reset()
		return nil
	}
	if raw[11]&attrLongMask == attrLongName {
		var e longEntry
		unmarshal(raw, &e)
		long.add(&e)
		return nil
	}
	var e dirEntry
	unmarshal(raw, &e)
	name := long.take(&e)
	switch {
	case e.Attr&attrVolumeID != 0:
		if dir == "." {
			w.info.Label = strings.TrimRight(string(e.Name[:]), " ")
		}
		return nil
	case e.Name == pack(".", "") || e.Name == pack("..", ""):
		return nil
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return bad(off, "DIR_Name", "%q in %q is no file name", name, dir)
	}
	return w.node(path.Join(dir, name), &e, off, depth)
}

func (w *walker) node(name string, e *dirEntry, off int64, depth int) error {
	n := tree.Node{Path: name, Mode: 0o644}
	w.entries[name] = EntryInfo{
		Attributes: e.Attr, Created: fmt.Sprintf("%s %s +%d ms", dateText(e.CreateDate), timeText(e.CreateTime), 10*int(e.CreateTenth)),
		Written: dateText(e.WriteDate) + " " + timeText(e.WriteTime), Accessed: dateText(e.AccessDate), Cluster: e.cluster(), Offset: off,
	}
	if e.Attr&attrDirectory != 0 {
		n.Mode = fs.ModeDir | 0o755
	} else if err := w.content(&n, e, off); err != nil {
		return err
	}
	if w.tree.Get(name) != nil {
		return bad(off, "DIR_Name", "%q is there twice", name)
	}
	if err := w.tree.Add(n); err != nil {
		return bad(off, "DIR_Name", "%v", err)
	}
	if n.Mode.IsDir() {
		return w.dir(name, e.cluster(), depth+1)
	}
	return nil
}

func (w *walker) content(n *tree.Node, e *dirEntry, off int64) error {
	c := e.cluster()
	if c == 0 {
		if e.Size != 0 {
			return bad(off+28, "DIR_FileSize", "%q: %d bytes and no cluster", n.Path, e.Size)
		}
		return nil
	}
	runs, err := w.chain(n.Path, c, maxFileSize+w.clusterSize())
	if err != nil {
		return err
	}
	b := &chainBlob{fs: w.FS, runs: runs, size: int64(e.Size)}
	if b.capacity() < b.size {
		return bad(off+28, "DIR_FileSize", "%q: %d bytes, its chain has %d", n.Path, b.size, b.capacity())
	}
	n.Content = b
	if len(runs) == 1 { // contiguous: readers of what is inside can seek
		n.Content = tree.Section{R: w.r, Off: w.clusterOff(runs[0].first), N: b.size}
	}
	return nil
}

// longName collects long entries until the short one they belong to.
type longName struct {
	units []uint16 // in order; longer pieces are put in front
	sum   uint8
	want  uint8 // the number of the piece that must come next; 0: complete or none
}

func (l *longName) reset() { l.units, l.want = l.units[:0], 0 }

func (l *longName) add(e *longEntry) {
	ord := e.Ord
	if ord&longLast != 0 {
		ord &^= longLast
		l.units, l.sum, l.want = l.units[:0], e.Checksum, ord
	}
	if ord == 0 || ord > 20 || ord != l.want || e.Checksum != l.sum {
		l.reset()
		return
	}
	u := e.units()
	l.units = append(u[:], l.units...)
	l.want--
}

// take gives the name of a short entry and forgets the collected one. Long
// entries that are incomplete or of another short name do not count (section 7.4).
func (l *longName) take(e *dirEntry) string {
	defer l.reset()
	if len(l.units) == 0 || l.want != 0 || l.sum != checksum(e.Name) {
		return shortString(e)
	}
	units := l.units
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return string(utf16.Decode(units))
}

// chainBlob is a file inside a volume.
type chainBlob struct {
	fs   *FS
	runs []run
	size int64
}

func (b *chainBlob) capacity() (n int64) {
	for _, r := range b.runs {
		n += int64(r.n) * b.fs.clusterSize()
	}
	return n
}

// Size implements tree.Blob.
func (b *chainBlob) Size() int64 { return b.size }

// Open implements tree.Blob.
func (b *chainBlob) Open() (io.ReadCloser, error) {
	left, parts := b.size, make([]io.Reader, 0, len(b.runs))
	for _, r := range b.runs {
		n := min(left, int64(r.n)*b.fs.clusterSize())
		parts = append(parts, io.NewSectionReader(b.fs.r, b.fs.clusterOff(r.first), n))
		left -= n
	}
	return io.NopCloser(io.MultiReader(parts...)), nil
}
