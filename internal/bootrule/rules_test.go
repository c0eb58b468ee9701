package bootrule

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/strictyaml"
)

func parse(t *testing.T, text string) *Rules {
	t.Helper()
	r, err := Parse("rules.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// example is the complete file of docs/netboot-rules.md.
func example(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/netboot-rules.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(format: 1\n.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("docs/netboot-rules.md has no example that begins with format: 1")
	}
	return string(m[1])
}

func TestExampleOfDocs(t *testing.T) {
	if r := parse(t, example(t)); len(r.Rules) < 4 || len(r.Groups) < 2 || len(r.Deny) == 0 || r.Rescue.IsZero() || len(r.Programs) == 0 {
		t.Errorf("the example shows too little: %+v", r)
	}
}

// TestDocsNameEachKey: a key that is in no table of the page is one that nobody finds.
func TestDocsNameEachKey(t *testing.T) {
	b, err := os.ReadFile("../../docs/netboot-rules.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range slices.Concat(topKeys, memberKeys, ruleKeys, denyKeys, bootKeys, programKeys) {
		if !strings.Contains(string(b), "| `"+k.Path+"` |") {
			t.Errorf("docs/netboot-rules.md has no row for %s", k.Path)
		}
	}
}

// TestMistakes: each has its line, and says what to do.
func TestMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		text, want, hint string
		line             int
	}{
		"no format":          {"rules: []\n", "key format is missing", "format: 1", 1},
		"another format":     {"format: 2\n", "format", "", 1},
		"unknown key":        {"format: 1\nrule: []\n", `unknown key "rule"`, "rules", 2},
		"unknown in a rule":  {"format: 1\nrules:\n  - bot: x\n    boot: local\n", `unknown key "bot"`, "boot", 3},
		"rule without boot":  {"format: 1\nrules:\n  - arch: [x64]\n", "key boot is missing", "boot:", 3},
		"unknown group":      {"format: 1\ngroups:\n  web: {host: [a]}\nrules:\n  - group: [wep]\n    boot: local\n", `no group is called "wep"`, "there are web", 5},
		"mac":                {"format: 1\nrules:\n  - mac: [\"52:54:00:12:34\"]\n    boot: local\n", "not a MAC address", "52:54:00:*", 3},
		"mac zero":           {"format: 1\nrules:\n  - mac: [\"00:00:00:00:00:00\"]\n    boot: local\n", "no machine has the address zero", "", 3},
		"uuid zero":          {"format: 1\nrules:\n  - uuid: [00000000-0000-0000-0000-000000000000]\n    boot: local\n", "firmware without a UUID", "MAC", 3},
		"uuid ones":          {"format: 1\nrules:\n  - uuid: [FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF]\n    boot: local\n", "firmware without a UUID", "MAC", 3},
		"subnet":             {"format: 1\nrules:\n  - subnet: [192.0.2.7/24]\n    boot: local\n", "beyond its prefix", "192.0.2.0/24", 3},
		"arch":               {"format: 1\nrules:\n  - arch: [amd64]\n    boot: local\n", "not an architecture", "x64", 3},
		"ek":                 {"format: 1\nrules:\n  - ek: [abcd]\n    boot: local\n", "endorsement key", "16", 3},
		"glob in the middle": {"format: 1\nrules:\n  - host: [a*b]\n    boot: local\n", "beginning", "last", 3},
		"target":             {"format: 1\ndefault: a b\n", "blanks", "program:NAME", 2},
		"target digest":      {"format: 1\ndefault: sha256:xyz\n", "SHA-256", "", 2},
		"no program":         {"format: 1\ndefault: program:memtest\n", "no program", "programs:", 2},
		"rescue of local":    {"format: 1\nrescue: local\n", "no release", "", 2},
		"chain of local":     {"format: 1\nrules:\n  - boot: local\n    chain: ipxe\n", "is no release", "remove chain", 4},
		"chain of what":      {"format: 1\nrules:\n  - boot: hello\n    chain: grub\n", "grub", "", 4},
		"two groups":         {"format: 1\ngroups:\n  a: {mac: [\"52:54:00:00:00:01\"]}\n  b:\n    mac: [\"52:54:00:00:00:01\"]\n", "is in group a, too", "line 3", 5},
		"prefix overlaps":    {"format: 1\ngroups:\n  a: {mac: [\"52:54:00:*\"]}\n  b:\n    mac: [\"52:54:00:00:00:01\"]\n", "overlaps", "line 3", 5},
		"patterns overlap":   {"format: 1\ngroups:\n  a: {mac: [\"52:*:00:*\"]}\n  b:\n    mac: [\"*:54:*\"]\n", "overlaps", "line 3", 5},
		"serials overlap":    {"format: 1\ngroups:\n  a: {serial: [\"CZ*\"]}\n  b: {serial: [CZ12]}\n", "overlaps", "line 3", 4},
		"hosts twice":        {"format: 1\ngroups:\n  a: {host: [web-1]}\n  b: {host: [web-1]}\n", "is in group a, too", "line 3", 4},
		"never reached":      {"format: 1\nrules:\n  - boot: hello\n  - arch: [x64]\n    boot: local\n", "never reached", "more exact", 4},
		"the same twice":     {"format: 1\nrules:\n  - {arch: [x64], boot: hello}\n  - {arch: [x64], boot: local}\n", "never reached", "", 4},
		"deny of all":        {"format: 1\ndeny:\n  - reason: all\n", "at least one of", "", 3},
		"empty group":        {"format: 1\ngroups:\n  a: {}\n", "at least one of", "", 3},
		"empty list":         {"format: 1\nrules:\n  - mac: []\n    boot: local\n", "mac", "", 3},
		"program digest":     {"format: 1\nprograms:\n  memtest: {file: x, sha256: AB}\n", "not allowed", "64 hexadecimal", 3},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("rules.yaml", []byte(c.text))
			var list strictyaml.Errors
			if !errors.As(err, &list) {
				t.Fatalf("Parse = %v", err)
			}
			for _, e := range list {
				if strings.Contains(e.Msg, c.want) && strings.Contains(e.Hint, c.hint) && e.Line == c.line {
					return
				}
			}
			t.Errorf("no finding on line %d has %q and hint %q:\n%v", c.line, c.want, c.hint, err)
		})
	}
}

