package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Decode fills the struct that v points to and checks every value against the
// table. Fields are named by their yaml tag, ",inline" embeds, "-" skips. A
// type with UnmarshalText reads itself from a scalar; if its error has a
// method Hint() string, that becomes the hint. v keeps what could be read
// even when there are errors, so that later rules can still look at it.
func (d *Document) Decode(v any, t *Table) Errors {
	dec := &decoder{doc: d, table: t, errs: append(Errors(nil), d.dups...)}
	dec.value(d.root, reflect.ValueOf(v).Elem(), "", "")
	dec.errs.Sort()
	if dec.dropped > 0 {
		dec.errs = append(dec.errs, Error{File: d.File, Msg: fmt.Sprintf("%d more errors are not shown", dec.dropped)})
	}
	return dec.errs
}

type decoder struct {
	doc   *Document
	table *Table
	errs  Errors
	// dropped counts findings beyond maxErrors: a hostile file can hold more
	// mistakes than memory should hold messages.
	dropped int
}

func (d *decoder) errorf(p pos, path, hint, format string, args ...any) {
	if d.full() {
		d.dropped++
		return
	}
	d.errs = append(d.errs, Error{File: d.doc.File, Line: p.line, Col: p.col, Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint})
}

// full says that no more findings are kept, so their hints need not be computed.
func (d *decoder) full() bool { return len(d.errs) >= maxErrors }

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// value decodes one node; path is the place in this file, generic the place in the table.
func (d *decoder) value(n *node, v reflect.Value, path, generic string) {
	if n.kind == kindNull {
		d.errorf(n.pos, path, "give it a value or remove the line", "%s is empty, want %s", named(path), want(v.Type()))
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path, generic)
	case v.CanAddr() && v.Addr().Type().Implements(textType):
		d.text(n, v, path, generic)
	default:
		d.plain(n, v, path, generic)
	}
}

func (d *decoder) plain(n *node, v reflect.Value, path, generic string) {
	switch v.Kind() {
	case reflect.Struct:
		if d.is(n, kindMap, v, path) {
			d.structure(n, v, path, generic)
		}
	case reflect.Slice:
		if d.is(n, kindList, v, path) {
			d.list(n, v, path, generic)
		}
	case reflect.Map:
		if d.is(n, kindMap, v, path) {
			d.mapping(n, v, path, generic)
		}
	case reflect.String:
		if d.is(n, kindString, v, path) && d.checkText(n, path, generic) {
			v.SetString(n.text)
		}
	case reflect.Bool:
		if d.is(n, kindBool, v, path) {
			v.SetBool(strings.EqualFold(n.text, "true"))
		}
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint32, reflect.Uint16, reflect.Uint64:
		if d.is(n, kindInt, v, path) {
			d.number(n, v, path, generic)
		}
	default:
		panic("strictyaml: cannot decode into " + v.Type().String())
	}
}

// is reports a value of another shape than the key takes.
func (d *decoder) is(n *node, k kind, v reflect.Value, path string) bool {
	if n.kind == k {
		return true
	}
	hint := shapeHint(n, k, path)
	if key := d.table.Lookup(path); hint == "" && key != nil {
		hint = key.Expect
	}
	d.errorf(n.pos, path, hint, "%s is %s, want %s", named(path), shape(n), want(v.Type()))
	return false
}

// shape names what was found, with the text of a short scalar.
func shape(n *node) string {
	if n.text == "" || len(n.text) > 40 {
		return n.kind.String()
	}
	return fmt.Sprintf("%s (%s)", n.kind, n.text)
}

func shapeHint(n *node, k kind, path string) string {
	key := path[strings.LastIndexAny(path, ".]")+1:]
	switch {
	case k == kindString && (n.kind == kindInt || n.kind == kindFloat || n.kind == kindBool):
		return fmt.Sprintf("quote it: %q", n.text)
	case k == kindBool && n.kind == kindString:
		switch strings.ToLower(n.text) {
		case "yes", "on", "y":
			return "write true"
		case "no", "off", "n":
			return "write false"
		}
		return "write true or false"
	case k == kindInt && n.kind == kindString:
		return "write the number without quotes and units"
	case k == kindList && n.kind == kindMap && key != "":
		return fmt.Sprintf("start each entry of %s: with a dash: \"- ...\"", key)
	case k == kindList && n.text != "" && len(n.text) <= 40:
		return fmt.Sprintf("write a list: [%s]", n.text)
	case k == kindMap && n.kind == kindList && key != "":
		return fmt.Sprintf("%s: takes one mapping: remove the dash", key)
	}
	return ""
}

func (d *decoder) list(n *node, v reflect.Value, path, generic string) {
	if k := d.table.Lookup(generic); k != nil && len(n.items) < k.MinLen {
		d.errorf(n.pos, path, k.Expect, "%s has %d entries, want at least %d", named(path), len(n.items), k.MinLen)
	}
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		d.value(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i), generic+"[]")
	}
	v.Set(out)
}

