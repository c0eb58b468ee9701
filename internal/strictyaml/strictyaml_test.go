package strictyaml

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// level reads itself from a scalar.
type level int

func (l *level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "low":
		*l = 1
	case "010":
		*l = 8
	default:
		return levelError{}
	}
	return nil
}

func (*level) YAMLName() string { return "a level" }

type levelError struct{}

func (levelError) Error() string { return "not a level" }
func (levelError) Hint() string  { return "write low" }

type inner struct {
	Port int    `yaml:"port"`
	Kind string `yaml:"kind"`
}

type doc struct {
	Name  string            `yaml:"name"`
	On    bool              `yaml:"on"`
	Count uint32            `yaml:"count"`
	Level level             `yaml:"level"`
	List  []string          `yaml:"list"`
	Env   map[string]string `yaml:"env"`
	Items []inner           `yaml:"items"`
	Ptr   *inner            `yaml:"ptr"`
	Text  *string           `yaml:"text"`
	Not   string            `yaml:"-"`
}

var table = NewTable(
	Key{Path: "name", Required: true, Pattern: "^[a-z]+$", Match: regexp.MustCompile("^[a-z]+$").MatchString, Expect: "letters", Example: "name: app"},
	Key{Path: "items[].port", Min: 1, Max: 65535},
	Key{Path: "items[].kind", Enum: []string{"tcp", "udp"}, With: "port", Also: []string{"proto"}, Means: map[string]string{"stream": "tcp"}},
	Key{Path: "ptr", OneOf: []string{"port", "kind"}},
	Key{Path: "env", Pattern: "^[A-Z]+$", Match: regexp.MustCompile("^[A-Z]+$").MatchString, Expect: "capitals"},
	Key{Path: "list", MinLen: 1, Expect: "give one"},
	Key{Path: "count", Values: []int64{1, 2}},
	Key{Path: "text", Without: "on", MinLen: 3},
)

func decode(t *testing.T, text string) (v doc, errs Errors) {
	t.Helper()
	d, err := Parse("f.yaml", []byte(text), Limits{})
	if err != nil {
		return v, err.(Errors)
	}
	errs = d.Decode(&v, table)
	return v, errs
}

