package agent

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/agent/listener"
)

// TestDocsNameEveryField compares docs/machine-api.md with the Go type, so that
// a new field is documented.
func TestDocsNameEveryField(t *testing.T) {
	b, err := os.ReadFile("../../docs/machine-api.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, name := range fields(reflect.TypeFor[listener.Status]()) {
		if !strings.Contains(doc, "`"+name+"`") && !strings.Contains(doc, "."+name+"`") && !strings.Contains(doc, "`"+name+"[]`") {
			t.Errorf("docs/machine-api.md does not name the field %s", name)
		}
	}
}

func fields(typ reflect.Type) []string {
	var out []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		in := f.Type
		if in.Kind() != reflect.Struct { // of those only the fields within have a row
			out = append(out, name)
		}
		for in.Kind() == reflect.Slice || in.Kind() == reflect.Pointer {
			in = in.Elem()
		}
		if in.Kind() == reflect.Struct {
			out = append(out, fields(in)...)
		}
	}
	return out
}