func (d *decoder) mapping(n *node, v reflect.Value, path, generic string) {
	out := reflect.MakeMap(v.Type())
	for _, p := range n.pairs {
		sub := join(path, p.key)
		if k := d.table.Lookup(generic); k != nil && k.Match != nil && !k.Match(p.key) {
			d.errorf(p.pos, sub, "want "+k.Expect, "name %q is not allowed in %s", p.key, named(path))
			continue
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		d.value(p.value, elem, sub, generic+"{}")
		out.SetMapIndex(reflect.ValueOf(p.key).Convert(v.Type().Key()), elem)
	}
	v.Set(out)
}

func (d *decoder) number(n *node, v reflect.Value, path, generic string) {
	lo, hi := limits(v.Type())
	if k := d.table.Lookup(generic); k != nil && (k.Min != 0 || k.Max != 0) {
		lo, hi = k.Min, k.Max
	}
	i, err := strconv.ParseInt(n.text, 10, 64)
	if err != nil || len(n.text) > 1 && n.text[0] == '0' {
		d.errorf(n.pos, path, "write a plain decimal number", "%s is %s, which is not a decimal whole number", named(path), n.text)
		return
	}
	if k := d.table.Lookup(generic); k != nil && len(k.Values) > 0 && !slices.Contains(k.Values, i) {
		d.errorf(n.pos, path, fmt.Sprintf("one of %s", strings.Trim(fmt.Sprint(k.Values), "[]")), "%s is %d, which is not known", named(path), i)
		return
	}
	if i < lo || i > hi {
		d.errorf(n.pos, path, fmt.Sprintf("use a number from %d to %d", lo, hi), "%s is %d, out of range", named(path), i)
		return
	}
	if v.CanInt() {
		v.SetInt(i)
	} else {
		v.SetUint(uint64(i))
	}
}

// limits is the range of an integer type as far as a document may use it.
func limits(t reflect.Type) (lo, hi int64) {
	switch t.Kind() {
	case reflect.Uint16:
		return 0, 1<<16 - 1
	case reflect.Uint32:
		return 0, 1<<32 - 1
	case reflect.Uint64:
		return 0, 1<<63 - 1
	case reflect.Int32:
		return -1 << 31, 1<<31 - 1
	}
	return -1 << 53, 1<<53 - 1 // what JSON carries exactly
}

// checkText applies the table to a text value.
func (d *decoder) checkText(n *node, path, generic string) bool {
	k := d.table.Lookup(generic)
	if k == nil {
		return true
	}
	if len(k.Enum) > 0 && !slices.Contains(k.Enum, n.text) {
		hint := Choices(n.text, k.Enum)
		if means := k.Means[strings.ToLower(n.text)]; means != "" {
			hint = "write " + means
		}
		d.errorf(n.pos, path, hint, "%s is %q, which is not known", named(path), n.text)
		return false
	}
	got := len([]rune(n.text))
	if got == 0 && k.MinLen > 0 {
		d.errorf(n.pos, path, "give it a value or remove the line", "%s is empty", named(path))
		return false
	}
	if got < k.MinLen {
		d.errorf(n.pos, path, "say more", "%s is %q, want at least %d characters", named(path), n.text, k.MinLen)
		return false
	}
	if k.MaxLen > 0 && got > k.MaxLen {
		d.errorf(n.pos, path, "shorten it", "%s has %d characters, the limit is %d", named(path), got, k.MaxLen)
		return false
	}
	if k.Match != nil && !k.Match(n.text) {
		d.errorf(n.pos, path, "want "+k.Expect, "%s is %q, which is not allowed", named(path), n.text)
		return false
	}
	return true
}

// text decodes types that read themselves. They see numbers as they were
// written, so that mode: 0644 keeps its octal digits.
func (d *decoder) text(n *node, v reflect.Value, path, generic string) {
	if n.kind != kindString && n.kind != kindInt {
		d.errorf(n.pos, path, "", "%s is %s, want %s", named(path), shape(n), want(v.Type()))
		return
	}
	err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.text))
	if err == nil {
		return
	}
	hint := ""
	if h, ok := err.(interface{ Hint() string }); ok {
		hint = h.Hint()
	}
	d.errorf(n.pos, path, hint, "%s is %q: %v", named(path), n.text, err)
}

// named is the subject of a message.
func named(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

// Named lets a type say what it wants in error messages: "a size".
type Named interface{ YAMLName() string }

// want names what a Go type takes.
func want(t reflect.Type) string {
	if n, ok := reflect.New(t).Interface().(Named); ok {
		return n.YAMLName()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return want(t.Elem())
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	}
	return "a whole number"
}
