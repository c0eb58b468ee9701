package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/verifier"
)

// Hosts is the result of ingot hosts: one line for each, and one for each machine
// that boots over the network; nil when the server serves no boots.
func (u *UI) Hosts(l *verifier.List, b *verifier.BootList) error {
	if u.JSON {
		if b == nil {
			return u.PrintJSON(l)
		}
		return u.PrintJSON(struct {
			*verifier.List
			Machines []verifier.BootLine `json:"machines"`
		}{l, b.Machines})
	}
	if len(l.Hosts) == 0 {
		if err := u.Print("no hosts yet"); err != nil {
			return err
		}
	} else {
		var rows [][]string
		for _, h := range l.Hosts {
			rows = append(rows, hostRow(h, l.Now))
		}
		if err := u.Table([]string{"NAME", "STANDING", "RELEASE", "VERSION", "SLOT", "UPDATE", "FAILURE", "LAST", "REASON"}, rows); err != nil {
			return err
		}
	}
	u.Refused(l.Refused)
	if b == nil || len(b.Machines) == 0 {
		return nil
	}
	if err := u.Print(""); err != nil {
		return err
	}
	return u.Boots(b)
}

// Refused says which image sets are not among the releases, and what to do about it.
func (u *UI) Refused(list []verifier.Refused) {
	for _, r := range list {
		u.Warn("release refused: %s: %s", r.Dir, r.Reason)
		if r.Hint != "" {
			u.Hint("%s", r.Hint)
		}
	}
}

// standing is the standing in one word, or what the host waits for.
func standing(h verifier.Summary) string {
	switch {
	case h.Reenrol:
		return "re-enrol"
	case h.State != attest.Active:
		return string(h.State)
	}
	return string(h.Standing)
}

func hostRow(h verifier.Summary, now time.Time) []string {
	row := []string{h.Name, standing(h), "-", "-", "-", updateWords(h.Update), "-", "never", ""}
	if h.Update != nil {
		row[6] = dash(h.Update.Cause)
	}
	if h.Last == nil {
		return row
	}
	row[2], row[3], row[4], row[7] = dash(h.Last.Release), dash(h.Last.Version), dash(h.Last.Slot), ago(h.Heard, now)
	row[8] = string(h.Last.Code)
	if h.Standing == attest.StandingUnknown && h.State == attest.Active {
		row[8] = "silent"
	}
	return row
}

// updateWords are how far a host's update is: "STAGED 1.1.0", "IDLE", or what it
// is still to do about an assignment.
func updateWords(u *fleet.Update) string {
	if u == nil {
		return "-"
	}
	words := strings.TrimSpace(u.Phase + " " + u.Next)
	if a := u.Assignment; a != nil && a.Version != u.Next && a.Version != u.Version {
		words = strings.TrimSpace(words + " (" + a.Version + " assigned)")
	}
	return dash(words)
}

// slotRows are what a host has said about its slots, and what it is offered.
func slotRows(add func(name, format string, args ...any), d *verifier.Detail, now time.Time) {
	if u := d.Update; u != nil && u.Assignment != nil {
		a := u.Assignment
		words := a.Version + ", manifest " + Short(a.Release) + ", by " + a.By
		if a.Approved {
			words += ", approved"
		}
		if a.Override {
			words += ", although it was rejected"
		}
		add("assigned", "%s", words)
	}
	if w := d.Withheld; w != nil {
		add("withheld", "%s: %s", w.Code, w.Detail)
	}
	if d.Slots == nil {
		return
	}
	s := &d.Slots.Slots
	add("slots", "%s, good is %s, by %s, told %s", s.Phase, dash(s.Good), dash(s.Means), ago(d.Slots.At, now))
	for _, x := range s.Slots {
		add("slot "+x.Name, "%s, %s, security epoch %d%s", dash(x.Version), x.Condition, x.Epoch, map[bool]string{true: ", runs"}[x.Name == s.Running && x.Name != ""])
	}
	if s.Cause != "" {
		words := []string{s.Cause}
		if s.Culprit != "" {
			words = append(words, "slot "+s.Culprit)
		}
		if s.Detail != "" {
			words = append(words, s.Detail)
		}
		add("failure", "%s", strings.Join(words, ", "))
	}
	for _, x := range s.Rejected {
		add("not again", "%s: %s", x.Version, x.Cause)
	}
	for _, line := range s.Why {
		add("why", "%s", line)
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ago is how long something is past, roughly: "12 s", "3 min", "2 h", "5 d".
func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d ago", int(d.Hours()/24))
	}
}

