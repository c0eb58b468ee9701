package httpboot

import (
	"io/fs"
	"math"
	"net/url"
	"path"
	"strings"
	"testing"
)

// TestClean: the ways in which a path is not one; httpboot_test has them in
// requests, too.
func TestClean(t *testing.T) {
	for raw, want := range map[string]string{
		"/a": "a", "/boot/525400123456/hello-1.0.0.efi": "boot/525400123456/hello-1.0.0.efi", "/%61": "a", "/a?b=../c": "a", "/..a/b..": "..a/b..", "/.a": ".a",
		"a": "", "": "", "/": "", "/.": "", "/..": "", "/a/": "", "//a": "", "/a//b": "", "/%2e%2e/a": "", "/a%2fb": "", "/a%2Fb": "", "/a%5cb": "", "/a%25": "",
		"/a%00": "", "/a%20b": "", "/%7f": "", "/%c3%a4": "", "*": "", "http:a": "",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := clean(u); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", raw, got, ok)
		}
	}
}

// FuzzClean: what is clean stays below any directory, however it is read.
func FuzzClean(f *testing.F) {
	for _, s := range outside {
		f.Add(s)
	}
	f.Add("/" + uki)
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			return
		}
		p, ok := clean(u)
		if !ok {
			if p != "" {
				t.Errorf("%q: refused, and %q", raw, p)
			}
			return
		}
		twice, err := url.PathUnescape(p)
		if err != nil || twice != p || !fs.ValidPath(p) || path.Clean("/"+p) != "/"+p || len(p) > maxPath || strings.ContainsAny(p, "\\\x00%") {
			t.Errorf("%q: %q", raw, p)
		}
		for _, e := range strings.Split(p, "/") {
			if e == "" || e == "." || e == ".." {
				t.Errorf("%q: %q", raw, p)
			}
		}
	})
}

// FuzzRange: a range is within the file.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=-5", "bytes=5-2", "bytes=1-2,3-4", "bytes=99999999999999999999-", "x", ""} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, h string, size int64) {
		if size < 0 || size == math.MaxInt64 {
			return
		}
		s, ok := parseRange(h, size)
		if ok && (s.from < 0 || s.to > size || s.from > s.to || s.part && s.from == s.to || !s.part && (s.from != 0 || s.to != size)) {
			t.Errorf("%q of %d: %+v", h, size, s)
		}
	})
}
