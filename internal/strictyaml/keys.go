package strictyaml

import "strings"

// Key describes one key of a document: what the decoder enforces, what the
// JSON Schema says and what the reference page prints.
type Key struct {
	// Path is the generic path: "services[].health.tcp", with [] for any item
	// of a list and {} for any value of a mapping with free keys. A path that
	// ends in [] or {} constrains the items themselves; "" is the document.
	Path string

	Required bool
	Enum     []string // the only texts allowed
	Pattern  string   // RE2 that the text (of a mapping with free keys: each key) must match, anchored by the author
	Expect   string   // the pattern in words: "lower case letters, digits and dashes"
	// Match says of a text what Pattern says. It is a function because package
	// regexp, with the tables of Unicode, is 0.25 MB that machine.yaml would
	// bring into ingot-init for four patterns.
	Match    func(text string) bool
	Min, Max int64    // numbers: bounds, inclusive; both 0 means none
	Values   []int64  // the only numbers allowed
	MinLen   int      // lists: fewest items; texts: fewest characters
	MaxLen   int      // texts: most characters; 0 means no bound
	OneOf    []string // mappings: exactly one of these keys is given
	Any      []string // mappings: at least one of these keys is given
	With     string   // this key has a meaning only beside that one
	Without  string   // this key has no meaning beside that one
	Also     []string // names people try instead; only for hints

	Means map[string]string // texts people try -> what they mean here; only for hints

	Default string // as printed
	Doc     string // one paragraph, plain text with `code`
	Example string // YAML, shown under Doc
}

// Table is a compiled set of keys.
type Table struct {
	Keys   []Key // in the order given
	byPath map[string]*Key
}

// NewTable makes a table of keys. It panics on a pattern without Match or a
// path given twice: tables are written in source code.
func NewTable(keys ...Key) *Table {
	t := &Table{Keys: keys, byPath: map[string]*Key{}}
	for i := range keys {
		k := &keys[i]
		if t.byPath[k.Path] != nil {
			panic("strictyaml: key described twice: " + k.Path)
		}
		t.byPath[k.Path] = k
		if k.Pattern != "" && k.Match == nil {
			panic("strictyaml: nothing to match the pattern of key " + k.Path)
		}
	}
	return t
}

// Lookup returns the description of a generic path, or nil.
func (t *Table) Lookup(path string) *Key {
	if t == nil {
		return nil
	}
	return t.byPath[path]
}

// Under returns the same keys moved below a prefix: the network interfaces of
// a recipe are described once and used by machine.yaml too.
func Under(prefix string, keys []Key) []Key {
	out := make([]Key, len(keys))
	for i, k := range keys {
		k.Path = prefix + k.Path
		out[i] = k
	}
	return out
}

// homes returns the generic paths of all mappings that know a key of this name.
func (t *Table) homes(name string) []string {
	if t == nil {
		return nil
	}
	var out []string
	for i := range t.Keys {
		if parent, last, ok := cutLast(t.Keys[i].Path); ok && last == name {
			out = append(out, parent)
		}
	}
	return out
}

// alias returns the right name for one that people try at a place.
func (t *Table) alias(parent, name string) string {
	if t == nil {
		return ""
	}
	for i := range t.Keys {
		p, last, ok := cutLast(t.Keys[i].Path)
		if !ok || p != parent {
			continue
		}
		for _, a := range t.Keys[i].Also {
			if strings.EqualFold(a, name) {
				return last
			}
		}
	}
	return ""
}

// cutLast splits "a[].b" into "a[]" and "b"; item paths have no last name.
func cutLast(path string) (parent, last string, ok bool) {
	if path == "" || strings.HasSuffix(path, "]") || strings.HasSuffix(path, "}") {
		return "", "", false
	}
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return "", path, true
}
