package strictyaml

// kind is the shape of a value as it was written.
type kind int

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindString
	kindList
	kindMap
)

// String names a kind in the words of the error messages.
func (k kind) String() string {
	return [...]string{"nothing", "a boolean", "a number", "a number with a fraction", "text", "a list", "a mapping"}[k]
}

// pos is a place in the file, from 1.
type pos struct{ line, col int }

// node is one value. Aliases share the node of their anchor, so the whole is
// a DAG; weight bounds what walking it can cost.
type node struct {
	kind   kind
	pos    pos
	text   string // scalars: as written, quotes and escapes resolved
	pairs  []pair
	items  []*node
	weight int // nodes in the expanded subtree
	height int // levels below this one
}

// pair is one entry of a mapping, in file order.
type pair struct {
	key   string
	pos   pos
	value *node
}

// get returns the value of a key, or nil.
func (n *node) get(key string) *node {
	for i := range n.pairs {
		if n.pairs[i].key == key {
			return n.pairs[i].value
		}
	}
	return nil
}
