package strictyaml

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// builder turns the library's tree into ours: scalars typed, aliases resolved.
type builder struct {
	file    string
	anchors map[string]*node
	fatal   Errors // the document has no meaning
	dups    Errors // duplicate keys: reported together with what the decoder finds
}

func (b *builder) failf(p pos, hint, format string, args ...any) *node {
	if len(b.fatal) < maxErrors {
		b.fatal = append(b.fatal, Error{File: b.file, Line: p.line, Col: p.col, Msg: fmt.Sprintf(format, args...), Hint: hint})
	}
	return &node{pos: p, weight: 1}
}

// at is where a reader looks for a node: the first key of a block mapping, not its colon.
func at(n ast.Node) pos {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return at(n.Values[0])
		}
		return tokenPos(n)
	case *ast.MappingValueNode:
		return at(n.Key)
	}
	return tokenPos(n)
}

func tokenPos(n ast.Node) pos {
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return pos{1, 1}
	}
	return pos{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// build converts one value. Depth is bounded here as well because block
// nesting by indentation passes the token check.
func (b *builder) build(n ast.Node, depth int) *node {
	p := at(n)
	if depth > maxDepth {
		return b.failf(p, "", "values nested deeper than %d", maxDepth)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return b.mapping(p, n.Values, depth)
	case *ast.MappingValueNode:
		return b.mapping(p, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		return b.list(p, n, depth)
	case *ast.AnchorNode:
		return b.anchor(p, n, depth)
	case *ast.AliasNode:
		return b.alias(p, n)
	case *ast.TagNode:
		return b.failf(p, "remove the tag: every key knows its own type", "tag %s is not supported", n.Start.Value)
	}
	return b.scalar(p, n)
}

func (b *builder) scalar(p pos, n ast.Node) *node {
	out := &node{pos: p, weight: 1}
	switch n := n.(type) {
	case *ast.NullNode:
		out.kind = kindNull
	case *ast.BoolNode:
		out.kind, out.text = kindBool, n.Token.Value
	case *ast.IntegerNode:
		out.kind, out.text = kindInt, n.Token.Value
	case *ast.FloatNode:
		out.kind, out.text = kindFloat, n.Token.Value
	case *ast.InfinityNode:
		out.kind, out.text = kindFloat, n.Token.Value
	case *ast.NanNode:
		out.kind, out.text = kindFloat, n.Token.Value
	case *ast.StringNode:
		out.kind, out.text = kindString, n.Value
	case *ast.LiteralNode:
		out.kind, out.text = kindString, n.Value.Value
	default:
		return b.failf(p, "", "%s is not supported here", strings.ToLower(n.Type().String()))
	}
	return out
}

func (b *builder) mapping(p pos, values []*ast.MappingValueNode, depth int) *node {
	out := &node{kind: kindMap, pos: p, weight: 1}
	seen := map[string]pos{}
	for _, v := range values {
		kp := at(v.Key)
		key, ok := b.key(kp, v.Key)
		if !ok {
			continue
		}
		if len(key) > maxKey {
			b.failf(kp, "", "a key of %d bytes, the limit is %d", len(key), maxKey)
			continue
		}
		value := b.build(v.Value, depth+1)
		if value.kind == kindNull { // written as nothing: point to the key
			value = &node{pos: kp, weight: 1}
		}
		if first, dup := seen[key]; dup {
			if len(b.dups) < maxErrors {
				b.dups = append(b.dups, Error{File: b.file, Line: kp.line, Col: kp.col, Path: key, Msg: fmt.Sprintf("key %q is given twice", key),
					Hint: fmt.Sprintf("the first is on line %d: keep one of them", first.line)})
			}
			continue
		}
		seen[key] = kp
		out.pairs = append(out.pairs, pair{key, kp, value})
		b.weigh(out, value)
	}
	return out
}

// key accepts plain and quoted text. A number or boolean as key is text that
// lost its quotes; a mapping or list as key has no use here.
func (b *builder) key(p pos, n ast.MapKeyNode) (string, bool) {
	switch k := n.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.MergeKeyNode:
		b.failf(p, "write the keys out, or use an alias for a whole value", "merge key << is not part of YAML 1.2")
	case *ast.MappingKeyNode:
		if s, ok := k.Value.(*ast.StringNode); ok {
			return s.Value, true
		}
		b.failf(p, "", "a key must be text")
	default:
		b.failf(p, fmt.Sprintf("write %q", n.GetToken().Value), "a key must be text")
	}
	return "", false
}

func (b *builder) list(p pos, n *ast.SequenceNode, depth int) *node {
	out := &node{kind: kindList, pos: p, weight: 1}
	for _, v := range n.Values {
		item := b.build(v, depth+1)
		out.items = append(out.items, item)
		b.weigh(out, item)
	}
	return out
}

// weigh adds a child to its parent's cost and stops the bomb before anyone walks it.
func (b *builder) weigh(parent, child *node) {
	parent.weight += child.weight
	parent.height = max(parent.height, child.height+1)
	switch {
	case parent.weight > maxWeight:
		parent.weight = 1
		b.failf(child.pos, "", "aliases expand to more than %d values", maxWeight)
	case parent.height > maxDepth:
		parent.height = 0
		b.failf(child.pos, "", "values nested deeper than %d", maxDepth)
	}
}

func (b *builder) anchor(p pos, n *ast.AnchorNode, depth int) *node {
	value := b.build(n.Value, depth+1)
	name := n.Name.GetToken().Value
	// Registered after its value is built: an alias inside its own anchor is unknown, not endless.
	b.anchors[name] = value
	return value
}

func (b *builder) alias(p pos, n *ast.AliasNode) *node {
	name := n.Value.GetToken().Value
	if v, ok := b.anchors[name]; ok {
		return v
	}
	return b.failf(p, fmt.Sprintf("put &%s before the value it stands for, above this line", name), "alias *%s has no anchor before it", name)
}
