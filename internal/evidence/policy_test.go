package evidence_test

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/evidence"
)

var update = flag.Bool("update", false, "rewrite schema and reference of the policy")

// TestPolicyDocs keeps the schema and the page in step with the code.
func TestPolicyDocs(t *testing.T) {
	for name, want := range map[string][]byte{"attest-policy.schema.json": evidence.PolicySchema(), "attest-policy.md": evidence.PolicyReference()} {
		path := "../../docs/" + name
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the code says: go test ./internal/evidence -run TestPolicyDocs -update", path)
		}
	}
}

var zeros = strings.Repeat("00", 32)

// TestPolicy: every key arrives, in YAML and JSON, and the schema agrees.
func TestPolicy(t *testing.T) {
	yamlText := `secureBoot: true
keys:
  - pk: "` + zeros + `"
    kek: "` + zeros + `"
    db: "` + zeros + `"
    authorities: ["` + zeros + `"]
paths: [disk, http]
pcrs: [4, 7, 11]
banks: [sha384]
machineConfig: true
dmaProtection: true
quietFirmware: true
earlyApplications: ["` + zeros + `"]
allowDebug: true
allowResumed: true
`
	zero := pcr.Digest(make([]byte, 32))
	want := attest.Policy{SecureBoot: true, Keys: []attest.Keys{{PK: zero, KEK: zero, DB: zero, Authorities: []pcr.Digest{zero}}},
		Paths: []string{"disk", "http"}, PCRs: []int{4, 7, 11}, Banks: []pcr.Bank{pcr.SHA384}, MachineConfig: true, DMAProtection: true, QuietFirmware: true, EarlyApplications: []pcr.Digest{zero}, AllowDebug: true, AllowResumed: true}
	jsonText, err := yaml.YAMLToJSON([]byte(yamlText))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{yamlText, string(jsonText)} {
		got, err := evidence.ParsePolicy("policy.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if err := schema(t).Validate(document(t, yamlText)); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
}

// TestPolicyIsWhole: every field of a policy can be written.
func TestPolicyIsWhole(t *testing.T) {
	typ := reflect.TypeFor[attest.Policy]()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if evidence.PolicyKeys().Lookup(name) == nil {
			t.Errorf("attest.Policy has %s, the file has no such key", name)
		}
	}
}

// TestPolicyRefuses: each mistake is told with its place; the schema sees it too.
func TestPolicyRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"secureboot: true\n":             "policy.yaml:1:1: ",
		"secureBoot: yes please\n":       "policy.yaml:1:13: ",
		"paths: [floppy]\n":              `paths[0] is "floppy"`,
		"paths:\n  - disk\n  - pxe2\n":   "policy.yaml:3:5: ",
		"banks: [sha1]\n":                `banks[0] is "sha1"`,
		"pcrs: [24]\n":                   "out of range",
		"pcrs: []\n":                     "at least 1",
		"keys: [{pk: abc}]\n":            "keys[0].pk",
		"keys: [{authorities: []}]\n":    "keys[0]",
		"dmaProtection: true\nx: {a: 1}": "policy.yaml:2:1: ",
	} {
		_, err := evidence.ParsePolicy("policy.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if schema(t).Validate(document(t, text)) == nil {
			t.Errorf("%q: the schema takes it", text)
		}
	}
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(evidence.PolicySchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policy.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func document(t *testing.T, text string) any {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
