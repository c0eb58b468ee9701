package inspect

import (
	"fmt"
	"io"
	"io/fs"
	"sort"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition/tree"
)

// addTree lists a file tree. With deep, the files themselves are inspected:
// the UKI inside a slot, the initramfs inside the UKI.
func addTree(n *Node, t *tree.Tree, deep bool) error {
	for _, e := range t.Nodes() {
		if e.Path == "." && e.Mode == fs.ModeDir|0o755 && e.UID == 0 && e.GID == 0 && len(e.Xattrs) == 0 {
			continue // every tree has it
		}
		c := n.child(entryKind(e), e.Path)
		c.add("mode", fmt.Sprintf("%04o", perm(e.Mode)))
		if e.UID != 0 || e.GID != 0 {
			c.add("owner", fmt.Sprintf("%d:%d", e.UID, e.GID))
		}
		c.add("target", e.Target)
		c.add("link", e.Link)
		if e.Mode&fs.ModeDevice != 0 {
			c.add("device", fmt.Sprintf("%d:%d", e.Major, e.Minor))
		}
		for _, k := range xattrNames(e) {
			c.add(k, fmt.Sprintf("%x", e.Xattrs[k]))
		}
		if err := addContent(c, e, deep); err != nil {
			c.add("problem", err)
		}
	}
	return nil
}

func addContent(c *Node, e *tree.Node, deep bool) error {
	if !e.Mode.IsRegular() || e.Link != "" {
		return nil
	}
	c.add("size", e.Size())
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	sum, err := digest(r)
	if err != nil {
		return err
	}
	c.add("sha256", sum)
	at, ok := e.Content.(io.ReaderAt)
	if s, isSection := e.Content.(tree.Section); isSection {
		c.placed(s.Off, s.N)
		at, ok = io.NewSectionReader(s.R, s.Off, s.N), true
	}
	if e.Path == appliance.Path {
		return addConfiguration(c, e)
	}
	if !deep || !ok {
		return nil
	}
	in, err := Reader(at, e.Size(), e.Path)
	if err != nil || in.Kind == "file" {
		return err
	}
	c.Children = append(c.Children, in.placed(0, e.Size()))
	return nil
}

func entryKind(e *tree.Node) string {
	switch {
	case e.Mode.IsDir():
		return "dir"
	case e.Mode&fs.ModeSymlink != 0:
		return "link"
	case e.Mode.IsRegular():
		return "file"
	}
	return "special"
}

func perm(m fs.FileMode) uint32 {
	p := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		p |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		p |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		p |= 0o1000
	}
	return p
}

func xattrNames(e *tree.Node) []string {
	var names []string
	for k := range e.Xattrs {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}
