package visible_test

import (
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/visible"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"ä → b\tc, 日本": "ä → b\tc, 日本", "": "", "it's \"so\" \\ here": "it's \"so\" \\ here",
		"a\x1b[2K\rok": `a\x1b[2K\rok`, "a\nb": `a\nb`, "a\u202eb": `a\u202eb`, "a\u2028b": `a\u2028b`,
		"a\x7f\u009bb": `a\x7f\u009bb`, "a\xffb": `a\xffb`, "\ufeffa\u00a0b": `\ufeffa\u00a0b`,
	} {
		if got := visible.Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
		if visible.Is(in) != (in == want) {
			t.Errorf("Is(%q) = %v", in, visible.Is(in))
		}
	}
	if got, want := visible.Lines("a\x1b\nb\r\n"), "a\\x1b\nb\\r\n"; got != want {
		t.Errorf("Lines: %q, want %q", got, want)
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x1b[2J\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got := visible.Line(s); !visible.Is(got) || strings.ContainsAny(got, "\n\r\x1b") || visible.Line(got) != got {
			t.Errorf("Line(%q) = %q", s, got)
		}
	})
}
