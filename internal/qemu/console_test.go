package qemu

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestConsoleLinesAreWhatAPersonReads(t *testing.T) {
	cases := map[string]string{
		"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[0m\x1b[35m\x1b[40mBdsDxe: loading Boot0001\r": "BdsDxe: loading Boot0001",
		"10%\r20%\r100% done\r\r":   "100% done",
		"tab\tkept  ":               "tab\tkept",
		"\x07bell\x00nul\x7f":       "bellnul",
		"\x1b(B\x1b7\x1b8\x1bMtext": "text",
		"kein Gerät":                "kein Gerät",
		"bad \xff utf8":             "bad  utf8",
	}
	for in, want := range cases {
		c := newConsole(nil)
		fmt.Fprint(c, in+"\n")
		if got := c.text(); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestConsoleIsBounded(t *testing.T) {
	c := newConsole(nil)
	for i := range maxLines + 100 {
		fmt.Fprintf(c, "line %d\n", i)
	}
	if len(c.lines) != maxLines || c.position() != maxLines+100 {
		t.Errorf("got %d lines, position %d", len(c.lines), c.position())
	}
	// A position that has been dropped means the oldest line that is there.
	line, next, ok, _, _ := c.find(3, regexp.MustCompile("line"))
	if !ok || line != "line 100" || next != 101 {
		t.Errorf("got %q, %d, %v", line, next, ok)
	}
	c = newConsole(nil)
	fmt.Fprint(c, strings.Repeat("x", 10*maxLine))
	if len(c.partial) > maxLine || len(c.lines) != 9 {
		t.Errorf("got %d lines and %d bytes", len(c.lines), len(c.partial))
	}
}

func TestConsoleFindGoesOnWhereItEnded(t *testing.T) {
	c := newConsole(nil)
	fmt.Fprint(c, "boot\nhealthy\n")
	_, next, ok, _, _ := c.find(0, regexp.MustCompile("healthy"))
	if !ok || next != 2 {
		t.Fatalf("got %d, %v", next, ok)
	}
	if _, _, ok, over, changed := c.find(next, regexp.MustCompile("healthy")); ok || over || changed == nil {
		t.Error("found the first line twice")
	}
	fmt.Fprint(c, "boot\nhealthy again")
	c.end()
	if line, _, ok, over, _ := c.find(next, regexp.MustCompile("healthy")); !ok || !over || line != "healthy again" {
		t.Errorf("got %q, %v, %v", line, ok, over)
	}
}

type brokenPipe struct{ n int }

func (b *brokenPipe) Write(p []byte) (int, error) { b.n++; return 0, errors.New("broken pipe") }

func TestConsoleOutlivesItsCopy(t *testing.T) {
	b := &brokenPipe{}
	c := newConsole(b)
	for range 3 {
		if _, err := fmt.Fprint(c, "line\n"); err != nil {
			t.Fatal(err)
		}
	}
	if b.n != 1 || c.position() != 3 {
		t.Errorf("copy was written %d times, %d lines", b.n, c.position())
	}
}

func TestLastLines(t *testing.T) {
	c := newConsole(nil)
	if got := c.last(3); got != "the console is empty" {
		t.Errorf("got %q", got)
	}
	fmt.Fprint(c, "a\n\nb\n \nc\nShell> ")
	if got := c.last(2); got != "last lines of the console:\n  | c\n  | Shell>" {
		t.Errorf("got %q", got)
	}
}
