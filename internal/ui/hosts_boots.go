package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/timeline"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// Boots is the part of ingot hosts about machines that boot over the network.
func (u *UI) Boots(l *verifier.BootList) error {
	if len(l.Machines) == 0 {
		return nil
	}
	var rows [][]string
	for _, m := range l.Machines {
		rows = append(rows, []string{m.MAC, dash(m.Host), m.Would, m.Why, lastBoot(m), ago(m.Seen, l.Now)})
	}
	return u.Table([]string{"MACHINE", "HOST", "WOULD BOOT", "BECAUSE", "LAST BOOT", "SEEN"}, rows)
}

// lastBoot is what a machine got last, and how far that came.
func lastBoot(m verifier.BootLine) string {
	switch {
	case m.Outcome == "":
		return dash(m.Last)
	case m.Stage == netboot.Refused && !m.Died: // why, the rules say now; the timeline says what they said then
		return "told no"
	}
	text := m.Outcome
	if m.Died {
		text = "DIED: " + text
	}
	if m.Last != "" && !strings.Contains(m.Outcome, m.Last) {
		text = m.Last + ": " + text
	}
	return text
}

// Explain is the result of ingot hosts HOST --explain.
func (u *UI) Explain(d *verifier.BootDetail) error {
	if u.JSON {
		return u.PrintJSON(d)
	}
	if len(d.Machines) == 0 {
		return u.Print("%s: no MAC address of it is known: it has not been started over the network", d.Name)
	}
	for i, m := range d.Machines {
		if i > 0 {
			if err := u.Print(""); err != nil {
				return err
			}
		}
		if err := u.Table(nil, explained(d, m)); err != nil {
			return err
		}
		if err := u.steps(m.Steps); err != nil {
			return err
		}
		if m.Quarantine != "" {
			u.Hint("is it the machine that it attested as, %s? Then: ingot hosts %s --unquarantine", dash(m.ClaimedHost), m.MAC)
		}
	}
	return nil
}

// explained is what is known of a machine, with where it is known from.
func explained(d *verifier.BootDetail, m verifier.BootMachine) (rows [][]string) {
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	reported := func(text string) string {
		if text == "" {
			return ""
		}
		return text + ", reported " + ago(m.Reported, d.Now) + " by an image that was trusted"
	}
	add("machine", m.MAC)
	add("host", dash(m.Host))
	add("attested as", m.ClaimedHost)
	add("firmware", m.Arch)
	add("UUID", reported(m.UUID))
	if m.Claimed != "" {
		add("UUID", m.Claimed+", as it says itself: not proven")
	}
	add("serial", reported(m.Serial))
	add("asset", reported(m.Asset))
	if m.EK != "" {
		add("EK", m.EK+", of its enrolment")
	}
	add("boots", wouldWords(m))
	add("because", m.Why)
	add("file", m.Path)
	if k := d.Ticket; k != nil {
		add("ticket", fmt.Sprintf("%s by %s, until %s", k.Kind, k.By, minute(k.Expires)))
	}
	if a := d.Attempt; a != nil {
		add("attempt", fmt.Sprintf("%s since %s, until %s", a.Stem, clock(a.Opened), clock(a.Until)))
	}
	if last := lastBoot(m.BootLine); last != "-" {
		add("last boot", last+", "+ago(m.Seen, d.Now))
	}
	add("note", m.Note)
	return rows
}

func wouldWords(m verifier.BootMachine) string {
	would := m.Would
	switch {
	case m.Would == "local":
		would = "nothing from here: its next boot option, at once"
	case m.Chain:
		would += ", by way of iPXE"
	}
	if m.Trial {
		would += ", as a try"
	}
	return would
}

// steps are what was looked at for a decision.
func (u *UI) steps(list []bootrule.Step) error {
	if err := u.Print("\nlooked at, in this order:"); err != nil {
		return err
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{map[bool]string{true: "  yes", false: "  no"}[s.Matched], s.What, s.Why})
	}
	return u.Table(nil, rows)
}

func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }

func minute(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// Timeline is the result of ingot hosts HOST --timeline: boots, newest last.
func (u *UI) Timeline(d *verifier.BootDetail) error {
	if u.JSON {
		return u.PrintJSON(d)
	}
	n, died := 0, netboot.Stage("")
	for _, m := range d.Machines {
		for i, b := range m.Boots {
			if n++; n > 1 {
				if err := u.Print(""); err != nil {
					return err
				}
			}
			if err := u.bootStory(m.MAC, b); err != nil {
				return err
			}
			if b.Died && i == len(m.Boots)-1 {
				died = b.Stage
			}
		}
	}
	if n == 0 {
		return u.Print("%s: no boot over the network was seen", d.Name)
	}
	if died != "" {
		u.Hint("docs/serve.md, \"A machine does not boot\", says what to do when the last that is seen is %q", died)
	}
	return nil
}

func (u *UI) bootStory(mac string, b timeline.Boot) error {
	outcome := b.Outcome
	if b.Died {
		outcome = "DIED: " + outcome
	}
	head := []string{b.Begun.Local().Format("2006-01-02 15:04:05"), mac}
	for _, s := range []string{b.Host, b.Release, string(b.Method), b.Addr} {
		if s != "" {
			head = append(head, s)
		}
	}
	if err := u.Print("%s: %s", strings.Join(head, "  "), outcome); err != nil {
		return err
	}
	begun := map[string]time.Time{} // first bytes, by file
	var rows [][]string
	for _, s := range b.Steps {
		took := ""
		switch s.Stage {
		case netboot.First:
			begun[s.Path] = s.Time
		case netboot.Last:
			if t, ok := begun[s.Path]; ok {
				took = fmt.Sprintf("in %.1f s", s.Time.Sub(t).Seconds())
			}
		}
		rows = append(rows, []string{fmt.Sprintf("  %+8.1f s", s.Time.Sub(b.Begun).Seconds()), stageName(s.Stage), stepDetail(s, took)})
	}
	return u.Table(nil, rows)
}

// stageWords are stages for people.
var stageWords = map[netboot.Stage]string{
	netboot.Asked: "asked", netboot.Offered: "offered", netboot.Refused: "told no", netboot.Probed: "asked for the size", netboot.First: "first byte", netboot.Last: "last byte",
	netboot.Broken: "broken off", netboot.Attested: "attested", netboot.Healthy: "healthy", timeline.Chained: "iPXE runs", netboot.Started: "ingot-init runs",
	timeline.Untrusted: "not trusted", timeline.Released: "release is good",
}

func stageName(s netboot.Stage) string {
	if text := stageWords[s]; text != "" {
		return text
	}
	return string(s)
}

// stepDetail is what else is known of a step. That firmware breaks off after the
// size is how it asks for it, and is not said.
func stepDetail(s timeline.Step, took string) string {
	var words []string
	add := func(text string) {
		if text != "" {
			words = append(words, text)
		}
	}
	add(s.Path)
	switch {
	case s.Size > 0 && s.Stage == netboot.Broken:
		add(fmt.Sprintf("%s of %s", Size(s.Bytes), Size(s.Size)))
	case s.Size > 0:
		add(Size(s.Size))
	}
	add(took)
	if s.Stage != netboot.Probed {
		add(s.Detail)
	}
	if s.Times > 1 {
		add(fmt.Sprintf("%d times", s.Times))
	}
	return strings.Join(words, ", ")
}
