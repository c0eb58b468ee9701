package sbom

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
)

// cycloneDXSchema compiles the official schema, which is part of the module
// that writes the documents.
func cycloneDXSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatalf("find the schema: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for id, name := range map[string]string{
		"http://cyclonedx.org/schema/bom-1.6.schema.json":  "bom-1.6.schema.json",
		"http://cyclonedx.org/schema/spdx.schema.json":     "spdx.schema.json",
		"http://cyclonedx.org/schema/jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		addSchema(t, c, id, filepath.Join(dir, name))
	}
	return c.MustCompile("http://cyclonedx.org/schema/bom-1.6.schema.json")
}

func spdxSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	addSchema(t, c, "http://spdx.org/rdf/terms/2.3", filepath.Join("testdata", "spdx-2.3.schema.json"))
	return c.MustCompile("http://spdx.org/rdf/terms/2.3")
}

func addSchema(t *testing.T, c *jsonschema.Compiler, id, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if err := c.AddResource(id, doc); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func validate(t *testing.T, s *jsonschema.Schema, data []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestOfficialSchemas validates both documents, and then breaks them to see
// that the schemas are really asked.
func TestOfficialSchemas(t *testing.T) {
	docs := documents(t, collect(t))
	for _, c := range []struct {
		name     string
		schema   *jsonschema.Schema
		old, new string
	}{
		{CycloneDXName, cycloneDXSchema(t), `"type": "operating-system"`, `"type": "appliance"`},
		{SPDXName, spdxSchema(t), `"relationshipType": "CONTAINS"`, `"relationshipType": "HOLDS"`},
	} {
		if err := validate(t, c.schema, docs[c.name]); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		bad := bytes.Replace(docs[c.name], []byte(c.old), []byte(c.new), 1)
		if err := validate(t, c.schema, bad); bytes.Equal(bad, docs[c.name]) || err == nil {
			t.Errorf("%s: a broken document is valid", c.name)
		}
	}
}

// TestSPDXReads reads the document with the SPDX project's own reader.
func TestSPDXReads(t *testing.T) {
	v := collect(t)
	doc, err := spdxjson.Read(bytes.NewReader(documents(t, v)[SPDXName]))
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, c := range v.Components {
		files += len(c.Files)
	}
	if len(doc.Packages) != len(v.Components)+1 || len(doc.Files) != files {
		t.Errorf("%d packages and %d files, want %d and %d", len(doc.Packages), len(doc.Files), len(v.Components)+1, files)
	}
	contains := map[string]int{}
	for _, r := range doc.Relationships {
		if r.Relationship == "CONTAINS" {
			contains[string(r.RefB.ElementRefID)]++
		}
	}
	for _, f := range doc.Files {
		if n := contains[string(f.FileSPDXIdentifier)]; n != 1 {
			t.Errorf("%s is in %d packages", f.FileName, n)
		}
	}
}
