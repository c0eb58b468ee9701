package inspect

// region is a range of a node's bytes that is neither a child nor in any
// field: padding, slack, a table.
type region struct {
	off, end int64
	name     string
}

// region names bytes of the node; empty ranges count for nothing.
func (n *Node) region(off, end int64, name string) {
	if off < end {
		n.regions = append(n.regions, region{off, end, name})
	}
}

// placed says where in its parent's bytes a node lies.
func (n *Node) placed(off, size int64) *Node {
	n.off, n.end = off, off+size
	return n
}

// locate finds the innermost part of a node that holds the byte at off, as
// labels.
func (n *Node) locate(off int64) []string {
	for _, c := range n.Children {
		if c.off <= off && off < c.end {
			return append([]string{label(c)}, c.locate(off-c.off)...)
		}
	}
	for _, r := range n.regions {
		if r.off <= off && off < r.end {
			return []string{r.name}
		}
	}
	return nil
}
