package inspect

import (
	"fmt"
	"strings"
)

// Difference is one place where two artifacts are not the same.
type Difference struct {
	Where string `json:"where"` // "partition 2 slot-a → file EFI/BOOT/BOOTX64.EFI → section .cmdline"
	Field string `json:"field,omitempty"`
	A     string `json:"a,omitempty"`
	B     string `json:"b,omitempty"`
}

// String is one line for people.
func (d Difference) String() string {
	switch {
	case d.Field == "" && d.A == "":
		return d.Where + ": only in B"
	case d.Field == "" && d.B == "":
		return d.Where + ": only in A"
	case strings.Contains(d.A+d.B, "\n"):
		return fmt.Sprintf("%s: %s:\n    A: %s\n    B: %s", d.Where, d.Field, indent(d.A), indent(d.B))
	}
	return fmt.Sprintf("%s: %s: %s, %s", d.Where, d.Field, d.A, d.B)
}

func indent(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n       ") }

// Diff lists how two inspected artifacts differ, in the order of their
// structure: the first difference is the first thing to look at. A digest that
// differs only because something inside it differs is left out, so causes
// stand alone.
func Diff(a, b *Node) []Difference {
	var out []Difference
	compare(nil, a, b, &out)
	return out
}

func compare(path []string, a, b *Node, out *[]Difference) {
	where := strings.Join(path, " → ")
	if where == "" {
		where = a.Kind
	}
	if a.Kind != b.Kind {
		*out = append(*out, Difference{where, "kind", a.Kind, b.Kind})
		return
	}
	before := len(*out)
	compareChildren(path, a, b, out)
	inner := len(*out) > before
	var own []Difference
	for _, k := range fieldKeys(a, b) {
		x, y := a.Field(k), b.Field(k)
		if x != y && !(inner && derivedField(k)) {
			own = append(own, Difference{where, k, x, y})
		}
	}
	// A node's own fields come before what is inside it.
	*out = append((*out)[:before:before], append(own, (*out)[before:]...)...)
}

// derivedField says whether a field only sums up what is inside the node.
func derivedField(key string) bool {
	return key == "sha256" || key == "authenticode" || key == "picture" || key == "free clusters" || key == "build"
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

func compareChildren(path []string, a, b *Node, out *[]Difference) {
	names, left, right := match(a, b)
	for i, name := range names {
		at := append(path[:len(path):len(path)], name)
		x, y := left[i], right[i]
		switch {
		case x == nil:
			*out = append(*out, Difference{Where: strings.Join(at, " → "), B: y.Name})
		case y == nil:
			*out = append(*out, Difference{Where: strings.Join(at, " → "), A: x.Name})
		default:
			compare(at, x, y, out)
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
