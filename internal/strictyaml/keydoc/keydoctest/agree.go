// Package keydoctest holds a JSON Schema of package keydoc against texts whose
// standing with the parser is known. It is for tests only.
package keydoctest

import (
	"bytes"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Text is a document.
type Text struct {
	Name, YAML string
	// Refused says that the schema has to refuse it: a mistake in one value or between
	// neighbours. Rules across the document stay with the parser.
	Refused bool
}

// Agree fails where a schema says something else. A text that is no YAML, is empty, or
// is several documents, is left out: no schema sees it.
func Agree(t testing.TB, schema []byte, texts ...Text) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	const id = "urn:ingot:schema"
	c := jsonschema.NewCompiler()
	if err := c.AddResource(id, doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range texts {
		var v any
		if err := yaml.Unmarshal([]byte(x.YAML), &v); err != nil || v == nil || bytes.Contains([]byte(x.YAML), []byte("\n---\n")) {
			continue
		}
		if err := compiled.Validate(v); (err != nil) != x.Refused {
			t.Errorf("%s: schema says %v", x.Name, err)
		}
	}
}
