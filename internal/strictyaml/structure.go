package strictyaml

import (
	"fmt"
	"reflect"
	"strings"
)

// Field is one key that a struct takes.
type Field struct {
	Name  string
	Index []int
	Type  reflect.Type
}

// Fields lists the keys of a struct type in source order, embedded ones in place.
func Fields(t reflect.Type) []Field {
	var out []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case opts == "inline":
			for _, sub := range Fields(f.Type) {
				sub.Index = append([]int{i}, sub.Index...)
				out = append(out, sub)
			}
		case name != "":
			out = append(out, Field{name, []int{i}, f.Type})
		}
	}
	return out
}

// structure decodes a mapping with known keys.
func (d *decoder) structure(n *node, v reflect.Value, path, generic string) {
	fields := Fields(v.Type())
	names := make([]string, len(fields))
	byName := map[string]Field{}
	for i, f := range fields {
		names[i], byName[f.Name] = f.Name, f
	}
	for _, p := range n.pairs {
		f, ok := byName[p.key]
		if !ok {
			if d.full() {
				d.dropped++
				continue
			}
			d.errorf(p.pos, join(path, p.key), keyHint(d.table, generic, p.key, names), "unknown key %s", quoteKey(p.key))
			continue
		}
		d.value(p.value, v.FieldByIndex(f.Index), join(path, p.key), joinGeneric(generic, p.key))
	}
	d.required(n, fields, path, generic)
	d.groups(n, path, generic)
}

func quoteKey(key string) string {
	if len(key) > 60 {
		key = key[:60] + "..."
	}
	return fmt.Sprintf("%q", key)
}

func (d *decoder) required(n *node, fields []Field, path, generic string) {
	for _, f := range fields {
		k := d.table.Lookup(joinGeneric(generic, f.Name))
		switch {
		case k == nil:
		case k.Required && n.get(f.Name) == nil:
			d.errorf(n.pos, join(path, f.Name), exampleHint(k, f.Name), "key %s is missing%s", f.Name, in(path))
		case k.With != "" && n.get(f.Name) != nil && n.get(k.With) == nil:
			d.errorf(n.get(f.Name).pos, join(path, f.Name), fmt.Sprintf("add %s: or remove %s:", k.With, f.Name), "%s needs %s beside it", named(join(path, f.Name)), k.With)
		case k.Without != "" && n.get(f.Name) != nil && n.get(k.Without) != nil:
			d.errorf(n.get(f.Name).pos, join(path, f.Name), "keep one of them", "%s and %s exclude each other", named(join(path, f.Name)), k.Without)
		}
	}
}

// exampleHint shows the first line of a key's example as what to add.
func exampleHint(k *Key, name string) string {
	line, _, _ := strings.Cut(k.Example, "\n")
	if strings.HasPrefix(line, name+":") {
		return "add " + line
	}
	return "add " + name + ":"
}

// in says where a key is missing.
func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

// groups checks the keys of which exactly or at least one must be there.
func (d *decoder) groups(n *node, path, generic string) {
	k := d.table.Lookup(generic)
	if k == nil {
		return
	}
	if have := given(n, k.OneOf); len(k.OneOf) > 0 && len(have) != 1 {
		what, hint := "none is given", "add one of them"
		if len(have) > 1 {
			what, hint = strings.Join(have, " and ")+" are given", "keep one of them"
		}
		d.errorf(n.pos, path, hint, "%s takes exactly one of %s: %s", named(path), strings.Join(k.OneOf, ", "), what)
	}
	if len(k.Any) > 0 && len(given(n, k.Any)) == 0 {
		d.errorf(n.pos, path, "add one of them", "%s needs at least one of %s", named(path), strings.Join(k.Any, ", "))
	}
}

func given(n *node, names []string) []string {
	var out []string
	for _, name := range names {
		if n.get(name) != nil {
			out = append(out, name)
		}
	}
	return out
}

// join makes "a.b" and, for keys that would be ambiguous, `a["b.c"]`.
func join(path, key string) string {
	switch {
	case key == "" || strings.ContainsAny(key, ".[]\"") || len(key) > 60:
		return fmt.Sprintf("%s[%q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}

func joinGeneric(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
