package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/strictyaml"
)

func TestSchemaAndReferenceAreCurrent(t *testing.T) {
	golden.Equal(t, "../../docs/appliance.schema.json", string(Schema()))
	golden.Equal(t, "../../docs/recipe.md", string(Reference()))
}

func compile(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:ingot:appliance", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("urn:ingot:appliance")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// decodes tells whether a recipe is right as far as its structure goes: what
// the decoder checks before any rule that looks at more than one place.
func decodes(t *testing.T, file string) (errs Errors, isYAML bool) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := strictyaml.Parse(file, data, strictyaml.Limits{})
	if err != nil {
		return err.(Errors), false
	}
	return doc.Decode(&Recipe{}, Keys()), true
}

// beyondSchema are structural errors that JSON Schema cannot see, because its
// documents have no duplicate keys and its texts no meaning.
var beyondSchema = map[string]string{
	"two-partitions-of-one-name": "a JSON object has each key once",
	"service-duration-zero":      "a pattern cannot tell 0.0s from 0.1s well",
}

// TestSchemaAgreesWithParser runs every recipe of the corpus through the JSON
// Schema. The verdict must be the decoder's; recipes that only break rules
// across the document pass both.
func TestSchemaAgreesWithParser(t *testing.T) {
	schema := compile(t)
	refused, passed := 0, 0
	for _, file := range append(corpus(t, "bad"), corpus(t, "good")...) {
		errs, isYAML := decodes(t, file)
		if !isYAML {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := yaml.UnmarshalWithOptions(data, &v, yaml.AllowDuplicateMapKey()); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		verdict := schema.Validate(v)
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if beyondSchema[name] != "" {
			if verdict != nil || len(errs) == 0 {
				t.Errorf("%s is listed as beyond the schema: parser %v, schema %v", name, errs, verdict)
			}
			continue
		}
		if (verdict != nil) != (len(errs) > 0) {
			t.Errorf("%s: parser says %v, schema says %v", file, errs, verdict)
		}
		if verdict != nil {
			refused++
		} else {
			passed++
		}
	}
	if refused < 30 || passed < 30 {
		t.Errorf("corpus is lopsided: %d refused, %d passed by the schema", refused, passed)
	}
}

// TestFullRecipeUsesEveryKey keeps the corpus complete when a key is added.
func TestFullRecipeUsesEveryKey(t *testing.T) {
	data, err := os.ReadFile("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, k := range Keys().Keys {
		if strings.HasSuffix(k.Path, "]") || strings.HasSuffix(k.Path, "}") {
			continue
		}
		name := k.Path[strings.LastIndexByte(k.Path, '.')+1:]
		if !strings.Contains(text, name+":") && !strings.HasPrefix(k.Path, "root.") && k.Path != "kernel.file" && k.Path != "kernel.modules" && k.Path != "stub.file" && k.Path != "firmware[].source" && k.Path != "files[].source" && k.Path != "trust.keys" {
			t.Errorf("testdata/good/full.yaml does not use %s", k.Path)
		}
	}
}

// TestSchemaAgreesOnMutations breaks a complete recipe at random places and
// wants the same verdict from decoder and schema on every piece.
func TestSchemaAgreesOnMutations(t *testing.T) {
	schema := compile(t)
	data, err := os.ReadFile("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range 600 {
		var v any
		if err := yaml.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		what := mutate(rng, v)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := strictyaml.Parse("mutant", text, strictyaml.Limits{})
		if err != nil {
			t.Fatalf("mutant %d: %v", i, err)
		}
		errs := doc.Decode(&Recipe{}, Keys())
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		verdict := schema.Validate(value)
		if (verdict != nil) != (len(errs) > 0) {
			t.Errorf("mutant %d (%s): parser says %v, schema says %v", i, what, errs, verdict)
		}
		if verdict != nil {
			refused++
		}
	}
	if refused < 200 || refused > 590 {
		t.Errorf("%d of 600 mutants were refused: the test says nothing", refused)
	}
}

// mutate changes one random place below v and says what it did.
func mutate(rng *rand.Rand, v any) string {
	values := []any{1, 0, -1, 70000, 1.5, true, "x", "", "/x", "1s", "128M", "0644", "a b", []any{}, []any{"x"}, map[string]any{}, map[string]any{"port": 1}, nil}
	value := values[rng.IntN(len(values))]
	for {
		switch n := v.(type) {
		case map[string]any:
			keys := slices.Sorted(maps.Keys(n))
			if len(keys) == 0 {
				n["x"] = value
				return "put x into an empty mapping"
			}
			k := keys[rng.IntN(len(keys))]
			switch rng.IntN(6) {
			case 0:
				delete(n, k)
				return "removed " + k
			case 1:
				n[k] = value
				return fmt.Sprintf("set %s to %v", k, value)
			case 2:
				n[keys[rng.IntN(len(keys))]+"x"] = value
				return "added an unknown key beside " + k
			case 3:
				all := Keys().Keys
				name := all[rng.IntN(len(all))].Path
				name = strings.TrimSuffix(name[strings.LastIndexByte(name, '.')+1:], "[]")
				n[name] = value
				return fmt.Sprintf("set %s to %v", name, value)
			}
			v = n[k]
		case []any:
			if len(n) == 0 {
				return "nothing"
			}
			i := rng.IntN(len(n))
			if rng.IntN(4) == 0 {
				n[i] = value
				return fmt.Sprintf("set item %d to %v", i, value)
			}
			v = n[i]
		default:
			return "nothing"
		}
	}
}
