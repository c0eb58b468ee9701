package keydoc

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Section is one chapter of a reference page: the top-level keys it explains,
// with prose before and after them.
type Section struct {
	Title string
	Intro string
	Keys  []string
	Outro string
}

// Markdown returns the reference page. It panics when a key of the type is in
// no section: nothing may be left undocumented.
func Markdown(title, intro string, sections []Section, typ reflect.Type, t *strictyaml.Table) []byte {
	p := page{table: t}
	p.printf("# %s\n\n%s\n", title, strings.TrimSpace(intro))
	done := map[string]bool{}
	fields := map[string]reflect.Type{}
	for _, f := range strictyaml.Fields(typ) {
		fields[f.Name] = f.Type
	}
	for _, s := range sections {
		p.printf("\n## %s\n", s.Title)
		if s.Intro != "" {
			p.printf("\n%s\n", strings.TrimSpace(s.Intro))
		}
		for _, name := range s.Keys {
			p.key(name, fields[name])
			done[name] = true
		}
		if s.Outro != "" {
			p.printf("\n%s\n", strings.TrimSpace(s.Outro))
		}
	}
	for name := range fields {
		if !done[name] {
			panic("keydoc: key in no section: " + name)
		}
	}
	return []byte(p.b.String())
}

type page struct {
	b     strings.Builder
	table *strictyaml.Table
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// key writes one top-level key: its meaning, an example, and a table of what is below it.
func (p *page) key(name string, typ reflect.Type) {
	k := p.lookup(name)
	p.printf("\n### `%s`\n\n%s\n\n", name, k.Doc)
	p.printf("*%s*", strings.Join(p.facts(typ, name, k), " · "))
	p.printf("\n")
	if k.Example != "" {
		p.printf("\n```yaml\n%s\n```\n", k.Example)
	}
	rows := p.rows(nil, typ, name, "")
	if len(rows) == 0 {
		return
	}
	p.printf("\n| key | type | default | meaning |\n|---|---|---|---|\n")
	for _, r := range rows {
		p.printf("%s\n", r)
	}
}

// lookup wants every key described.
func (p *page) lookup(path string) *strictyaml.Key {
	k := p.table.Lookup(path)
	if k == nil || k.Doc == "" {
		panic("keydoc: no description of " + path)
	}
	return k
}

// facts are the type, whether it must be there, the default and the bounds.
func (p *page) facts(typ reflect.Type, path string, k *strictyaml.Key) []string {
	out := []string{p.typeName(typ, path)}
	if k.Required {
		out = append(out, "required")
	}
	if k.Default != "" {
		out = append(out, "default: "+k.Default)
	}
	return append(out, bounds(p.table, path, k)...)
}

// bounds says in words what a value may be.
func bounds(t *strictyaml.Table, path string, k *strictyaml.Key) []string {
	var out []string
	values := k
	if item := t.Lookup(path + "[]"); item != nil && len(k.Enum) == 0 {
		values = item
	}
	switch {
	case len(values.Enum) > 12:
		out = append(out, "one of the "+fmt.Sprint(len(values.Enum))+" names in the schema")
	case len(values.Enum) > 0:
		out = append(out, "one of `"+strings.Join(values.Enum, "`, `")+"`")
	case len(k.Values) > 0:
		out = append(out, "one of "+strings.Trim(strings.ReplaceAll(fmt.Sprint(k.Values), " ", ", "), "[]"))
	case k.Max != 0:
		out = append(out, fmt.Sprintf("%d to %d", k.Min, k.Max))
	case values.Expect != "" && values.Pattern != "":
		out = append(out, values.Expect)
	}
	if k.With != "" {
		out = append(out, "only with `"+k.With+"`")
	}
	if k.Without != "" {
		out = append(out, "not with `"+k.Without+"`")
	}
	return out
}

// rows lists everything below a key, depth first, keys named from that key on.
func (p *page) rows(rows []string, typ reflect.Type, path, shown string) []string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Kind() == reflect.Slice {
			path += "[]"
		}
		typ = typ.Elem()
	}
	if _, ok := reflect.New(typ).Interface().(Scalar); ok || typ.Kind() != reflect.Struct {
		return rows
	}
	for _, f := range strictyaml.Fields(typ) {
		sub, name := path+"."+f.Name, strings.TrimPrefix(shown+"."+f.Name, ".")
		k := p.lookup(sub)
		def := k.Default
		if k.Required {
			def = "**required**"
		}
		meaning := k.Doc
		if b := bounds(p.table, sub, k); len(b) > 0 {
			meaning += " *" + strings.Join(b, " · ") + "*"
		}
		if k.Example != "" && !strings.Contains(k.Example, "\n") {
			meaning += " Example: `" + k.Example + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", name, p.typeName(f.Type, sub), cell(def), cell(meaning)))
		rows = p.rows(rows, f.Type, sub, name)
	}
	return rows
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// plural is what a list has several of.
func plural(name string) string {
	switch {
	case strings.HasSuffix(name, "ss"):
		return name + "es"
	case strings.HasSuffix(name, "s"):
		return name
	}
	return name + "s"
}

// typeName names a type for readers who do not know Go.
func (p *page) typeName(typ reflect.Type, path string) string {
	if sc, ok := reflect.New(typ).Interface().(Scalar); ok {
		name, _, _ := strings.Cut(sc.YAMLName(), " such as")
		return strings.TrimPrefix(strings.TrimPrefix(name, "an "), "a ")
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return p.typeName(typ.Elem(), path)
	case reflect.Slice:
		elem := typ.Elem()
		return "list of " + plural(p.typeName(elem, path+"[]"))
	case reflect.Struct:
		return "mapping"
	case reflect.Map:
		return "mapping of texts"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	}
	return "number"
}
