// Package keydoc makes a JSON Schema (draft 2020-12) and a reference page in
// Markdown out of a Go type and the strictyaml.Table that describes its keys,
// so that decoder, schema and documentation say the same.
//
// Limit: the schema says what can be said about one value and its neighbours;
// rules across the document stay with the parser.
package keydoc

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

// Scalar is implemented by types that read themselves from one scalar: the
// pattern of their text, and whether a bare number is taken as well.
type Scalar interface {
	encoding.TextUnmarshaler
	YAMLName() string
	YAMLPattern() (pattern string, numbers bool)
}

// Schema returns the JSON Schema of a document that decodes into typ, indented
// and with a final newline.
func Schema(id, title string, typ reflect.Type, t *strictyaml.Table) []byte {
	g := generator{t}
	s := g.value(typ, "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"], s["title"] = id, title
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("keydoc: " + err.Error()) // maps, lists and texts only
	}
	return append(b, '\n')
}

type generator struct{ table *strictyaml.Table }

type object = map[string]any

func (g generator) value(typ reflect.Type, path string) object {
	k := g.table.Lookup(path)
	if k == nil {
		k = &strictyaml.Key{}
	}
	s := g.shape(typ, path, k)
	if k.Doc != "" {
		s["description"] = describe(k)
	}
	return s
}

func describe(k *strictyaml.Key) string {
	if k.Default == "" {
		return k.Doc
	}
	return k.Doc + " Default: " + k.Default + "."
}

func (g generator) shape(typ reflect.Type, path string, k *strictyaml.Key) object {
	if typ.Kind() == reflect.Pointer {
		return g.shape(typ.Elem(), path, k)
	}
	if sc, ok := reflect.New(typ).Interface().(Scalar); ok {
		return scalar(sc)
	}
	switch typ.Kind() {
	case reflect.Struct:
		return g.structure(typ, path, k)
	case reflect.Slice:
		s := object{"type": "array", "items": g.value(typ.Elem(), path+"[]")}
		if k.MinLen > 0 {
			s["minItems"] = k.MinLen
		}
		return s
	case reflect.Map:
		s := object{"type": "object", "additionalProperties": g.value(typ.Elem(), path+"{}")}
		if k.Pattern != "" {
			s["propertyNames"] = object{"pattern": k.Pattern}
		}
		return s
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return text(k)
	}
	return number(k)
}

func scalar(sc Scalar) object {
	pattern, numbers := sc.YAMLPattern()
	s := object{"type": "string", "pattern": pattern}
	if !numbers {
		return s
	}
	return object{"anyOf": []any{s, object{"type": "integer", "minimum": 0}}}
}

func text(k *strictyaml.Key) object {
	s := object{"type": "string"}
	if len(k.Enum) > 0 {
		s["enum"] = k.Enum
	}
	if k.Pattern != "" {
		s["pattern"] = k.Pattern
	}
	if k.MinLen > 0 {
		s["minLength"] = k.MinLen
	}
	if k.MaxLen > 0 {
		s["maxLength"] = k.MaxLen
	}
	return s
}

func number(k *strictyaml.Key) object {
	s := object{"type": "integer"}
	if k.Min != 0 || k.Max != 0 {
		s["minimum"], s["maximum"] = k.Min, k.Max
	}
	if len(k.Values) > 0 {
		s["enum"] = k.Values
	}
	return s
}

func (g generator) structure(typ reflect.Type, path string, k *strictyaml.Key) object {
	props, depend := object{}, object{}
	var required []string
	var all []any
	for _, f := range strictyaml.Fields(typ) {
		sub := strings.TrimPrefix(path+"."+f.Name, ".")
		props[f.Name] = g.value(f.Type, sub)
		fk := g.table.Lookup(sub)
		if fk == nil {
			continue
		}
		if fk.Required {
			required = append(required, f.Name)
		}
		if fk.With != "" {
			depend[f.Name] = []string{fk.With}
		}
		if fk.Without != "" {
			all = append(all, object{"not": object{"required": []string{f.Name, fk.Without}}})
		}
	}
	s := object{"type": "object", "additionalProperties": false, "properties": props}
	if required != nil {
		s["required"] = required
	}
	if len(depend) > 0 {
		s["dependentRequired"] = depend
	}
	if all != nil {
		s["allOf"] = all
	}
	if len(k.OneOf) > 0 {
		s["oneOf"] = each(k.OneOf)
	}
	if len(k.Any) > 0 {
		s["anyOf"] = each(k.Any)
	}
	return s
}

func each(names []string) []any {
	var out []any
	for _, n := range names {
		out = append(out, object{"required": []string{n}})
	}
	return out
}
