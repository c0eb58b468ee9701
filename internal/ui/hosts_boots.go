package ui

import (
	"fmt"
	"strings"
	"time"

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
		last := dash(m.Last)
		if m.Outcome != "" {
			last += ": " + m.Outcome
		}
		rows = append(rows, []string{m.MAC, dash(m.Host), m.Would, last, ago(m.Seen, l.Now), m.Why})
	}
	return u.Table([]string{"MACHINE", "HOST", "WOULD BOOT", "LAST BOOT", "SEEN", "BECAUSE"}, rows)
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
		if err := u.explain(d, m); err != nil {
			return err
		}
	}
	return nil
}

func (u *UI) explain(d *verifier.BootDetail, m verifier.BootMachine) error {
	var rows [][]string
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	add("machine", m.MAC)
	add("host", dash(m.Host))
	add("firmware", m.Arch)
	add("UUID", m.UUID)
	add("serial", m.Serial)
	add("asset", m.Asset)
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
	add("boots", would)
	add("because", m.Why)
	add("file", m.Path)
	if a := d.Attempt; a != nil {
		add("attempt", fmt.Sprintf("%s since %s, until %s", a.Stem, clock(a.Opened), clock(a.Until)))
	}
	for _, s := range m.Steps {
		add(map[bool]string{true: "+ ", false: "- "}[s.Matched]+s.What, s.Why)
	}
	add("note", m.Note)
	return u.Table(nil, rows)
}

func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }

// Timeline is the result of ingot hosts HOST --timeline: boots, newest last.
func (u *UI) Timeline(d *verifier.BootDetail) error {
	if u.JSON {
		return u.PrintJSON(d)
	}
	none := true
	for _, m := range d.Machines {
		for _, b := range m.Boots {
			none = false
			if err := u.bootStory(m.MAC, b); err != nil {
				return err
			}
		}
	}
	if none {
		return u.Print("%s: no boot over the network was seen", d.Name)
	}
	return nil
}

func (u *UI) bootStory(mac string, b timeline.Boot) error {
	outcome := b.Outcome
	if b.Died {
		outcome = "DIED: " + outcome
	}
	head := []string{b.Begun.Local().Format("2006-01-02 15:04:05"), mac}
	for _, s := range []string{b.Release, string(b.Method), b.Addr} {
		if s != "" {
			head = append(head, s)
		}
	}
	if err := u.Print("%s: %s", strings.Join(head, "  "), outcome); err != nil {
		return err
	}
	var rows [][]string
	for _, s := range b.Steps {
		rows = append(rows, []string{fmt.Sprintf("  %+8.1f s", s.Time.Sub(b.Begun).Seconds()), stageWords[s.Stage], stepDetail(s)})
	}
	return u.Table(nil, rows)
}

// stageWords are stages for people.
var stageWords = map[netboot.Stage]string{
	netboot.Asked: "asked", netboot.Offered: "offered", netboot.Refused: "told no", netboot.Probed: "asked for the size", netboot.First: "first byte", netboot.Last: "last byte",
	netboot.Broken: "broken off", netboot.Attested: "attested", netboot.Healthy: "healthy", timeline.Chained: "iPXE runs", timeline.Started: "ingot-init runs",
}

func stepDetail(s timeline.Step) string {
	var words []string
	if s.Path != "" {
		words = append(words, s.Path)
	}
	switch {
	case s.Size > 0 && s.Bytes > 0 && s.Bytes < s.Size:
		words = append(words, fmt.Sprintf("%d of %d bytes", s.Bytes, s.Size))
	case s.Size > 0:
		words = append(words, fmt.Sprintf("%d bytes", s.Size))
	}
	if s.Detail != "" {
		words = append(words, s.Detail)
	}
	if s.Times > 1 {
		words = append(words, fmt.Sprintf("%d times", s.Times))
	}
	return strings.Join(words, ", ")
}
