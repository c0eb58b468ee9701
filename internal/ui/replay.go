package ui

import (
	"fmt"
	"strconv"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/replay"
)

// maxHeads is how many hosts a table of ends lists; --json has all.
const maxHeads = 20

// Replayed is the result of ingot attest replay: how much was judged again, the
// ends of the chains for comparing with what was kept elsewhere, and every
// problem with its place. The error has the exit code: 3 for a record that is
// not whole, 4 for other verdicts.
func (u *UI) Replayed(r *replay.Report) error {
	var err error
	if u.JSON {
		err = u.PrintJSON(r)
	} else {
		err = u.replayed(r)
	}
	switch {
	case err != nil:
		return err
	case r.Broken():
		return Exit(CodeRefused)
	case r.Differs():
		return Exit(CodeDiffers)
	}
	return nil
}

func (u *UI) replayed(r *replay.Report) error {
	if err := u.Print("%s of %s, from %s to %s", Plural(r.Records, "record"), Plural(len(r.Heads), "host"), moment(r.First), moment(r.Last)); err != nil {
		return err
	}
	if err := u.Print("%s judged again: %d the same", Plural(r.Verdicts, "verdict"), r.Same); err != nil {
		return err
	}
	for _, p := range r.Problems {
		if err := u.Print("%s", problemWords(p)); err != nil {
			return err
		}
	}
	if r.More > 0 {
		if err := u.Print("and %d more problems", r.More); err != nil {
			return err
		}
	}
	if len(r.Heads) == 0 || len(r.Heads) > maxHeads {
		return nil
	}
	var rows [][]string
	for _, h := range r.Heads {
		rows = append(rows, []string{h.Host, strconv.FormatInt(h.Records, 10), h.Sum.String()})
	}
	return u.Table([]string{"host", "records", "sha256 of the newest"}, rows)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// problemWords say what is wrong at which record.
func problemWords(p replay.Problem) string {
	place := "a record"
	if p.Host != "" {
		place = fmt.Sprintf("%s, record %d", p.Host, p.Seq)
	}
	if !p.Time.IsZero() {
		place += " of " + moment(p.Time)
	}
	if p.Kind != replay.Differs {
		return printable(fmt.Sprintf("%s: %s: %s", p.Kind, place, p.Detail))
	}
	return printable(fmt.Sprintf("%s: %s: was %s, now %s: %s", p.Kind, place, outcome(p.Was), outcome(p.Now), p.Detail))
}

func outcome(code attest.Code) string {
	if code == "" {
		return "trusted"
	}
	return string(code)
}
