package ui

import (
	"fmt"
	"strings"

	"github.com/ingot-os/ingot/internal/slotdisk"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Slots is the result of ingot slots HOST: what the slots hold and which starts.
func (u *UI) Slots(s *updateapi.Slots) error {
	if u.JSON {
		return u.PrintJSON(s)
	}
	return u.slots(s, []string{"journal: " + s.Journal})
}

// SlotDisk is the result of ingot slots for a disk: as Slots, with both copies
// of the journal, and what does not fit together.
func (u *UI) SlotDisk(v *slotdisk.View) error {
	if u.JSON {
		return u.PrintJSON(v)
	}
	copies := make([]string, len(v.Copies))
	for i, c := range v.Copies {
		copies[i] = fmt.Sprintf("copy %d %s", i, c.State)
		if c.Sequence > 0 {
			copies[i] += fmt.Sprintf(", sequence %d", c.Sequence)
		}
		if c.Current {
			copies[i] += " (current)"
		}
	}
	if err := u.slots(&v.Slots, []string{"journal: " + v.Journal + "; " + strings.Join(copies, "; ")}); err != nil {
		return err
	}
	for _, p := range v.Problems {
		u.Warn("%s", p)
	}
	return nil
}

func (u *UI) slots(s *updateapi.Slots, journal []string) error {
	rows := make([][]string, len(s.Slots))
	for i, x := range s.Slots {
		rows[i] = []string{x.Name, dash(x.Version), x.Condition, fmt.Sprint(x.Epoch), digestCell(x.Image, x.Found), dash(Short(x.Root)), strings.Join(marks(s, x.Name), ", ")}
	}
	if err := u.Table([]string{"SLOT", "VERSION", "CONDITION", "EPOCH", "IMAGE", "ROOT", ""}, rows); err != nil {
		return err
	}
	phase := fmt.Sprintf("phase: %s; chosen by: %s; tries left: %d; trials that ran: %d; floor: %d", s.Phase, s.Means, s.TriesLeft, s.Attempt, s.Floor)
	lines := append([]string{phase}, journal...)
	if s.Cause != "" {
		lines = append(lines, strings.TrimSuffix(fmt.Sprintf("last failure: slot %s: %s: %s", s.Culprit, s.Cause, s.Detail), ": "))
	}
	for _, r := range s.Rejected {
		lines = append(lines, fmt.Sprintf("rejected: %s (%s)", r.Version, r.Cause))
	}
	if len(s.Entries) == 0 {
		lines = append(lines, "boot entries: none seen")
	}
	for _, l := range append(lines, s.Entries...) {
		if err := u.Print("%s", printable(l)); err != nil {
			return err
		}
	}
	return nil
}

// Log is the log of a boot that failed.
func (u *UI) Log(text string) error {
	if u.JSON {
		return u.PrintJSON(struct {
			Log string `json:"log"`
		}{text})
	}
	for line := range strings.Lines(text) {
		if err := u.Print("%s", printable(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

// digestCell is the digest that counts, or why the slot could not be read.
func digestCell(journal, found string) string {
	switch {
	case found == "" || found == journal:
		return dash(Short(journal))
	case len(found) == 64 && journal == "":
		return Short(found)
	case len(found) == 64:
		return Short(found) + "!" // the journal says another
	}
	return found
}

// marks are the parts that a slot plays.
func marks(s *updateapi.Slots, name string) (list []string) {
	for _, m := range []struct {
		word string
		is   bool
	}{
		{"good", s.Good == name}, {"running", s.Running == name}, {"candidate", s.Candidate == name},
		{"first in BootOrder", len(s.Order) > 0 && s.Order[0] == name}, {"BootNext", s.Next == name},
	} {
		if m.is {
			list = append(list, m.word)
		}
	}
	return list
}

// Why is the result of ingot why: at most 20 lines.
func (u *UI) Why(lines []string) error {
	if u.JSON {
		return u.PrintJSON(struct {
			Why []string `json:"why"`
		}{lines})
	}
	for _, l := range lines {
		if err := u.Print("%s", printable(l)); err != nil {
			return err
		}
	}
	return nil
}
