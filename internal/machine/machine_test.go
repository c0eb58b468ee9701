package machine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/strictyaml"
	"github.com/ingot-os/ingot/internal/strictyaml/keydoc/keydoctest"
)

const whole = `# one of many
hostname: edge-042.example.com
labels: {site: oslo-7, ring: canary}
server: https://ingot.example.com:8443/base
ntp: [192.0.2.123, time.example.com]
network:
  - match: {mac: "52:54:00:12:34:56"}
    address: ["192.0.2.10/24"]
    gateway: 192.0.2.1
    dns: [192.0.2.53]
`

func TestParseWholeFile(t *testing.T) {
	got, err := Parse("machine.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := &Machine{
		Hostname: "edge-042.example.com",
		Labels:   map[string]string{"site": "oslo-7", "ring": "canary"},
		Server:   "https://ingot.example.com:8443/base",
		NTP:      []string{"192.0.2.123", "time.example.com"},
		Network: []appliance.Interface{{
			Match: appliance.Match{MAC: "52:54:00:12:34:56"}, Address: []string{"192.0.2.10/24"}, Gateway: "192.0.2.1", DNS: []string{"192.0.2.53"},
		}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// bad are broken files; structural says whether the schema must see it too.
var bad = []struct {
	name, text, want string
	structural       bool
}{
	{"unknown key", "hostnam: a\n", `m.yaml:1:1: unknown key "hostnam"` + "\nhint: did you mean hostname:?", true},
	{"upper case host", "hostname: Edge_1\n", `m.yaml:1:11: hostname is "Edge_1", which is not allowed`, true},
	{"host too long", "hostname: a." + strings.Repeat("b", 63) + "\n", "m.yaml:1:11: hostname has 65 characters, the limit is 64", true},
	{"label value", "labels: {rack: 7}\n", `m.yaml:1:16: labels.rack is a number (7), want text` + "\nhint: quote it: \"7\"", true},
	{"label name", "labels: {\"a b\": x}\n", `m.yaml:1:10: name "a b" is not allowed in labels`, true},
	{"no scheme", "server: ingot.example.com\n", `m.yaml:1:9: server is "ingot.example.com": not an https address`, false},
	{"password", "server: https://u:p@ingot.example.com\n", "a password in a file that is shown", false},
	{"query", "server: https://ingot.example.com/?a=b\n", "no query or fragment", false},
	{"ntp port", "ntp: [\"10.0.0.1:123\"]\n", `m.yaml:1:7: ntp[0] is "10.0.0.1:123": not a host`, false},
	{"ntp twice", "ntp: [a, a]\n", "a is given twice in ntp", false},
	{"no prefix", "network:\n  - address: [10.0.0.5]\n", "m.yaml:2:15: network[0].address[0] is \"10.0.0.5\": an address without prefix length\nhint: write 10.0.0.5/24", false},
	{"gateway outside", "network:\n  - address: [10.0.0.5/24]\n    gateway: 10.0.1.1\n", "m.yaml:3:14: network[0].gateway is 10.0.1.1: outside every subnet of this link", false},
	{"vlan", "network:\n  - {dhcp: true, vlan: 0}\n", "network[0].vlan is 0, out of range", true},
	{"empty", "# nothing\n", "the file is empty", false},
	{"not yaml", "a: [\n", "m.yaml:1:", false},
}

func TestParseReportsEveryMistake(t *testing.T) {
	for _, tt := range bad {
		_, err := Parse("m.yaml", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	all := "hostnam: a\nserver: x\nntp: [\"a b\"]\n"
	_, err := Parse("m.yaml", []byte(all))
	if got := len(err.(strictyaml.Errors)); got != 3 {
		t.Errorf("%d findings, want 3 at once:\n%v", got, err)
	}
}

func TestParseRefusesLargeFiles(t *testing.T) {
	text := "# " + strings.Repeat("x", MaxSize) + "\nhostname: a\n"
	if _, err := Parse("m.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "the limit is 65536") {
		t.Errorf("got %v", err)
	}
}

func TestSchemaAgreesWithParser(t *testing.T) {
	texts := []keydoctest.Text{{Name: "whole", YAML: whole}}
	for _, tt := range bad {
		texts = append(texts, keydoctest.Text{Name: tt.name, YAML: tt.text, Refused: tt.structural})
	}
	keydoctest.Agree(t, Schema(), texts...)
}

func TestSchemaAndReferenceAreCurrent(t *testing.T) {
	for name, got := range map[string][]byte{"../../docs/machine.schema.json": Schema(), "../../docs/machine.md": Reference()} {
		golden.Equal(t, name, string(got))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	for _, tt := range bad {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse("m.yaml", data)
		if (m == nil) == (err == nil) {
			t.Fatalf("machine %v, error %v", m, err)
		}
	})
}
