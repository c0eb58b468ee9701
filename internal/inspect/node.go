// Package inspect explains artifacts: it reads anything that ingot writes (a
// disk, a partition table, FAT, a UKI, an initramfs, squashfs, erofs, verity,
// the state partition, an encrypted volume's header, a slot's delta, manifest,
// lock, variable store, evidence, a server's state) into one kind of tree, which
// prints as stable text or JSON, and which Diff compares.
//
// Everything is read through the formats' own readers, so hostile input ends
// in a field named "problem", never in a panic.
package inspect

import (
	"fmt"
	"io"
	"strings"

	"github.com/ingot-os/ingot/internal/visible"
)

// Node is one thing inside an artifact: a partition, a file, a section.
type Node struct {
	Name     string  `json:"name"`
	Kind     string  `json:"kind"`
	Fields   []Field `json:"fields,omitempty"`
	Children []*Node `json:"children,omitempty"`

	// For Compare: content is a name that two nodes of one artifact share when
	// their bytes are the same, other finds the first byte that differs from
	// the node's partner in the other artifact.
	content string
	other   func() (*Difference, error)

	details  []Field  // facts that only Diff sees
	order    []string // names of the entries as they are stored
	regions  []region // bytes that no child holds
	off, end int64    // bytes of the parent that the node is, when known
}

// Field is one fact about a Node, in the words of the format's specification.
type Field struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// add appends a field unless its value is empty.
func (n *Node) add(key string, value any) {
	if s := fmt.Sprint(value); s != "" {
		n.Fields = append(n.Fields, Field{key, s})
	}
}

// child appends a new node below n.
func (n *Node) child(kind, name string) *Node {
	c := &Node{Kind: kind, Name: name}
	n.Children = append(n.Children, c)
	return c
}

// Field returns the value of a key, or "".
func (n *Node) Field(key string) string {
	for _, f := range n.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}

// Find returns the first node below n, itself included, of a kind and name.
func (n *Node) Find(kind, name string) *Node {
	if n.Kind == kind && n.Name == name {
		return n
	}
	for _, c := range n.Children {
		if f := c.Find(kind, name); f != nil {
			return f
		}
	}
	return nil
}

// WriteText prints the tree, two spaces for each level.
func (n *Node) WriteText(w io.Writer) error { return n.write(w, 0) }

func (n *Node) write(w io.Writer, depth int) error {
	pad := strings.Repeat("  ", depth)
	if _, err := fmt.Fprintf(w, "%s%s %s%s\n", pad, n.Kind, visible.Line(n.Name), n.oneLine()); err != nil {
		return err
	}
	if !n.inline() {
		width := 0
		for _, f := range n.Fields {
			width = max(width, len(f.Key))
		}
		for _, f := range n.Fields {
			value := strings.ReplaceAll(visible.Lines(strings.TrimRight(f.Value, "\n")), "\n", "\n"+pad+strings.Repeat(" ", width+6))
			if _, err := fmt.Fprintf(w, "%s    %-*s  %s\n", pad, width, visible.Line(f.Key), value); err != nil {
				return err
			}
		}
	}
	for _, c := range n.Children {
		if err := c.write(w, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// inline says whether the node prints as one line: entries of trees do, so
// that a file listing reads like one.
func (n *Node) inline() bool {
	return n.Kind == "file" || n.Kind == "dir" || n.Kind == "link" || n.Kind == "special" || n.Kind == "input" || n.Kind == "event" || n.Kind == "host"
}

func (n *Node) oneLine() string {
	if !n.inline() || len(n.Fields) == 0 {
		return ""
	}
	var s strings.Builder
	for _, f := range n.Fields {
		fmt.Fprintf(&s, "  %s=%s", visible.Line(f.Key), visible.Line(f.Value))
	}
	return s.String()
}
