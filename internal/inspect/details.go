package inspect

import (
	"slices"
	"strconv"
	"strings"
)

// A detail is a fact that every entry of a filesystem has and that nobody
// wants to read of each: when it was changed, its inode number, where its
// bytes lie. Details are not printed; Diff asks them where nothing else tells
// two filesystems apart.

// detail adds a fact that only Diff sees.
func (n *Node) detail(key string, value any) {
	d := Node{}
	d.add(key, value)
	n.details = append(n.details, d.Fields...)
}

// filesystems are the kinds of nodes whose entries have details.
var filesystems = []string{"cpio", "fat", "squashfs", "erofs"}

// places are details that follow from what lies before a file, and count only
// when no other detail differs.
var places = []string{"data at", "inode at", "first cluster"}

// explainByDetails looks for a cause among the details when the differences
// from an index on are digests and consequences only.
func (c *comparison) explainByDetails(path []string, a, b *Node, from int) {
	explained := func(d Difference) bool { return !d.sum && !d.follows || d.Field == sameAs }
	if !slices.Contains(filesystems, a.Kind) || slices.ContainsFunc(c.out[from:], explained) {
		return
	}
	found := orders(path, a, b)
	if len(found) == 0 {
		found = details(path, a, b)
		isPlace := func(d Difference) bool { return slices.Contains(places, d.Field) }
		if slices.ContainsFunc(found, func(d Difference) bool { return !isPlace(d) }) {
			found = slices.DeleteFunc(found, isPlace)
		}
	}
	if len(found) > 0 {
		rest := slices.DeleteFunc(slices.Clone(c.out[from:]), func(d Difference) bool { return d.sum })
		c.out = slices.Concat(c.out[:from], found, rest)
	}
}

// orders says where the same entries stand in another order.
func orders(path []string, a, b *Node) []Difference {
	if slices.Equal(a.order, b.order) || !slices.Equal(slices.Sorted(slices.Values(a.order)), slices.Sorted(slices.Values(b.order))) {
		return nil
	}
	i := 0
	for a.order[i] == b.order[i] {
		i++
	}
	entry := "entry " + strconv.Itoa(i+1)
	return []Difference{{Where: where(append(path[:len(path):len(path)], entry)), Field: "order", A: a.order[i], B: b.order[i]}}
}

// details compares those of two nodes and of all below them, other than
// filesystems inside of their files.
func details(path []string, a, b *Node) []Difference {
	var out []Difference
	x, y := Node{Fields: a.details}, Node{Fields: b.details}
	for _, k := range fieldKeys(&x, &y) {
		if v, w := x.Field(k), y.Field(k); v != w {
			out = append(out, Difference{Where: where(path), Field: k, A: v, B: w})
		}
	}
	names, left, right := match(a, b)
	for i, name := range names {
		if left[i] != nil && right[i] != nil && !slices.Contains(filesystems, left[i].Kind) {
			out = append(out, details(append(path[:len(path):len(path)], name), left[i], right[i])...)
		}
	}
	return out
}

func where(path []string) string { return strings.Join(path, " → ") }