// Host is the result of ingot hosts HOST: all that is known, and what was not
// checked. A refused host is exit code 3.
func (u *UI) Host(d *verifier.Detail, now time.Time) error {
	if err := u.printHost(d, now); err != nil {
		return err
	}
	if d.Standing == attest.StandingRefused && d.Last != nil && d.State == attest.Active || d.State == attest.Revoked {
		return Exit(CodeRefused)
	}
	return nil
}

func (u *UI) printHost(d *verifier.Detail, now time.Time) error {
	if u.JSON {
		return u.PrintJSON(d)
	}
	var rows [][]string
	add := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); strings.Trim(text, " ,") != "" {
			rows = append(rows, []string{name, text})
		}
	}
	add("host", "%s", d.Name)
	add("standing", "%s", standing(d.Summary))
	if l := d.Last; l != nil {
		if l.Code != "" {
			add("reason", "%s", l.Detail)
		}
		add("release", "%s", releaseWords(l.Release, l.Version, l.Slot))
		add("boot", "%s, Secure Boot %s", dash(l.Boot), map[bool]string{true: "on", false: "off"}[l.SecureBoot])
		add("heard", "%s, from %s", ago(d.Heard, now), l.Address)
	} else {
		add("heard", "never")
	}
	slotRows(add, d, now)
	add("enrolled", "%s", d.Record.Enrolled.UTC().Format(time.RFC3339))
	add("TPM", "%s", tpmWords(d))
	add("EK", "sha256 %s", d.EK)
	add("EK name", "%s", d.EKName)
	add("floor", "%d", d.Record.Floor)
	if len(d.Record.Machine) > 0 {
		add("machine.yaml", "sha256 %x", d.Record.Machine)
	}
	if r := d.Rejected; r != nil {
		add("rejected", "%s: %s, %s, from %s", r.Code, r.Detail, ago(r.At, now), r.Address)
	}
	if v := d.Verdict; v != nil {
		for i, f := range v.Findings {
			if i > 0 { // the first is the reason above
				add("also", "%s", f)
			}
		}
		for _, f := range v.Notes {
			add("note", "%s", f)
		}
		for _, s := range v.NotChecked {
			add("not checked", "%s", s)
		}
	}
	if d.Records > 0 {
		add("records", "%d, newest %s", d.Records, d.Head)
	}
	return u.Table(nil, rows)
}

// tpmWords say whose the TPM is, for an operator who has to vouch for it.
func tpmWords(d *verifier.Detail) string {
	c := d.Certified
	model := strings.Join(strings.Fields(strings.Join([]string{c.Model.Manufacturer, c.Model.Name, c.Model.Version}, " ")), " ")
	switch {
	case c.Chained:
		return fmt.Sprintf("%s, certified by %s", dash(model), c.Issuer)
	case c.Issuer != "":
		return fmt.Sprintf("%s, certificate by %s, which leads to no configured root (%s)", dash(model), c.Issuer, c.Why)
	}
	return c.Why
}

// Serving says what a server of attestation serves, before it does.
func (u *UI) Serving(l *verifier.Catalog, hosts []*fleet.Host) {
	if u.JSON {
		return
	}
	for _, r := range l.Releases {
		by := "by nobody: --insecure-releases"
		if len(r.Signers) > 0 {
			by = "by key " + Short(r.Signers[0])
		}
		u.Say("release %s %s, security epoch %d, signed %s", r.Name, r.Version, r.Epoch, by)
	}
	if len(l.Releases) == 0 {
		u.Warn("no release: every host will be refused until there is one under --release")
	}
	u.Refused(l.Refused)
	waiting := 0
	for _, h := range hosts {
		if h.Record.State == attest.Pending {
			waiting++
		}
	}
	text := Plural(len(hosts), "host")
	if waiting > 0 {
		text += fmt.Sprintf(", %d of them waiting for approval", waiting)
	}
	u.Say("%s", text)
}
