package fat

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

// Item is one name in a directory.
type Item struct {
	Name  string
	Dir   bool
	Size  int64 // bytes of a file
	first uint32
}

// List reads one directory; nil is the root. Nothing else of the volume is
// looked at, so that a few files of a large medium cost little. A directory that
// loops or leaves the volume is a *FormatError. Memory is at most that of 65536
// entries.
func (f *FS) List(dir *Item) ([]Item, error) {
	name, first := ".", f.boot.RootCluster
	if dir != nil {
		name, first = dir.Name, dir.first
	}
	runs, err := f.follow(name, first, max(maxDirSize, f.clusterSize()))
	if err != nil {
		return nil, err
	}
	var items []Item
	var long longName
	raw := make([]byte, f.clusterSize())
	for _, r := range runs {
		for c := r.first; c < r.first+r.n; c++ {
			if _, err := f.r.ReadAt(raw, f.clusterOff(c)); err != nil && !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("read fat32: directory %q: %w", name, err)
			}
			for i := 0; i < len(raw); i += entrySize {
				if raw[i] == 0 { // section 6.1: nothing is used from here on
					return items, nil
				}
				if item, ok := listed(raw[i:i+entrySize], &long); ok {
					items = append(items, item)
				}
			}
		}
	}
	return items, nil
}

// listed reads an entry. What is no file or directory with a usable name is
// passed over.
func listed(raw []byte, long *longName) (Item, bool) {
	const deleted = 0xE5
	if raw[0] == deleted {
		long.reset()
		return Item{}, false
	}
	if raw[11]&attrLongMask == attrLongName {
		var e longEntry
		unmarshal(raw, &e)
		long.add(&e)
		return Item{}, false
	}
	var e dirEntry
	unmarshal(raw, &e)
	name := long.take(&e)
	if e.Attr&attrVolumeID != 0 || name == "" || strings.Trim(name, ".") == "" || strings.ContainsAny(name, "/\x00") {
		return Item{}, false
	}
	return Item{Name: name, Dir: e.Attr&attrDirectory != 0, Size: int64(e.Size), first: e.cluster()}, true
}

// Content gives the bytes of a file that List has named. They are read when the
// blob is opened.
func (f *FS) Content(i Item) (tree.Blob, error) {
	if i.Dir {
		return nil, fmt.Errorf("read fat32: %q is a directory", i.Name)
	}
	if i.Size == 0 {
		return &chainBlob{fs: f}, nil
	}
	runs, err := f.follow(i.Name, i.first, i.Size+f.clusterSize()-1)
	if err != nil {
		return nil, err
	}
	b := &chainBlob{fs: f, runs: runs, size: i.Size}
	if b.capacity() < b.size {
		return nil, bad(f.fatOff, "FAT", "%q: %d bytes, its chain has %d", i.Name, b.size, b.capacity())
	}
	return b, nil
}

// maxRuns bounds the pieces of a chain: a file of 4 GiB in clusters that do not
// follow each other would be a million of them.
const maxRuns = 65536

// follow is the chain from a cluster, of at most limit bytes; a loop is longer
// than any limit.
func (f *FS) follow(what string, c uint32, limit int64) ([]run, error) {
	var runs []run
	for total := int64(0); ; {
		if c < 2 || c > f.last {
			return nil, bad(f.fatOff, "FAT", "%s: chain leads to cluster %d, clusters are 2 to %d", what, c, f.last)
		}
		if total += f.clusterSize(); total > limit {
			return nil, bad(f.fatOff+4*int64(c), "FAT", "%s: chain is longer than %d bytes", what, limit)
		}
		if k := len(runs) - 1; k >= 0 && runs[k].first+runs[k].n == c {
			runs[k].n++
		} else if len(runs) < maxRuns {
			runs = append(runs, run{c, 1})
		} else {
			return nil, bad(f.fatOff+4*int64(c), "FAT", "%s: chain has more than %d pieces", what, maxRuns)
		}
		next, err := f.next(c)
		if err != nil {
			return nil, err
		}
		if next > badCluster {
			return runs, nil
		}
		c = next
	}
}
