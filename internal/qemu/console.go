package qemu

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// Bounds of what is kept of a console: lines, and bytes of one line.
const (
	maxLines = 4096
	maxLine  = 4096
)

// console is the bounded memory of a serial line.
type console struct {
	mu      sync.Mutex
	lines   []string // complete lines without control codes
	first   Position // of lines[0]
	partial []byte
	changed chan struct{} // closed and replaced at every new line and at the end
	over    bool
	copy    io.Writer
	broken  bool // copy has given an error
}

// Position is a place in the console's lines; 0 is power-on.
type Position int

func newConsole(copy io.Writer) *console { return &console{copy: copy, changed: make(chan struct{})} }

// Write implements io.Writer and never fails.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.copy != nil && !c.broken {
		_, err := c.copy.Write(p)
		c.broken = err != nil
	}
	for _, b := range p {
		if b == '\n' || len(c.partial) >= maxLine {
			c.flush()
		}
		if b != '\n' {
			c.partial = append(c.partial, b)
		}
	}
	return len(p), nil
}

// flush ends the current line. Firmware paints with escape sequences and
// moves the cursor; what stays is what a person would read.
func (c *console) flush() {
	c.lines = append(c.lines, clean(string(c.partial)))
	c.partial = c.partial[:0]
	if over := len(c.lines) - maxLines; over > 0 {
		c.lines = append(c.lines[:0], c.lines[over:]...)
		c.first += Position(over)
	}
	c.wake()
}

func (c *console) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// end marks that nothing more will come.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.partial) > 0 {
		c.flush()
	}
	c.over = true
	c.wake()
}

// find returns the first line at or after from that matches and the position
// after it. Without a match it returns where to go on and a channel that is
// closed at the next change; over says that no change will come.
func (c *console) find(from Position, re *regexp.Regexp) (line string, next Position, ok, over bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := max(from-c.first, 0); int(i) < len(c.lines); i++ {
		if re.MatchString(c.lines[i]) {
			return c.lines[i], c.first + i + 1, true, c.over, nil
		}
	}
	return "", c.first + Position(len(c.lines)), false, c.over, c.changed
}

func (c *console) position() Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first + Position(len(c.lines))
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := c.lines
	if len(c.partial) > 0 {
		lines = append(lines[:len(lines):len(lines)], clean(string(c.partial)))
	}
	return strings.Join(lines, "\n")
}

// last gives the last n lines that are not empty, indented, for error messages.
func (c *console) last(n int) string {
	var lines []string
	for line := range strings.SplitSeq(c.text(), "\n") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, "  | "+line)
		}
	}
	if len(lines) == 0 {
		return "the console is empty"
	}
	return fmt.Sprintf("last lines of the console:\n%s", strings.Join(lines[max(0, len(lines)-n):], "\n"))
}

// escapes are the terminal control sequences of ECMA-48 that firmware, boot
// loaders and kernels use: CSI sequences and two-byte escapes.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?=]*[ -/]*[@-~]|[()][0-9A-Za-z]|[@-Z\\-_=>78c])`)

func clean(line string) string {
	line = escapes.ReplaceAllString(line, "")
	if i := strings.LastIndexByte(strings.TrimRight(line, "\r"), '\r'); i >= 0 {
		line = line[i+1:] // what was painted over
	}
	line = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, line)
	return strings.TrimRight(line, " ")
}
