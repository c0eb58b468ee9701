// Package ui holds the words of the ingot command: results, messages, hints,
// progress and tables, so that every verb speaks with one voice.
//
// Results go to Out and nothing else does; everything said to a person goes to
// Err as "ingot: ...", "ingot: error: ..." and "hint: ...". Progress is drawn
// only on a terminal; in a pipe a command that goes well is silent on Err. With
// JSON set a result is one indented JSON document and no table.
//
// A verb returns an error and the program exits with Fail of it:
//
//	u := ui.New(os.Stdout, os.Stderr)
//	os.Exit(u.Fail(verb(u)))
package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// UI is where a command's words and results go. Its methods may be called
// concurrently. Make it with New.
type UI struct {
	Out, Err io.Writer
	Terminal bool // Err is a terminal: draw progress
	JSON     bool // results as JSON
	Width    int  // columns of the terminal; 0 means 80

	mu      sync.Mutex
	running []activity // what the drawn line speaks of, oldest first
	drawn   bool       // a progress line stands at the cursor
	now     func() time.Time
}

// New returns the UI for a pair of streams and finds out whether err is a
// terminal that can be drawn on. TERM=dumb counts as no terminal.
func New(out, err io.Writer) *UI {
	u := &UI{Out: out, Err: err, now: time.Now}
	f, ok := err.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return u
	}
	if ws, e := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); e == nil {
		u.Terminal, u.Width = true, int(ws.Col)
	}
	return u
}

// Say writes one message: "ingot: ...".
func (u *UI) Say(format string, args ...any) { u.words("ingot: ", fmt.Sprintf(format, args...)) }

// Note writes one message on a terminal and nothing into a pipe: what a person
// watching wants to know and a script does not.
func (u *UI) Note(format string, args ...any) {
	if u.Terminal {
		u.Say(format, args...)
	}
}

// Warn writes a message about something that is wrong but does not stop the verb.
func (u *UI) Warn(format string, args ...any) {
	u.words("ingot: warning: ", fmt.Sprintf(format, args...))
}

// Hint writes what to do next: "hint: ...".
func (u *UI) Hint(format string, args ...any) { u.words("hint: ", fmt.Sprintf(format, args...)) }

func (u *UI) words(prefix, text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.erase()
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		p := prefix
		if strings.HasPrefix(line, "hint: ") || strings.HasPrefix(line, " ") {
			p = "" // a nested hint or the continuation of the line above
		}
		fmt.Fprintln(u.Err, p+printable(line))
	}
	u.draw()
}

// PrintJSON writes a result as one indented JSON document.
func (u *UI) PrintJSON(v any) error {
	u.clear()
	enc := json.NewEncoder(u.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// Print writes one line of a result.
func (u *UI) Print(format string, args ...any) error {
	u.clear()
	if _, err := fmt.Fprintf(u.Out, format+"\n", args...); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
