package cmdline_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/boot/cmdline"
)

// TestParse holds the cases of next_arg, each worked out from its source.
func TestParse(t *testing.T) {
	type kv = cmdline.Word
	for _, c := range []struct {
		in   string
		want []kv
	}{
		{"", nil},
		{" \t\n\v\f\r\xa0 ", nil},
		{"quiet", []kv{{Key: "quiet", Text: "quiet"}}},
		{"a=b", []kv{{"a", "b", true, "a=b"}}},
		{"a=", []kv{{"a", "", true, "a="}}},
		{"a=b=c", []kv{{"a", "b=c", true, "a=b=c"}}},
		{"  a   b ", []kv{{Key: "a", Text: "a"}, {Key: "b", Text: "b"}}},
		{`a="b c" d`, []kv{{"a", "b c", true, `a="b c"`}, {Key: "d", Text: "d"}}},
		{`"a=b c" d`, []kv{{"a", "b c", true, `"a=b c"`}, {Key: "d", Text: "d"}}},
		{`"a b"`, []kv{{Key: "a b", Text: `"a b"`}}},
		{`a=b" "c`, []kv{{"a", `b" "c`, true, `a=b" "c`}}},
		{`a="b"c`, []kv{{"a", `b"c`, true, `a="b"c`}}},
		{`"a"=b`, []kv{{`a"`, "b", true, `"a"=b`}}},
		{`a="b c`, []kv{{"a", "b c", true, `a="b c`}}},
		{`"`, []kv{{Text: `"`}}},
		{`""`, []kv{{Text: `""`}}},
		{`a="`, []kv{{"a", "", true, `a="`}}},
		{"=x", []kv{{Key: "=x", Text: "=x"}}},
		{"==x", []kv{{"=", "x", true, "==x"}}},
		{"a\xa0b", []kv{{Key: "a", Text: "a"}, {Key: "b", Text: "b"}}},
	} {
		if diff := cmp.Diff(c.want, cmdline.Parse(c.in).Words); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, diff)
		}
	}
}

func TestGet(t *testing.T) {
	l := cmdline.Parse("console=tty0 console=ttyS0,115200 dash-ed=1 dash_ed=2 quiet -- quiet2 console=init")
	if got, ok := l.Get("console"); got != "ttyS0,115200" || !ok {
		t.Errorf("console = %q, %v", got, ok)
	}
	if diff := cmp.Diff([]string{"tty0", "ttyS0,115200"}, l.All("console")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"1", "2"}, l.All("dash-ed")); diff != "" {
		t.Error(diff)
	}
	if got, ok := l.Get("quiet"); got != "" || !ok {
		t.Errorf("quiet = %q, %v", got, ok)
	}
	if _, ok := l.Get("quiet2"); ok {
		t.Error("a word of init was taken for a parameter")
	}
	if _, ok := l.Get("Console"); ok {
		t.Error("keys were compared without case")
	}
}

func TestEdit(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		edit           func(*cmdline.Line) error
	}{
		{"append", "a -- b", "a c d=e -- b", func(l *cmdline.Line) error { return l.Append("c d=e") }},
		{"append quoted", "", `x="1 2" y`, func(l *cmdline.Line) error { return l.Append(`x="1 2"`, "y") }},
		{"set new", "a -- b", "a k=v -- b", func(l *cmdline.Line) error { return l.Set("k", "v") }},
		{"set first", "k_x=1 a k-x=2 k_x", "k-x=v a", func(l *cmdline.Line) error { return l.Set("k-x", "v") }},
		{"set quoted", "", `k="v w"`, func(l *cmdline.Line) error { return l.Set("k", "v w") }},
		{"set empty", "", "k=", func(l *cmdline.Line) error { return l.Set("k", "") }},
		{"delete", "a=1 b a=2 -- a", "b -- a", func(l *cmdline.Line) error { l.Delete("a"); return nil }},
	} {
		l := cmdline.Parse(c.in)
		if err := c.edit(&l); err != nil || l.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, l.String(), err, c.want)
		}
	}
}

func TestEditRefuses(t *testing.T) {
	var l cmdline.Line
	for in, want := range map[string]string{`a="b`: "unbalanced", "a\nb": "control", "a\x00": "control"} {
		if err := l.Append(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("append %q: %v, want %q", in, err, want)
		}
	}
	for _, c := range [][2]string{{"", "x"}, {"a b", "x"}, {"a=b", "x"}, {"a", `"x"`}, {"a", `x "y`}, {"a", "x\ny"}, {`"a`, "x"}} {
		if err := l.Set(c[0], c[1]); err == nil {
			t.Errorf("set %q to %q: no error, line %q", c[0], c[1], l.String())
		}
	}
	if l.String() != "" {
		t.Errorf("a refused edit left %q", l.String())
	}
}

// TestNoAlias edits a copy of a line.
func TestNoAlias(t *testing.T) {
	a := cmdline.Parse("x=1 y=2 z=3")
	b, c := a, a
	b.Delete("x")
	if err := errors.Join(b.Append("b1"), c.Append("c1"), a.Append("a1"), c.Append("c2")); err != nil {
		t.Fatal(err)
	}
	if got := c.String(); got != "x=1 y=2 z=3 c1 c2" {
		t.Errorf("copies share words: %q", got)
	}
	if err := b.Set("y", "9"); err != nil {
		t.Fatal(err)
	}
	if got := a.String(); got != "x=1 y=2 z=3 a1" {
		t.Errorf("editing a copy changed the line to %q", got)
	}
}

// FuzzParse: words survive being written and read, edits do what they say.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a", `a="b c" d`, "a -- b", `"x`, "==", "k\xa0=v"} {
		f.Add(s, "key", "value")
	}
	f.Fuzz(func(t *testing.T, s, key, value string) {
		l := cmdline.Parse(s)
		if diff := cmp.Diff(l, cmdline.Parse(l.String())); diff != "" {
			t.Fatalf("%q written as %q (-first +second):\n%s", s, l.String(), diff)
		}
		l = cmdline.Parse("a=1 -- b")
		if l.Set(key, value) != nil {
			return
		}
		again := cmdline.Parse(l.String())
		if got, ok := again.Get(key); !ok || got != value || len(again.All(key)) != 1 {
			t.Errorf("set %q to %q: %q has %q, %v", key, value, l.String(), got, ok)
		}
	})
}

func ExampleLine() {
	l := cmdline.Parse("console=ttyS0 quiet")
	if err := l.Set("ingot.build", "0123"); err != nil {
		fmt.Println(err)
	}
	console, _ := l.Get("console")
	fmt.Println(console)
	fmt.Println(l.String())
	// Output:
	// ttyS0
	// console=ttyS0 quiet ingot.build=0123
}
