package inspect

import (
	"slices"
	"strings"
)

// Diff lists how two inspected artifacts differ, in the order of their
// structure: the first difference is the first thing to look at. A digest that
// differs only because something inside it differs is left out, so causes
// stand alone. What differs in the same way as something before it, as slot B
// does as slot A, is one difference. What every change of an input changes (the
// digest of the lock, the root hash) comes last.
func Diff(a, b *Node) []Difference {
	c := comparison{seen: map[[2]string]string{}}
	c.nodes(nil, "", a, b)
	slices.SortStableFunc(c.out, func(x, y Difference) int {
		switch {
		case x.follows == y.follows:
			return 0
		case y.follows:
			return -1
		}
		return 1
	})
	return c.out
}

// comparison carries the work of Diff.
type comparison struct {
	out  []Difference
	seen map[[2]string]string // pairs of digests -> where they were compared
}

// nodes adds what differs between two nodes; parent is the kind of the node above.
func (c *comparison) nodes(path []string, parent string, a, b *Node) {
	where := where(path)
	if where == "" {
		where = a.Kind
	}
	if a.Kind != b.Kind {
		c.out = append(c.out, Difference{Where: where, Field: "kind", A: a.Kind, B: b.Kind})
		return
	}
	before := len(c.out)
	if !c.known(where, a, b) {
		c.children(path, a, b)
	}
	own := ownFields(where, parent, a, b, len(c.out) > before)
	// A node's own fields come before what is inside it.
	c.out = slices.Insert(c.out, before, own...)
	c.explainByDetails(path, a, b, before)
	if unexplained(c.out[before:]) {
		c.byte(path, where, a, before)
	}
}

// unexplained says whether differences name no cause: there are none, or they
// only sum up what is the same elsewhere.
func unexplained(list []Difference) bool {
	sums := 0
	for _, d := range list {
		if d.sum {
			sums++
		} else if d.Field != sameAs {
			return false
		}
	}
	return sums > 0 || len(list) == 0
}

// byte names the first byte that differs, and the part that holds it, where no
// structure tells more.
func (c *comparison) byte(path []string, at string, a *Node, from int) {
	if a.other == nil {
		return
	}
	d, err := a.other()
	switch {
	case err != nil:
		d = &Difference{Field: "problem", A: err.Error()}
	case d != nil:
		path = append(path[:len(path):len(path)], a.locate(d.at)...)
	}
	if d == nil {
		return
	}
	named := *d
	if named.Where = where(path); named.Where == "" {
		named.Where = at
	}
	rest := slices.DeleteFunc(slices.Clone(c.out[from:]), func(d Difference) bool { return d.sum })
	c.out = slices.Concat(c.out[:from], []Difference{named}, rest)
}

// known says whether what is inside two nodes has been compared elsewhere, and
// adds one difference that says where.
func (c *comparison) known(where string, a, b *Node) bool {
	if len(a.Children)+len(b.Children) == 0 {
		return false
	}
	for _, pair := range [][2]string{
		{a.Field("sha256"), b.Field("sha256")}, {a.Field("authenticode"), b.Field("authenticode")}, {a.content, b.content},
	} {
		if pair[0] == "" || pair[0] == pair[1] {
			continue
		}
		if first, ok := c.seen[pair]; ok {
			c.out = append(c.out, Difference{Where: where, Field: sameAs, A: first, B: first, follows: true})
			return true
		}
		c.seen[pair] = where
	}
	return false
}

// sameAs is the field of a Difference whose A names the place that differs in
// the same way.
const sameAs = "same as"

func ownFields(where, parent string, a, b *Node, inner bool) []Difference {
	var own []Difference
	for _, k := range fieldKeys(a, b) {
		x, y := a.Field(k), b.Field(k)
		shown := k == "picture" || a.Kind == "event" && k == "offset" || k == "sha256" && a.Field("text") != b.Field("text")
		if x == y || shown || sumsUp(a.Kind, k) && (inner || k == "authenticode" && len(own) > 0) {
			continue
		}
		d := Difference{Where: where, Field: k, A: x, B: y, follows: consequence(parent, a.Kind, k), sum: onlySum(a, b, k)}
		if isCmdline(a, k) {
			d = compareWords(d)
		}
		own = append(own, d)
	}
	return own
}

// onlySum says whether a field is that of a structure whose parts are the same,
// so that it does not tell what differs.
func onlySum(a, b *Node, key string) bool {
	if a.Kind == "cpio" && key == "times" {
		return strings.Contains(a.Field(key)+b.Field(key), " to ")
	}
	return key == "authenticode" || sumsUp(a.Kind, key) && len(a.Children) > 0
}