func TestVersions(t *testing.T) {
	for _, c := range [][2]string{{"1.9", "1.10"}, {"1.0-rc1", "1.0"}, {"1.0", "1.0.1"}, {"1.0-rc.2", "1.0-rc.10"}, {"9", "10"}, {"1.0-1", "1.0-a"}, {"0.9.9", "00000000000000000000000000000001.0"}} {
		if compareVersions(c[0], c[1]) >= 0 || compareVersions(c[1], c[0]) <= 0 || compareVersions(c[0], c[0]) != 0 {
			t.Errorf("%s is not before %s", c[0], c[1])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example(f))
	f.Add("format: 1\ngroups:\n  a: {mac: [\"52:54:00:*\"]}\n  b: {serial: [\"*\"], ek: [0123456789abcdef]}\nrules:\n  - {group: [a], boot: x@1}\n")
	f.Add("format: 1\nrules: [{subnet: [::/0], arch: [http, 7], boot: sha256:01234567, chain: ipxe}]\ndeny: [{uuid: [4c4c4544-0034-5310-8052-b4c04f4e4d32]}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse("rules.yaml", []byte(text))
		if err != nil {
			var list strictyaml.Errors
			if !errors.As(err, &list) || len(list) == 0 {
				t.Fatalf("an error without findings: %v", err)
			}
			return
		}
		for i := range 64 { // what was accepted decides every machine
			Decide(anyCase(r, uint64(i)*2654435761))
		}
	})
}

// TestUnmatched: what names no release for any processor is said at its line; what is no
// release, or is there in whatever version, is not.
func TestUnmatched(t *testing.T) {
	list := []Release{{Digest: strings.Repeat("ab", 32), Name: "hello", Version: "1.0", Arch: "arm64"}}
	for boot, missing := range map[string]bool{"hello": false, "hello@1.0": false, "hello-1.0": false, "sha256:abababab": false, "local": false, "program:memtest": false,
		"helo": true, "hello@1.1": true, "sha256:abababac": true} {
		text := "format: 1\nrules:\n  - {mac: [\"52:54:00:00:00:01\"], boot: \"" + boot + "\"}\nprograms:\n  memtest: {file: m.efi, sha256: " + strings.Repeat("cd", 32) + "}\n"
		r, err := Parse("rules.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := r.Unmatched(list)
		if len(got) > 0 != missing || missing && got.Error() != "rules.yaml:3:40: rules[0].boot: the server has no release "+boot {
			t.Errorf("%s: %v", boot, got)
		}
	}
	r, err := Parse("rules.yaml", []byte("format: 1\ndefault: lampe\nrescue: lampe\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Unmatched(list); len(got) != 2 || got[0].Line != 2 || got[1].Line != 3 {
		t.Errorf("default and rescue: %v", got)
	}
}
