package initramfs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/partition/tree"
)

const (
	maxField = 1<<32 - 1 // a newc header field is eight hex digits
	maxPath  = 4095      // PATH_MAX without the NUL: the kernel skips longer names silently
	maxName  = 255       // NAME_MAX of every Linux file system
	trailer  = "TRAILER!!!"
)

// entry is one cpio header to be written, with its content.
type entry struct {
	node  *tree.Node
	ino   uint32
	links int
	size  int64      // bytes of content that follow the header
	from  *tree.Node // node whose content or target is written; nil for none
}

// part is a segment after the checks, in the order of its paths.
type part struct {
	name    string
	entries []entry
}

// collect turns segments into parts and finds every conflict at once.
func collect(segments []Segment) ([]part, error) {
	owner := map[string]int{} // path -> index of the segment that has it
	isDir := map[string]bool{}
	var parts []part
	var errs []error
	for i, s := range segments {
		p := part{name: s.Name}
		for _, n := range s.Tree.Nodes() {
			if first, taken := owner[n.Path]; taken {
				if !n.Mode.IsDir() || !isDir[n.Path] {
					errs = append(errs, fmt.Errorf("path %q is in segment %q and in segment %q", n.Path, segments[first].Name, s.Name))
				}
				continue
			}
			owner[n.Path], isDir[n.Path] = i, n.Mode.IsDir()
			if err := check(n); err != nil {
				errs = append(errs, fmt.Errorf("segment %q: path %q: %w", s.Name, n.Path, err))
				continue
			}
			p.entries = append(p.entries, entry{node: n, links: 1, size: n.Size(), from: n})
		}
		if err := link(&p, s.Tree); err != nil {
			errs = append(errs, fmt.Errorf("segment %q: %w", s.Name, err))
		}
		parts = append(parts, p)
	}
	return parts, errors.Join(errs...)
}

// check refuses what newc, its writer or the kernel's unpacker cannot do.
func check(n *tree.Node) error {
	switch {
	case len(n.Path) > maxPath:
		return fmt.Errorf("path of %d bytes: the kernel unpacks at most %d", len(n.Path), maxPath)
	case n.Path == trailer:
		return errors.New("this name ends a cpio archive")
	case n.Size() > maxField:
		return fmt.Errorf("%d bytes: a cpio entry holds at most %d", n.Size(), int64(maxField))
	case n.Mode&fs.ModeDevice != 0:
		return errors.New("device nodes are not written: devtmpfs makes them")
	case len(n.Xattrs) > 0:
		return errors.New("extended attributes cannot be stored in a cpio archive")
	case n.Mode&fs.ModeSymlink != 0 && (n.Target == "" || len(n.Target) > maxPath || strings.ContainsRune(n.Target, 0)):
		return fmt.Errorf("symlink target of %d bytes: want 1 to %d without NUL", len(n.Target), maxPath)
	}
	for name := range strings.SplitSeq(n.Path, "/") {
		if len(name) > maxName {
			return fmt.Errorf("name of %d bytes: a file system takes at most %d", len(name), maxName)
		}
	}
	_, err := posixMode(n.Mode)
	return err
}

// posixMode gives st_mode as POSIX and the kernel number it.
func posixMode(m fs.FileMode) (uint32, error) {
	out := uint32(m.Perm())
	switch m.Type() {
	case 0:
		out |= 0o100000
	case fs.ModeDir:
		out |= 0o040000
	case fs.ModeSymlink:
		return 0o120777, nil // what lstat says of every symlink on Linux
	case fs.ModeNamedPipe:
		out |= 0o010000
	default:
		return 0, fmt.Errorf("file type %v is not supported", m.Type())
	}
	for bit, posix := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			out |= posix
		}
	}
	return out, nil
}

// link resolves hard links inside one part: all names of a file share mode,
// owner and inode, and the first name in the archive carries the content, the
// only place where both GNU cpio and the kernel take it from.
func link(p *part, t *tree.Tree) error {
	groups := map[string][]int{} // path of the target -> entries of the group, in order
	for i := range p.entries {
		n := p.entries[i].node
		switch {
		case n.Link != "":
			target := t.Get(n.Link)
			if target == nil || !target.Mode.IsRegular() || target.Link != "" {
				return fmt.Errorf("path %q: hard link to %q, which is no regular file of the same segment", n.Path, n.Link)
			}
			groups[n.Link] = append(groups[n.Link], i)
		case n.Mode.IsRegular():
			groups[n.Path] = append(groups[n.Path], i)
		}
	}
	for target, members := range groups {
		if len(members) < 2 {
			continue
		}
		for k, i := range members {
			e := &p.entries[i]
			path := e.node.Path
			shared := *t.Get(target)
			shared.Path, shared.Link = path, target
			e.node, e.links, e.size, e.from = &shared, len(members), 0, nil
			if k == 0 {
				e.from = t.Get(target)
				e.size = e.from.Size()
			}
		}
	}
	return nil
}

// group names the set of hard links that an entry belongs to: the path of the
// node that all of them point to.
func (e *entry) group() string {
	if e.links > 1 {
		return e.node.Link
	}
	return e.node.Path
}

// number gives out inode numbers. They are a hash of the path, not a running
// number, so that one more file changes no other header (small updates); a
// collision takes the next free number.
func number(parts []part) {
	used := map[uint32]bool{0: true}
	given := map[string]uint32{}
	for i := range parts {
		for j := range parts[i].entries {
			e := &parts[i].entries[j]
			g := e.group()
			ino, ok := given[g]
			if !ok {
				for ino = hash(g); used[ino]; ino++ {
				}
				used[ino], given[g] = true, ino
			}
			e.ino = ino
		}
	}
}

// hash is 32-bit FNV-1a.
func hash(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

// merge puts all parts into one list in path order. Groups of hard links lie
// inside one part, so their order among themselves does not change.
func merge(parts []part) []entry {
	var all []entry
	for _, p := range parts {
		all = append(all, p.entries...)
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		return slices.Compare(components(a.node.Path), components(b.node.Path))
	})
	return all
}

func components(p string) []string {
	if p == "." {
		return nil
	}
	return strings.Split(p, "/")
}