// sumsUp says whether a field only sums up what is inside the node.
func sumsUp(kind, key string) bool {
	switch key {
	case "sha256", "authenticode", "layout", "content", "free clusters":
		return true
	case "size":
		return kind == "file" || kind == "cpio" || kind == "section"
	}
	return kind == "cpio" && strings.HasPrefix(key, "archive ")
}

// consequences are fields, by kind, that change when something else does: the
// digest of the lock with every input, places with what lies before them.
var consequences = map[string][]string{
	"manifest":      {"size", "build"},
	"lock":          {"size", "recipe"},
	"configuration": {"build", "root.rootHash", "root.dataBlocks", "root.hashStart", "root.sha256", "root.size"},
	"pe":            {"size", "size of image", "size of headers"},
	"section":       {"offset", "size", "virtual address", "virtual size"},
	"squashfs":      {"size", "inodes", "bytes used"},
	"erofs":         {"size", "inodes", "bytes used"},
	"verity":        {"data blocks"},
	"evidence":      {"size", "nonce"}, // as registers and quotes are of what was measured
	"log":           {"size"},
	"database":      {"size", "records", "blobs"},
	"luks":          {"sequence"},
	"delta":         {"size"},
	"policies":      {"size"},
	"token":         {"size"},
}

func consequence(parent, kind, key string) bool {
	return parent == "manifest" && kind == "file" || parent == "token" && kind == "signature" ||
		kind == "bank" || kind == "quote" || slices.Contains(consequences[kind], key)
}

func isCmdline(n *Node, key string) bool {
	return n.Kind == "section" && n.Name == ".cmdline" && key == "text" || n.Kind == "manifest" && key == "cmdline"
}

// compareWords keeps the words of a command line that are on one side only.
// Those that ingot derives are left out when others differ, too.
func compareWords(d Difference) Difference {
	a, b := strings.Fields(d.A), strings.Fields(d.B)
	x, y := wordsWithout(a, b), wordsWithout(b, a)
	given := func(w string) bool {
		return !strings.HasPrefix(w, "ingot.build=") && !strings.HasPrefix(w, "ingot.roothash=")
	}
	switch {
	case slices.ContainsFunc(append(x, y...), given):
		x, y = keep(x, given), keep(y, given)
	case len(x)+len(y) > 0:
		d.follows = true
	default: // the order alone
		return d
	}
	d.A, d.B = strings.Join(x, " "), strings.Join(y, " ")
	return d
}

func wordsWithout(a, b []string) []string {
	return keep(a, func(w string) bool { return !slices.Contains(b, w) })
}

func keep(words []string, f func(string) bool) []string {
	var out []string
	for _, w := range words {
		if f(w) {
			out = append(out, w)
		}
	}
	return out
}

func fieldKeys(a, b *Node) []string {
	var keys []string
	seen := map[string]bool{}
	for _, f := range append(append([]Field{}, a.Fields...), b.Fields...) {
		if !seen[f.Key] {
			seen[f.Key] = true
			keys = append(keys, f.Key)
		}
	}
	return keys
}

func (c *comparison) children(path []string, a, b *Node) {
	names, left, right := match(a, b)
	for i, name := range names {
		at := append(path[:len(path):len(path)], name)
		x, y := left[i], right[i]
		switch {
		case x == nil:
			c.out = append(c.out, Difference{Where: strings.Join(at, " → "), B: y.Name})
		case y == nil:
			c.out = append(c.out, Difference{Where: strings.Join(at, " → "), A: x.Name})
		default:
			c.nodes(at, a.Kind, x, y)
		}
	}
}

// match pairs the children of two nodes by kind and name; a child that is the
// only one of its kind on both sides is paired whatever its name, because the
// file names of two versions differ.
func match(a, b *Node) (names []string, left, right []*Node) {
	used := map[*Node]bool{}
	for _, x := range a.Children {
		y := partner(x, a, b, used)
		if y != nil {
			used[y] = true
		}
		names, left, right = append(names, label(x)), append(left, x), append(right, y)
	}
	for _, y := range b.Children {
		if !used[y] {
			names, left, right = append(names, label(y)), append(left, nil), append(right, y)
		}
	}
	return names, left, right
}

func partner(x, a, b *Node, used map[*Node]bool) *Node {
	var sameKind []*Node
	for _, y := range b.Children {
		if used[y] || y.Kind != x.Kind {
			continue
		}
		if y.Name == x.Name {
			return y
		}
		sameKind = append(sameKind, y)
	}
	if len(sameKind) == 1 && countKind(a, x.Kind) == 1 && countKind(b, x.Kind) == 1 && !x.inline() {
		return sameKind[0]
	}
	return nil
}

func countKind(n *Node, kind string) int {
	c := 0
	for _, x := range n.Children {
		if x.Kind == kind {
			c++
		}
	}
	return c
}

func label(n *Node) string { return n.Kind + " " + n.Name }
