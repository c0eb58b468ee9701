package ui

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// Events returns a handler that says what happens, one line for each event: in
// words on Err, or with JSON set as one object on Out. Debug events are left out
// unless verbose.
func (u *UI) Events(verbose bool) slog.Handler {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	if u.JSON {
		return slog.NewJSONHandler(u.Out, &slog.HandlerOptions{Level: level})
	}
	return &events{u: u, level: level}
}

// events is slog.Handler in words.
type events struct {
	u     *UI
	level slog.Level
}

// Enabled implements slog.Handler.
func (e *events) Enabled(_ context.Context, l slog.Level) bool { return l >= e.level }

// WithAttrs implements slog.Handler; servers give all attributes with the event.
func (e *events) WithAttrs([]slog.Attr) slog.Handler { return e }

// WithGroup implements slog.Handler.
func (e *events) WithGroup(string) slog.Handler { return e }

// Handle implements slog.Handler.
func (e *events) Handle(_ context.Context, r slog.Record) error {
	values := map[string]string{}
	var order []string
	r.Attrs(func(a slog.Attr) bool {
		if text := a.Value.String(); text != "" {
			values[a.Key] = text
			order = append(order, a.Key)
		}
		return true
	})
	text := r.Time.Format("15:04:05 ") + sentence(r.Message, values, order)
	if r.Level >= slog.LevelError {
		text = "error: " + text
	}
	e.u.Say("%s", strings.ReplaceAll(text, "\n", "; "))
	return nil
}

// sentence words an event: the ones of each day as people say it, others as
// they are.
func sentence(message string, v map[string]string, order []string) string {
	host := v["host"]
	from := ""
	if v["address"] != "" {
		from = ", from " + v["address"]
	}
	switch message {
	case "verdict":
		if v["trusted"] == "true" {
			return fmt.Sprintf("%s is trusted: %s%s", host, releaseWords(v["release"], v["version"], v["slot"]), from)
		}
		return fmt.Sprintf("%s is REFUSED: %s: %s%s", host, v["code"], v["detail"], from)
	case "enrolled":
		if v["state"] == "pending" {
			return fmt.Sprintf("%s waits for approval (%s)%s; compare its key, then type: ingot hosts %s --approve", host, v["why"], from, host)
		}
		return fmt.Sprintf("%s is enrolled%s", host, from)
	case "enrolment refused":
		return fmt.Sprintf("enrolment of %q is refused: %s: %s%s", host, v["code"], v["detail"], from)
	case "evidence rejected":
		return fmt.Sprintf("evidence under the name of %s is rejected: %s: %s%s", host, v["code"], v["detail"], from)
	case "silent":
		return fmt.Sprintf("%s is silent: nothing is known about it any more", host)
	case "listening":
		return fmt.Sprintf("listening on %s as %s; a proof of each host every %s", v["on"], strings.ReplaceAll(v["names"], " ", ", "), v["interval"])
	case "operator":
		return fmt.Sprintf("%s: %s, by %s%s", host, strings.TrimSpace(v["action"]+" "+v["release"]+v["boot"]), v["by"], from)
	case "slots":
		return slotsSentence(v)
	case "drift":
		return fmt.Sprintf("%s: %s", host, v["detail"])
	case "boot":
		return bootSentence(v)
	case "install":
		return installSentence(v)
	}
	var b strings.Builder
	b.WriteString(message)
	for i, k := range order {
		b.WriteString(map[bool]string{true: ": ", false: ", "}[i == 0])
		b.WriteString(k + " " + v[k])
	}
	return b.String()
}

// slotsSentence words a host's report on its slots.
func slotsSentence(v map[string]string) string {
	s := fmt.Sprintf("%s is %s: slot %s is good, with %s", v["host"], v["phase"], dash(v["good"]), dash(v["version"]))
	if v["next"] != "" {
		s += "; the other has " + v["next"]
	}
	if v["cause"] != "" {
		s += "; last failure: " + v["cause"]
	}
	return s
}

// installSentence words how far a host is that puts itself on a disk.
func installSentence(v map[string]string) string {
	switch v["phase"] {
	case "writing":
		return fmt.Sprintf("%s installs itself on %s", v["host"], v["disk"])
	case "done":
		if v["detail"] != "" {
			return fmt.Sprintf("%s is installed on %s, but boot entries could not be written: %s; it starts from there if its firmware finds the disk without one", v["host"], v["disk"], v["detail"])
		}
		return fmt.Sprintf("%s is installed on %s, and starts from there", v["host"], v["disk"])
	case "refused":
		return fmt.Sprintf("%s does not install itself: %s", v["host"], v["detail"])
	}
	return fmt.Sprintf("%s: the install has %s, and begins again: %s", v["host"], v["phase"], v["detail"])
}

// releaseWords names a release and the slot that it runs from.
func releaseWords(name, version, slot string) string {
	s := strings.TrimSpace(name + " " + version)
	if slot != "" {
		s += ", slot " + slot
	}
	return s
}
