package strictyaml

import (
	"fmt"
	"strconv"
	"strings"
)

// find walks to the deepest value on a path that exists. It works on the tree
// itself: an index of all paths could be made gigabytes large by long keys.
func (d *Document) find(path string) (n *node, found bool) {
	n = d.root
	for path != "" {
		step, rest, ok := cutStep(path)
		next := child(n, step)
		if !ok || next == nil {
			return n, false
		}
		n, path = next, rest
	}
	return n, true
}

// step is one part of a path: a key, or an item when index is not -1.
type step struct {
	key   string
	index int
}

func child(n *node, s step) *node {
	switch {
	case s.index < 0:
		return n.get(s.key)
	case n.kind == kindList && s.index < len(n.items):
		return n.items[s.index]
	}
	return nil
}

// cutStep takes the first part off a path.
func cutStep(path string) (s step, rest string, ok bool) {
	path = strings.TrimPrefix(path, ".")
	if strings.HasPrefix(path, `["`) {
		quoted, err := strconv.QuotedPrefix(path[1:])
		if err != nil {
			return s, "", false
		}
		key, _ := strconv.Unquote(quoted)
		rest, ok = strings.CutPrefix(path[1+len(quoted):], "]")
		return step{key, -1}, rest, ok
	}
	if strings.HasPrefix(path, "[") {
		num, rest, ok := strings.Cut(path[1:], "]")
		i, err := strconv.Atoi(num)
		return step{"", i}, rest, ok && err == nil && i >= 0
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		end = len(path)
	}
	return step{path[:end], -1}, path[end:], end > 0
}

// At returns line and column of the value at a path such as
// "services[1].command", or of the nearest value around it that exists.
// A nil document has no places: 0, 0.
func (d *Document) At(path string) (line, col int) {
	if d == nil {
		return 0, 0
	}
	n, _ := d.find(path)
	return n.pos.line, n.pos.col
}

// Has reports whether the document itself gives a value at a path.
func (d *Document) Has(path string) bool {
	if d == nil {
		return false
	}
	_, found := d.find(path)
	return found
}

// Errorf makes a finding that points at a path.
func (d *Document) Errorf(path, hint, format string, args ...any) Error {
	line, col := d.At(path)
	file := ""
	if d != nil {
		file = d.File
	}
	return Error{File: file, Line: line, Col: col, Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint}
}
