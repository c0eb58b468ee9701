package dispatch

import (
	"encoding/hex"
	"slices"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
)

// candidates are the releases that a trusted host may run, by its newest verdict: those
// whose reference it matched. Of a verdict that does not say which those are, those of
// its name and version for the machine's processor.
func (d *Dispatcher) candidates(h *fleet.Host) (out []*bootrule.Release) {
	l := h.Last
	if l == nil || !h.Trusted {
		return nil
	}
	archs := []string{l.Arch}
	if l.Arch == "" {
		archs = d.archsOf(h.Record.Name)
	}
	list := d.o.Site.Releases()
	for i := range list {
		r := &list[i]
		if len(l.Manifests) > 0 {
			if slices.Contains(l.Manifests, r.Digest) {
				out = append(out, r)
			}
		} else if r.Name == l.Release && r.Version == l.Version && (len(archs) == 0 || slices.Contains(archs, r.Arch)) {
			out = append(out, r)
		}
	}
	return out
}

// archsOf are the processors that the machines of a host ask with.
func (d *Dispatcher) archsOf(host string) (out []string) {
	for _, m := range d.machinesOf(host) {
		if a := m.Arch.GOARCH(); a != "" {
			out = append(out, a)
		}
	}
	return out
}

// mayRun reports whether a release is among the candidates of a host.
func (d *Dispatcher) mayRun(h *fleet.Host, digest string) bool {
	return slices.ContainsFunc(d.candidates(h), func(r *bootrule.Release) bool { return r.Digest == digest })
}

func (t *taking) mayRun(digest string) bool { return t.candidate(digest) != nil }

// candidate is one of the releases that the host may run; nil for another. What is served
// may be another list by now.
func (t *taking) candidate(digest string) *bootrule.Release {
	i := slices.IndexFunc(t.candidates, func(r *bootrule.Release) bool { return r.Digest == digest })
	if i < 0 {
		return nil
	}
	return t.candidates[i]
}

// findRelease finds what the host runs. Of several releases with one reference (the same
// files under two manifests) it is the one that it was given last.
func (t *taking) findRelease(b *fleet.Boot) {
	var given []string
	for _, a := range []*fleet.Attempt{b.Attempt, t.attempt} {
		if a != nil {
			given = append(given, a.Digest)
		}
	}
	if t.ticket != nil && !t.fresh && b.Handed != "" {
		given = append(given, t.ticket.Began)
	}
	if r, err := slot.Parse(b.Journal); err == nil && len(b.Journal) > 0 {
		slots := []slot.Slot{r.Good, r.Candidate}
		if r.Phase == slot.Trying {
			slots = []slot.Slot{r.Candidate, r.Good}
		}
		for _, x := range slots {
			if x != slot.None {
				image := r.Of(x).Image
				given = append(given, hex.EncodeToString(image[:]))
			}
		}
	}
	for _, digest := range given {
		if t.runs = t.candidate(digest); t.runs != nil {
			return
		}
	}
	if len(t.candidates) > 0 {
		t.runs = t.candidates[0]
	}
}
