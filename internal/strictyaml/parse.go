package strictyaml

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits bounds a document; zero fields take the defaults.
type Limits struct {
	Size int // bytes, default 1 MiB
}

// The bounds that are not options. A recipe that needs more is not a recipe.
const (
	defaultSize = 1 << 20
	maxDepth    = 64     // nesting of values
	maxTokens   = 60_000 // the parser is quadratic in the keys of one mapping: this many take 0.3 s
	maxKey      = 256    // bytes of one key
	maxWeight   = 50_000 // nodes after aliases are expanded ("billion laughs")
	maxErrors   = 100    // findings reported for one file
)

// Document is a parsed file. It keeps the places of all values.
type Document struct {
	File string
	root *node
	dups Errors // duplicate keys, reported by Decode
}

// Parse reads one YAML document. The error is of type Errors.
func Parse(file string, data []byte, lim Limits) (doc *Document, err error) {
	if lim.Size == 0 {
		lim.Size = defaultSize
	}
	if e := checkBytes(file, data, lim.Size); e != nil {
		return nil, Errors{*e}
	}
	// The parser is a large third-party state machine: a panic in it must not
	// take down PID 1, which reads machine.yaml through here.
	defer func() {
		if r := recover(); r != nil {
			doc, err = nil, Errors{{File: file, Line: 1, Col: 1, Msg: "not valid YAML", Hint: "check indentation and quotes"}}
		}
	}()
	body, e := parseBody(file, data)
	if e != nil {
		return nil, Errors{*e}
	}
	b := &builder{file: file, anchors: map[string]*node{}}
	root := b.build(body, 0)
	if len(b.fatal) > 0 {
		b.fatal.Sort()
		return nil, b.fatal
	}
	return &Document{File: file, root: root, dups: b.dups}, nil
}

func checkBytes(file string, data []byte, size int) *Error {
	if len(data) > size {
		return &Error{File: file, Line: 1, Col: 1, Msg: fmt.Sprintf("file has %d bytes, the limit is %d", len(data), size),
			Hint: "keep large content in files of its own and name them with source:"}
	}
	for off := 0; off < len(data); {
		r, n := utf8.DecodeRune(data[off:])
		control := r < 0x20 && r != '\n' && r != '\r' && r != '\t' || r == 0x7f || r == 0xfeff
		if r == utf8.RuneError && n == 1 || control {
			p := place(data[:off])
			what := fmt.Sprintf("byte 0x%02x is not UTF-8 text", data[off])
			if n > 1 || control {
				what = fmt.Sprintf("character U+%04X is not allowed in YAML text", r)
			}
			return &Error{File: file, Line: p.line, Col: p.col, Msg: what, Hint: "save the file as UTF-8 without byte order mark; write control characters as \"\\x..\""}
		}
		off += n
	}
	return nil
}

// place is the position just after data.
func place(data []byte) pos {
	last := bytes.LastIndexByte(data, '\n')
	return pos{bytes.Count(data, []byte{'\n'}) + 1, utf8.RuneCount(data[last+1:]) + 1}
}

// parseBody runs lexer and parser and returns the body of the only document.
func parseBody(file string, data []byte) (ast.Node, *Error) {
	tokens := lexer.Tokenize(string(data))
	if e := checkTokens(file, tokens); e != nil {
		return nil, e
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(file, err)
	}
	var body ast.Node
	for _, d := range f.Docs {
		if d.Body == nil {
			continue
		}
		if body != nil {
			p := at(d.Body)
			return nil, &Error{File: file, Line: p.line, Col: p.col, Msg: "a second document in one file", Hint: "keep one document; remove everything from the second --- on"}
		}
		body = d.Body
	}
	if body == nil {
		return nil, &Error{File: file, Line: 1, Col: 1, Msg: "the file is empty", Hint: "ingot init DIR writes a complete example"}
	}
	return body, nil
}

// checkTokens refuses what would make the parser recurse too deep or run too long.
func checkTokens(file string, tokens token.Tokens) *Error {
	flow, line, inLine := 0, 0, 0
	for i, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(flow-1, 0)
		}
		if t.Position.Line != line {
			line, inLine = t.Position.Line, 0
		}
		switch t.Type {
		// Each of these opens a level on the same line: "- - - x", "? ? x", "&a &b x".
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType, token.MappingValueType:
			if flow == 0 {
				inLine++
			}
		}
		if flow > maxDepth || inLine > maxDepth {
			return &Error{File: file, Line: t.Position.Line, Col: t.Position.Column, Msg: fmt.Sprintf("values nested deeper than %d", maxDepth)}
		}
		if i >= maxTokens {
			return &Error{File: file, Line: t.Position.Line, Col: t.Position.Column, Msg: fmt.Sprintf("more than %d words and signs", maxTokens),
				Hint: "keep large content in files of its own and name them with source:"}
		}
	}
	return nil
}

// syntaxError turns the parser's error into ours. Its type is internal to the
// library, the two methods are its documented surface.
func syntaxError(file string, err error) *Error {
	out := &Error{File: file, Line: 1, Col: 1, Msg: "not valid YAML", Hint: "check indentation (spaces, not tabs) and quotes"}
	e, ok := err.(interface {
		GetMessage() string
		GetToken() *token.Token
	})
	if !ok {
		return out
	}
	out.Msg = "not valid YAML: " + e.GetMessage()
	if t := e.GetToken(); t != nil && t.Position != nil {
		out.Line, out.Col = max(t.Position.Line, 1), max(t.Position.Column, 1)
	}
	return out
}
