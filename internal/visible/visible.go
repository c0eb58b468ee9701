// Package visible writes text that anybody may have made, such as names in an
// image or words of a database, so that a person sees all of it and a terminal
// obeys none of it: what has no picture (control characters, marks that turn
// the direction of text, spaces of no known width) becomes a Go escape.
package visible

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Is says whether a person sees every character of s as it is. A tab counts as
// seen, a line break does not.
func Is(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, hidden) }

func hidden(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }

// Line gives s as one line of visible text: as it is where Is holds.
func Line(s string) string {
	if Is(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case hidden(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// Lines is Line for a text that may have line breaks.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Line(line)
	}
	return strings.Join(lines, "\n")
}