func TestDecodeFillsEveryKind(t *testing.T) {
	got, errs := decode(t, `
name: app
count: 2
level: 010
list: [a, "b c", 'd']
env: {A: "1", B: ""}
items:
  - {port: 80, kind: tcp}
  - port: 53
    kind: udp
ptr: {port: 7}
text: |
  one
  two
`)
	if errs != nil {
		t.Fatal(errs)
	}
	text := "one\ntwo\n"
	want := doc{
		Name: "app", Count: 2, Level: 8, List: []string{"a", "b c", "d"}, Env: map[string]string{"A": "1", "B": ""},
		Items: []inner{{80, "tcp"}, {53, "udp"}}, Ptr: &inner{Port: 7}, Text: &text,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFieldsInline(t *testing.T) {
	type base struct {
		Name string `yaml:"name"`
	}
	type withInline struct {
		Base base `yaml:",inline"`
		Port int  `yaml:"port"`
	}
	doc, err := Parse("f.yaml", []byte("name: app\nport: 1\n"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var v withInline
	if errs := doc.Decode(&v, nil); errs != nil || v.Base.Name != "app" || v.Port != 1 {
		t.Errorf("got %+v, %v", v, errs)
	}
}

// TestErrors holds the exact text of each kind of finding.
func TestErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"missing", "on: true\n", "f.yaml:1:1: key name is missing\nhint: add name: app"},
		{"unknown near", "name: a\nlst: []\n", "f.yaml:2:1: unknown key \"lst\"\nhint: did you mean list:?"},
		{"unknown alias", "name: a\nitems:\n  - {port: 1, proto: tcp}\n", "f.yaml:3:15: unknown key \"proto\"\nhint: write kind: instead"},
		{"unknown elsewhere", "name: a\nport: 1\n", "f.yaml:2:1: unknown key \"port\"\nhint: port: belongs under items[]"},
		{"unknown", "name: a\nptr: {port: 1, zzzzzz: 2}\n", "f.yaml:2:16: unknown key \"zzzzzz\"\nhint: known here: kind, port"},
		{"twice", "name: a\non: true\non: false\n", "f.yaml:3:1: key \"on\" is given twice\nhint: the first is on line 2: keep one of them"},
		{"number for text", "name: 1.10\n", "f.yaml:1:7: name is a number with a fraction (1.10), want text\nhint: quote it: \"1.10\""},
		{"boolean for text", "name: true\n", "f.yaml:1:7: name is a boolean (true), want text\nhint: quote it: \"true\""},
		{"yes", "name: a\non: yes\n", "f.yaml:2:5: on is text (yes), want true or false\nhint: write true"},
		{"text for number", "name: a\nitems: [{port: \"80\"}]\n", "f.yaml:2:16: items[0].port is text (80), want a whole number\nhint: write the number without quotes and units"},
		{"hexadecimal", "name: a\nitems: [{port: 0x50}]\n", "f.yaml:2:16: items[0].port is 0x50, which is not a decimal whole number\nhint: write a plain decimal number"},
		{"underscores", "name: a\nitems: [{port: 1_0}]\n", "f.yaml:2:16: items[0].port is 1_0, which is not a decimal whole number\nhint: write a plain decimal number"},
		{"range", "name: a\nitems: [{port: 70000}]\n", "f.yaml:2:16: items[0].port is 70000, out of range\nhint: use a number from 1 to 65535"},
		{"values", "name: a\ncount: 3\n", "f.yaml:2:8: count is 3, which is not known\nhint: one of 1 2"},
		{"negative", "name: a\ncount: -1\n", "f.yaml:2:8: count is -1, which is not known\nhint: one of 1 2"},
		{"enum", "name: a\nitems: [{port: 1, kind: tpc}]\n", "f.yaml:2:25: items[0].kind is \"tpc\", which is not known\nhint: did you mean tcp?"},
		{"enum meaning", "name: a\nitems: [{port: 1, kind: Stream}]\n", "f.yaml:2:25: items[0].kind is \"Stream\", which is not known\nhint: write tcp"},
		{"with", "name: a\nitems: [{kind: tcp}]\n", "f.yaml:2:16: items[0].kind needs port beside it\nhint: add port: or remove kind:"},
		{"without", "name: a\ntext: xyz\non: true\n", "f.yaml:2:7: text and on exclude each other\nhint: keep one of them"},
		{"one of, none", "name: a\nptr: {}\n", "f.yaml:2:6: ptr takes exactly one of port, kind: none is given\nhint: add one of them"},
		{"one of, two", "name: a\nptr: {port: 1, kind: x}\n", "f.yaml:2:6: ptr takes exactly one of port, kind: port and kind are given\nhint: keep one of them"},
		{"pattern", "name: A1\n", "f.yaml:1:7: name is \"A1\", which is not allowed\nhint: want letters"},
		{"map key", "name: a\nenv: {a: b}\n", "f.yaml:2:7: name \"a\" is not allowed in env\nhint: want capitals"},
		{"scalar for list", "name: a\nlist: x\n", "f.yaml:2:7: list is text (x), want a list\nhint: write a list: [x]"},
		{"mapping for list", "name: a\nlist: {x: y}\n", "f.yaml:2:7: list is a mapping, want a list\nhint: start each entry of list: with a dash: \"- ...\""},
		{"list for mapping", "name: a\nptr: [x]\n", "f.yaml:2:6: ptr is a list, want a mapping\nhint: ptr: takes one mapping: remove the dash"},
		{"short list", "name: a\nlist: []\n", "f.yaml:2:7: list has 0 entries, want at least 1\nhint: give one"},
		{"empty text", "name: a\ntext: ''\n", "f.yaml:2:7: text is empty\nhint: give it a value or remove the line"},
		{"short text", "name: a\ntext: x\n", "f.yaml:2:7: text is \"x\", want at least 3 characters\nhint: say more"},
		{"null", "name: a\nlist:\n", "f.yaml:2:1: list is empty, want a list\nhint: give it a value or remove the line"},
		{"scalar type", "name: a\nlevel: high\n", "f.yaml:2:8: level is \"high\": not a level\nhint: write low"},
		{"scalar type of a list", "name: a\nlevel: [low]\n", "f.yaml:2:8: level is a list, want a level"},
		{"document", "- a\n", "f.yaml:1:1: the document is a list, want a mapping"},
		{"tag", "name: !!str a\n", "f.yaml:1:7: tag !!str is not supported\nhint: remove the tag: every key knows its own type"},
		{"merge", "ptr: &a {port: 1}\nenv:\n  <<: *a\n", "f.yaml:3:3: merge key << is not part of YAML 1.2\nhint: write the keys out, or use an alias for a whole value"},
		{"alias", "name: *a\n", "f.yaml:1:7: alias *a has no anchor before it\nhint: put &a before the value it stands for, above this line"},
		{"alias of itself", "list: &a [*a]\n", "f.yaml:1:11: alias *a has no anchor before it\nhint: put &a before the value it stands for, above this line"},
		{"number as key", "1: a\n", "f.yaml:1:1: a key must be text\nhint: write \"1\""},
		{"two documents", "name: a\n---\nname: b\n", "f.yaml:3:1: a second document in one file\nhint: keep one document; remove everything from the second --- on"},
		{"empty", "", "f.yaml:1:1: the file is empty\nhint: ingot init DIR writes a complete example"},
		{"not UTF-8", "name: \xff\n", "f.yaml:1:7: byte 0xff is not UTF-8 text\nhint: save the file as UTF-8 without byte order mark; write control characters as \"\\x..\""},
		{"control character", "name: a\n# \x00\n", "f.yaml:2:3: character U+0000 is not allowed in YAML text\nhint: save the file as UTF-8 without byte order mark; write control characters as \"\\x..\""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, errs := decode(t, tt.text)
			if got := errs.Error(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestColumnsCountCharacters(t *testing.T) {
	_, errs := decode(t, "name: a\nenv: {A: \"æøå\", a: b}\n")
	if got, want := errs.Error(), "f.yaml:2:17: name"; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWindowsLineEnds(t *testing.T) {
	got, errs := decode(t, "name: app\r\nlist:\r\n  - a\r\n  - b\r\n")
	if errs != nil || got.Name != "app" || len(got.List) != 2 || got.List[1] != "b" {
		t.Errorf("got %+v, %v", got, errs)
	}
}

func TestAliasesShareValues(t *testing.T) {
	got, errs := decode(t, "name: a\nitems:\n  - &i {port: 1, kind: tcp}\n  - *i\nlist: [&x one, *x]\n")
	if errs != nil || len(got.Items) != 2 || got.Items[0] != got.Items[1] || got.List[1] != "one" {
		t.Errorf("got %+v, %v", got, errs)
	}
}

func TestAt(t *testing.T) {
	doc, err := Parse("f.yaml", []byte("name: a\nitems:\n  - port: 1\n  - kind: x\nenv:\n  \"a.b\": y\n  c: z\n"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][2]int{
		"": {1, 1}, "name": {1, 7}, "items": {3, 3}, "items[1]": {4, 5}, "items[1].kind": {4, 11}, "items[1].port": {4, 5},
		"items[7]": {3, 3}, `env["a.b"]`: {6, 10}, "env.c": {7, 6}, "none.at.all": {1, 1}, "items[x": {3, 3}, "[": {1, 1},
	} {
		if line, col := doc.At(path); line != want[0] || col != want[1] {
			t.Errorf("At(%q) = %d:%d, want %d:%d", path, line, col, want[0], want[1])
		}
	}
	if !doc.Has("items[1].kind") || doc.Has("items[1].port") {
		t.Error("Has confuses what is there with what is not")
	}
	var none *Document
	if line, _ := none.At("name"); line != 0 || none.Has("name") {
		t.Error("a nil document has places")
	}
}

// TestHostileDocuments are refused, or read, in bounded time and memory.
func TestHostileDocuments(t *testing.T) {
	laughs := "a0: &a0 [x, x]\n"
	for i := range 40 {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	chain := "a0: &a0 [x]\n"
	for i := range 100 {
		chain += fmt.Sprintf("a%d: &a%d [*a%d]\n", i+1, i+1, i)
	}
	many := func(s string, size int) string { return strings.Repeat(s, size/len(s)) }
	const mb = 1 << 20
	for _, tt := range []struct{ name, text, want string }{
		{"billion laughs", laughs, "aliases expand to more than"},
		{"deep aliases", chain, "nested deeper than"},
		{"flow lists", many("[", mb), "nested deeper than"},
		{"flow mappings", many("{a: ", mb), "nested deeper than"},
		{"dashes", many("- ", mb-2) + "a", "nested deeper than"},
		{"question marks", many("? ", mb), "nested deeper than"},
		{"anchors", "a: " + many("&a ", mb-3), "nested deeper than"},
		{"tags", "a: " + many("!a ", mb-3), "nested deeper than"},
		{"colons", many("a: ", mb), "nested deeper than"},
		{"indentation", func() string {
			var b strings.Builder
			for i := range 1000 {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(), "nested deeper than"},
		{"keys", func() string {
			var b strings.Builder
			for i := 0; b.Len() < mb-20; i++ {
				fmt.Fprintf(&b, "k%d: v\n", i)
			}
			return b.String()
		}(), "words and signs"},
		{"documents", many("---\n", mb), "words and signs"},
		{"long key", strings.Repeat("k", 300) + ": v\n", "a key of 300 bytes"},
		{"too large", many("#", mb) + "##", "the limit is 1048576"},
		{"quotes", many("'", mb), ""},
		{"percent", many("%", mb), ""},
		{"long text", "name: " + many("x", mb-10), ""},
		{"blank lines", many("\n", mb), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, errs := decode(t, tt.text)
			if tt.want != "" && !strings.Contains(errs.Error(), tt.want) {
				t.Errorf("got %.200s, want %s", errs.Error(), tt.want)
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestFindingsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("name: a\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "unknown%d: v\n", i)
	}
	_, errs := decode(t, b.String())
	if len(errs) != maxErrors+1 || !strings.Contains(errs[maxErrors].Msg, "2900 more errors") {
		t.Errorf("%d findings, the last is %v", len(errs), errs[len(errs)-1])
	}
}

func TestErrorsSortAndWrap(t *testing.T) {
	errs := Errors{{File: "b", Line: 1, Col: 1, Msg: "x"}, {File: "a", Line: 2, Col: 1, Msg: "y"}, {File: "a", Line: 1, Col: 9, Msg: "z", Hint: "h"}, {File: "a", Line: 2, Col: 1, Msg: "y"}}
	errs.Sort()
	if got, want := errs.Error(), "a:1:9: z\nhint: h\na:2:1: y\nb:1:1: x"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var target Errors
	if !errors.As(fmt.Errorf("load: %w", errs.Err()), &target) || len(target) != 3 {
		t.Error("errors.As does not find the findings")
	}
	if Errors(nil).Err() != nil {
		t.Error("no findings are an error")
	}
}

func TestNearest(t *testing.T) {
	known := []string{"network", "services", "name", "ntp"}
	for word, want := range map[string]string{"netwrok": "network", "service": "services", "Name": "name", "nme": "name", "xyz": "", "": "", "netwokrs": "network", "ntpp": "ntp"} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"name: a\nitems:\n  - {port: 1}\n", "a: &a [*a]\n", "? a\n: b\n", "- - - a\n", "a: |\n  x\n", "a: >-\n  x\n\n  y\n", "{a: [b, {c: d}]}",
		"%YAML 1.2\n---\na: 'it''s'\n...\n", "a: \"\\x00\\u1234\"\n", "<<: {a: b}\n", "!!map {}\n", "a: .inf\nb: .nan\nc: 0o17\n", "\t", "a:\n\t- b\n",
		"\"a.b\": 1\n", "a: &x\nb: *x\n", "[a, b]: c\n", "# only\n", "a: !<tag:x> y\n", "*a : b\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse("f.yaml", data, Limits{Size: 4096})
		if err != nil {
			if len(err.(Errors)) == 0 {
				t.Fatal("an error without findings")
			}
			return
		}
		var v outer
		for _, e := range d.Decode(&v, table) {
			if e.Line < 0 || e.Msg == "" {
				t.Fatalf("finding without place or words: %+v", e)
			}
			d.At(e.Path)
		}
	})
}

type outer struct {
	Doc doc `yaml:",inline"`
}
