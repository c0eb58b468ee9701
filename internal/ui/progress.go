package ui

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// activity is one thing under way.
type activity struct {
	name        string
	start       time.Time
	done, total int64 // bytes; total 0 = unknown, both 0 = not counted
	counted     bool
}

// StepStarted says that a step of a build runs now.
func (u *UI) StepStarted(name string) { u.begin(activity{name: name}) }

// StepDone replaces the step's progress by one line that stays: name, duration
// and detail. A pipe gets nothing.
func (u *UI) StepDone(name string, d time.Duration, cached bool, detail string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.remove(name)
	if !u.Terminal {
		return
	}
	took := Duration(d)
	if cached {
		took = "cached"
	}
	u.erase()
	fmt.Fprintln(u.Err, u.fit(strings.TrimRight(fmt.Sprintf("  %-16s %8s  %s", name, took, detail), " ")))
	u.draw()
}

// Progress draws how far something with a size has come; done == total or end
// takes the line away. Bytes; total 0 means unknown.
func (u *UI) Progress(name string, done, total int64, end bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if end {
		u.remove(name)
		u.erase()
		u.draw()
		return
	}
	for i := range u.running {
		if u.running[i].name == name {
			u.running[i].done, u.running[i].total, u.running[i].counted = done, total, true
			u.erase()
			u.draw()
			return
		}
	}
	u.running = append(u.running, activity{name: name, start: u.clock(), done: done, total: total, counted: true})
	u.erase()
	u.draw()
}

func (u *UI) begin(a activity) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a.start = u.clock()
	u.running = append(u.running, a)
	u.erase()
	u.draw()
}

func (u *UI) remove(name string) {
	for i, a := range u.running {
		if a.name == name {
			u.running = append(u.running[:i], u.running[i+1:]...)
			return
		}
	}
}

func (u *UI) clock() time.Time {
	if u.now == nil {
		return time.Now()
	}
	return u.now()
}

// clear takes the progress line away for good: a result or an error follows.
func (u *UI) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.running = nil
	u.erase()
}

// erase and draw are called with mu held.
func (u *UI) erase() {
	if u.drawn {
		fmt.Fprint(u.Err, "\r\x1b[K")
		u.drawn = false
	}
}

// draw shows the newest activity and how many more there are: one line, never
// wider than the terminal, because a wrapped line cannot be taken back.
func (u *UI) draw() {
	if !u.Terminal || len(u.running) == 0 {
		return
	}
	a := u.running[len(u.running)-1]
	line := "  " + a.name
	switch {
	case a.counted && a.total > 0:
		line += fmt.Sprintf(" %3d%% of %s", a.done*100/a.total, Size(a.total))
	case a.counted:
		line += " " + Size(a.done)
	}
	if n := len(u.running) - 1; n > 0 {
		line += fmt.Sprintf(" (and %d more)", n)
	}
	fmt.Fprint(u.Err, u.fit(line+" ..."))
	u.drawn = true
}

// fit cuts a line to the width of the terminal.
func (u *UI) fit(line string) string {
	width := u.Width
	if width <= 0 {
		width = 80
	}
	if utf8.RuneCountInString(line) < width {
		return line
	}
	return strings.TrimRight(string([]rune(line)[:width-1]), " ")
}
