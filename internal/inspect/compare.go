package inspect

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Compare inspects two files or image sets and lists how they differ, as Diff
// does. Where no structure accounts for it (the slack of a cluster, padding, a
// hash tree), it names the first byte that differs. So the list is empty only
// when the bytes are the same.
//
// Partitions with the same bytes on both disks are not inspected, and none is
// hashed as a whole: two sparse disks of any size take as long as their data.
func Compare(a, b string) ([]Difference, error) {
	a, b = inDirectory(a), inDirectory(b)
	i, err := os.Stat(a)
	if err != nil {
		return nil, err
	}
	j, err := os.Stat(b)
	if err != nil {
		return nil, err
	}
	var x, y *Node
	if i.IsDir() && j.IsDir() {
		x, y, err = setPair(a, b)
	} else {
		x, y, err = filePair(a, b)
	}
	if err != nil {
		return nil, err
	}
	return Diff(x, y), nil
}

// CompareFiles compares pairs of files as one comparison, in the order given:
// what differs in a later pair as it does in an earlier one is said once.
func CompareFiles(pairs [][2]string) ([]Difference, error) {
	x, y := &Node{Kind: "set"}, &Node{Kind: "set"}
	for _, p := range pairs {
		a, b, err := filePair(p[0], p[1])
		if err != nil {
			return nil, err
		}
		x.Children, y.Children = append(x.Children, a), append(y.Children, b)
	}
	return Diff(x, y), nil
}

// setPair inspects two image sets; files whose names differ in the stem only
// are a pair.
func setPair(a, b string) (x, y *Node, err error) {
	s, err := release.Open(a)
	if err != nil {
		return nil, nil, err
	}
	t, err := release.Open(b)
	if err != nil {
		return nil, nil, err
	}
	x, y = &Node{Kind: "set", Name: s.Manifest.Stem()}, &Node{Kind: "set", Name: t.Manifest.Stem()}
	theirs := map[string]string{}
	for _, name := range setFiles(t) {
		theirs[strings.TrimPrefix(name, t.Manifest.Stem())] = name
	}
	for _, name := range setFiles(s) {
		role := strings.TrimPrefix(name, s.Manifest.Stem())
		from, other := filepath.Join(a, name), theirs[role]
		delete(theirs, role)
		if other == "" {
			x.Children = append(x.Children, &Node{Kind: "file", Name: name})
			continue
		}
		c, d, err := filePair(from, filepath.Join(b, other))
		if err != nil {
			return nil, nil, err
		}
		x.Children, y.Children = append(x.Children, c), append(y.Children, d)
	}
	for _, name := range slices.Sorted(maps.Values(theirs)) {
		y.Children = append(y.Children, &Node{Kind: "file", Name: name})
	}
	return x, y, nil
}

// setFiles lists the files of a set, the manifest and its signature first.
func setFiles(s *release.Set) []string {
	names := []string{release.ManifestName}
	if _, err := os.Stat(filepath.Join(s.Dir, release.EnvelopeName)); err == nil {
		names = append(names, release.EnvelopeName)
	}
	for _, f := range s.Manifest.Files {
		names = append(names, f.Name)
	}
	return names
}

// filePair inspects two files, or one of them and a directory.
func filePair(a, b string) (x, y *Node, err error) {
	var g errgroup.Group
	if isDisk(a) && isDisk(b) {
		x, y, err = diskPair(a, b)
	} else {
		g.Go(func() (err error) { x, err = Path(a); return err })
		g.Go(func() (err error) { y, err = Path(b); return err })
		err = g.Wait()
	}
	if err != nil {
		return nil, nil, err
	}
	if x.Field("size") == y.Field("size") {
		x.other = func() (*Difference, error) { return firstByteOf(a, b) }
	}
	return x, y, nil
}

func isDisk(path string) bool {
	f, size, err := open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, _, err = gpt.Read(f, size)
	return err == nil
}

// side is one of two disks.
type side struct {
	f     *os.File
	name  string
	node  *Node
	parts []gpt.Partition
}

func openSide(path, name string) (*side, error) {
	f, size, err := open(path)
	if err != nil {
		return nil, err
	}
	s := &side{f: f, name: name, node: &Node{Kind: "disk", Name: filepath.Base(path)}}
	s.node.add("size", size)
	if s.parts, err = readTable(s.node, f, size); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// find returns the partition of a child of the disk's node.
func (s *side) find(c *Node) gpt.Partition {
	for i, n := range s.node.Children {
		if n == c {
			return s.parts[i]
		}
	}
	return gpt.Partition{}
}

// diskPair inspects what differs between two disks.
func diskPair(a, b string) (x, y *Node, err error) {
	one, err := openSide(a, "A")
	if err != nil {
		return nil, nil, err
	}
	defer one.f.Close()
	two, err := openSide(b, "B")
	if err != nil {
		return nil, nil, err
	}
	defer two.f.Close()
	_, left, right := match(one.node, two.node)
	for i, c := range left {
		d := right[i]
		if c == nil || d == nil {
			continue
		}
		p, q := one.find(c), two.find(d)
		if p.Size == q.Size {
			first, err := firstByte(one.f, p.Start, two.f, q.Start, p.Size)
			if err != nil {
				return nil, nil, err
			}
			if first == nil {
				continue
			}
			c.other = func() (*Difference, error) { return first, nil }
		}
		var g errgroup.Group
		g.Go(func() error { return one.inspect(c, p) })
		g.Go(func() error { return two.inspect(d, q) })
		if err := g.Wait(); err != nil {
			return nil, nil, err
		}
	}
	return one.node, two.node, nil
}

// inspect adds what is in a partition, or takes it from an earlier one that
// holds the same bytes, as slot A does for slot B.
func (s *side) inspect(c *Node, p gpt.Partition) error {
	c.content = fmt.Sprint(s.name, p.Index)
	for i, n := range s.node.Children {
		q := s.parts[i]
		if n == c {
			break
		}
		if n.content == "" || q.Size != p.Size {
			continue
		}
		first, err := firstByte(s.f, q.Start, s.f, p.Start, p.Size)
		if err != nil {
			return err
		}
		if first == nil {
			c.content, c.Children = n.content, n.Children
			return nil
		}
	}
	if err := readPartition(c, s.f, p); err != nil {
		c.add("problem", err)
	}
	return nil
}
