package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one finding in a file.
type Error struct {
	File      string
	Line, Col int    // from 1, the column counted in characters; 0 when no place is known
	Path      string // "services[1].command"
	Msg       string // what is wrong
	Hint      string // what to do about it; may be empty
}

// Error implements error: "file:line:col: msg" and, on a line of its own, the hint.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	b.WriteString(": ")
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString("\nhint: ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Errors is every finding of a file, in order of place.
type Errors []Error

// Error implements error: one line per finding, each followed by its hint.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Sort orders the findings by file, line, column and text and drops repeats.
func (es *Errors) Sort() {
	slices.SortFunc(*es, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col), cmp.Compare(a.Msg, b.Msg), cmp.Compare(a.Hint, b.Hint), cmp.Compare(a.Path, b.Path))
	})
	*es = slices.CompactFunc(*es, func(a, b Error) bool {
		return a.File == b.File && a.Line == b.Line && a.Col == b.Col && a.Msg == b.Msg
	})
}

// Err returns the findings as an error, or nil when there are none.
func (es Errors) Err() error {
	if len(es) == 0 {
		return nil
	}
	return es
}
