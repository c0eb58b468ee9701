package vuln

import (
	"fmt"
	"slices"
	"time"
)

// Policy says which findings fail a release. The zero value is the strictest:
// every finding does.
type Policy struct {
	Threshold     Level    `json:"threshold"`     // lowest level that fails
	AcceptUnrated bool     `json:"acceptUnrated"` // findings that nobody has rated do not fail
	AcceptUnfixed bool     `json:"acceptUnfixed"` // findings without a fixed version do not fail
	Waivers       []Waiver `json:"waivers,omitempty"`
}

// Waiver accepts one vulnerability for some time.
type Waiver struct {
	ID      string `json:"id"`                // of the record, or any other name of it: CVE-2026-1000
	Package string `json:"package,omitempty"` // source package or module; empty means any
	Reason  string `json:"reason"`
	Expires string `json:"expires"` // last day on which it holds, in UTC: 2026-12-31
}

// Check refuses a waiver without id, reason or day of expiry.
func (p *Policy) Check() error {
	if p.Threshold < None || p.Threshold > Critical {
		return fmt.Errorf("check policy: threshold %v", p.Threshold)
	}
	for i := range p.Waivers {
		w := &p.Waivers[i]
		switch {
		case w.ID == "":
			return fmt.Errorf("check policy: waiver %d has no id", i+1)
		case w.Reason == "":
			return fmt.Errorf("check policy: waiver of %s has no reason", w.ID)
		}
		if _, err := w.end(); err != nil {
			return fmt.Errorf("check policy: waiver of %s: expires %q is no day like 2026-12-31", w.ID, w.Expires)
		}
	}
	return nil
}

// end is the first moment at which the waiver no longer holds.
func (w *Waiver) end() (time.Time, error) {
	t, err := time.Parse(time.DateOnly, w.Expires)
	return t.AddDate(0, 0, 1), err
}

func (w *Waiver) matches(f *Finding) bool {
	return (w.ID == f.ID || slices.Contains(f.Aliases, w.ID)) && (w.Package == "" || w.Package == f.Package)
}

// State is what a policy makes of a finding.
type State string

// The states of a Finding.
const (
	Open    State = "open"    // fails the release
	Expired State = "expired" // fails the release: a waiver has ended
	Waived  State = "waived"
	Below   State = "below" // under the threshold, or accepted as unrated or unfixed
)

// judge gives a finding its state. A waiver that holds wins over one that has
// ended; used counts how often each was needed.
func (p *Policy) judge(f *Finding, now time.Time, used []int) {
	f.State = Open
	unfixed := f.Fixed == "" && f.Undecided == "" // of an undecided one the fix is not known
	rated := f.Level != Unrated
	if rated && f.Level < p.Threshold || !rated && p.AcceptUnrated || unfixed && p.AcceptUnfixed {
		f.State = Below
		return
	}
	for i := range p.Waivers {
		w := &p.Waivers[i]
		if !w.matches(f) {
			continue
		}
		used[i]++
		end, _ := w.end() // checked
		if now.Before(end) {
			f.State, f.Waiver = Waived, w
			return
		}
		f.State, f.Waiver = Expired, w
	}
}
