package machine

import (
	"math/rand"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// patterned are the keys whose pattern is also a function.
func patterned(t testing.TB) map[string]*regexp.Regexp {
	t.Helper()
	out := map[string]*regexp.Regexp{}
	for _, k := range Keys().Keys {
		if k.Pattern != "" {
			out[k.Path] = regexp.MustCompile(k.Pattern)
		}
	}
	if len(out) < 4 {
		t.Fatalf("%d keys with a pattern", len(out))
	}
	return out
}

func compareMatch(t *testing.T, res map[string]*regexp.Regexp, s string) {
	t.Helper()
	for path, re := range res {
		if got, want := Keys().Lookup(path).Match(s), re.MatchString(s); got != want {
			t.Errorf("%s: %q: the function says %v, the pattern %v", path, s, got, want)
		}
	}
}

// TestMatch takes what is at the edge of a pattern and changes it.
func TestMatch(t *testing.T) {
	res := patterned(t)
	a := func(n int) string { return strings.Repeat("a", n) }
	seeds := []string{
		"", "a", "-", ".", "a.b", "a..b", ".a", "a.", "-a", "a-", "a-b.c-d", "a-.b", a(63), a(64), a(63) + "." + a(63), a(64) + ".b", "A", "0", "é", "a\n",
		"52:54:00:12:34:56", "52:54:00:12:34:5", "52:54:00:12:34:56:78", "52-54-00-12-34-56", "aA:Ff:gg:00:00:00", ":::::::::::::::::",
		"bond0", "b", a(15), a(16), "0bond", "b_.-0", "_b", "site/ring", "/a", "a/", "a b",
	}
	rnd := rand.New(rand.NewSource(1))
	alphabet := []byte("aAzZ09fFgG:.-_/ \n\x00\xff")
	for _, s := range seeds {
		compareMatch(t, res, s)
		for range 300 {
			b := slices.Clone([]byte(s))
			for range 1 + rnd.Intn(3) {
				at := rnd.Intn(len(b) + 1)
				b = slices.Insert(b, at, alphabet[rnd.Intn(len(alphabet))])
				if rnd.Intn(2) == 0 {
					at = rnd.Intn(len(b))
					b = slices.Delete(b, at, at+1)
				}
			}
			compareMatch(t, res, string(b))
		}
	}
}

func FuzzMatch(f *testing.F) {
	res := patterned(f)
	f.Add("edge-042.site-7.example.com")
	f.Add("52:54:00:12:34:56")
	f.Fuzz(func(t *testing.T, s string) { compareMatch(t, res, s) })
}
