// Package cmdline reads and builds the kernel command line as the kernel
// itself splits it (lib/cmdline.c, next_arg; Linux 6.12).
//
// Words are separated by white space outside of double quotes. A word is
// KEY or KEY=VALUE; quotes around the whole word or around the whole value are
// not part of it, quotes anywhere else are. There is no escape, so a value
// cannot hold both white space and a quote. In keys "-" and "_" are the same.
// What follows the word "--" belongs to init and is no parameter.
//
// Shape of use:
//
//	l := cmdline.Parse("console=ttyS0 quiet")
//	err := l.Append("panic=30", `dyndbg="file drivers/usb/* +p"`)
//	err = l.Set("ingot.build", digest)
//	text := l.String()
package cmdline

import (
	"fmt"
	"slices"
	"strings"
)

// MaxLen is the longest command line in bytes that no supported kernel cuts:
// COMMAND_LINE_SIZE is 2048 on x86 and arm64, with the trailing NUL.
const MaxLen = 2047

// Word is one word of a command line.
type Word struct {
	Key      string
	Value    string
	HasValue bool   // whether there is a "="
	Text     string // as written, with quotes
}

// Line is a command line. The zero value is empty.
type Line struct {
	Words []Word
}

// Parse splits a command line. Every input has a meaning to the kernel, so
// there is no error: an unterminated quote ends with the line.
func Parse(s string) Line {
	var l Line
	for {
		for s != "" && isSpace(s[0]) {
			s = s[1:]
		}
		if s == "" {
			return l
		}
		n := wordEnd(s)
		l.Words = append(l.Words, parseWord(s[:n]))
		s = s[n:]
	}
}

// isSpace is the kernel's isspace: ASCII, and 0xa0 because its table is Latin-1.
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0xa0 }

func wordEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			quoted = !quoted
		}
		if !quoted && isSpace(s[i]) {
			return i
		}
	}
	return len(s)
}

// parseWord follows next_arg: a leading quote is dropped at once; a closing one
// only if it is the last byte of the word.
func parseWord(text string) Word {
	s := text
	if s[0] == '"' {
		s = strings.TrimSuffix(s[1:], `"`)
	}
	key, value, has := strings.Cut(s, "=")
	if has && key == "" {
		// next_arg takes position 0 for "no equals sign".
		key, value, has = cutBehindFirst(s)
	}
	if strings.HasPrefix(value, `"`) {
		value = strings.TrimSuffix(value[1:], `"`)
	}
	return Word{Key: key, Value: value, HasValue: has, Text: text}
}

func cutBehindFirst(s string) (string, string, bool) {
	key, value, has := strings.Cut(s[1:], "=")
	return s[:1] + key, value, has
}

// parameters returns the words before "--".
func (l Line) parameters() []Word {
	if i := l.end(); i < len(l.Words) {
		return l.Words[:i]
	}
	return l.Words
}

func (l Line) end() int {
	i := slices.IndexFunc(l.Words, func(w Word) bool { return w.Text == "--" })
	if i < 0 {
		return len(l.Words)
	}
	return i
}

// Get returns the value of the last parameter of that key, which is the one
// that wins in the kernel, and whether there is one. A key without "=" has the
// value "".
func (l Line) Get(key string) (string, bool) {
	all := l.All(key)
	if len(all) == 0 {
		return "", false
	}
	return all[len(all)-1], true
}

// All returns the values of every parameter of that key, in order; console= is
// commonly given more than once.
func (l Line) All(key string) []string {
	var out []string
	for _, w := range l.parameters() {
		if sameKey(w.Key, key) {
			out = append(out, w.Value)
		}
	}
	return out
}

var fold = strings.NewReplacer("-", "_")

func sameKey(a, b string) bool { return a == b || fold.Replace(a) == fold.Replace(b) }

// Append adds words, in their written form, before "--". One argument may hold
// several words; unbalanced quotes, NUL and control characters are errors.
func (l *Line) Append(words ...string) error {
	var add []Word
	for _, s := range words {
		if err := check(s); err != nil {
			return fmt.Errorf("append %q: %w", s, err)
		}
		add = append(add, Parse(s).Words...)
	}
	l.Words = slices.Insert(slices.Clip(l.Words), l.end(), add...)
	return nil
}

func check(s string) error {
	if strings.Count(s, `"`)%2 != 0 {
		return fmt.Errorf("unbalanced quote")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("control character %#x", s[i])
	}
	return nil
}

// Set makes key=value the only parameter of that key: in place of the first,
// or as the last parameter.
func (l *Line) Set(key, value string) error {
	w, err := Format(key, value)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(l.parameters(), func(w Word) bool { return sameKey(w.Key, key) })
	l.Delete(key)
	if at < 0 {
		at = l.end()
	}
	l.Words = slices.Insert(slices.Clip(l.Words), at, w)
	return nil
}

// Delete removes every parameter of that key.
func (l *Line) Delete(key string) {
	end := l.end()
	kept := slices.DeleteFunc(slices.Clone(l.Words[:end]), func(w Word) bool { return sameKey(w.Key, key) })
	l.Words = append(kept, l.Words[end:]...)
}

// Format makes the word key=value, with quotes around a value that holds
// white space. It fails for what cannot be written.
func Format(key, value string) (Word, error) {
	text := key + "=" + value
	if strings.ContainsFunc(value, func(r rune) bool { return r == ' ' || r == 0xa0 }) || strings.IndexByte(value, 0xa0) >= 0 {
		text = key + `="` + value + `"`
	}
	w := parseOne(text)
	if err := check(text); err != nil {
		return Word{}, fmt.Errorf("format %q: %w", text, err)
	}
	if w.Key != key || w.Value != value {
		return Word{}, fmt.Errorf("format %q: the kernel would read key %q, value %q", text, w.Key, w.Value)
	}
	return w, nil
}

func parseOne(text string) Word {
	if l := Parse(text); len(l.Words) == 1 && l.Words[0].Text == text {
		return l.Words[0]
	}
	return Word{}
}

// String returns the words with one space between them.
func (l Line) String() string {
	texts := make([]string, len(l.Words))
	for i, w := range l.Words {
		texts[i] = w.Text
	}
	return strings.Join(texts, " ")
}
