package keydoctest

import "testing"

// failing counts what Agree complains about.
type failing struct {
	testing.TB
	errors int
}

func (f *failing) Helper()               {}
func (f *failing) Errorf(string, ...any) { f.errors++ }

func TestAgree(t *testing.T) {
	schema := []byte(`{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {"a": {"type": "integer"}}}`)
	right := []Text{{"good", "a: 1\n", false}, {"bad", "a: x\n", true}, {"no YAML", "a: [\n", true}, {"nothing", "# a\n", true}, {"two", "a: 1\n---\na: x\n", true}}
	f := &failing{TB: t}
	if Agree(f, schema, right...); f.errors != 0 {
		t.Errorf("%d complaints about a schema that agrees", f.errors)
	}
	if Agree(f, schema, Text{"taken for bad", "a: 1\n", true}, Text{"taken for good", "a: x\n", false}); f.errors != 2 {
		t.Errorf("%d complaints of 2", f.errors)
	}
}
