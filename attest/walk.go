package attest

import (
	"fmt"
	"math"
	"slices"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// Names of expected events that have a meaning here; they are those of package
// predict.
const (
	nameSuffix      = " (name)" // of a section's name, beside its content
	nameLoadOptions = "LOADED_IMAGE::LoadOptions"
	nameInitrd      = "Linux initrd"
)

// Texts of EV_EFI_ACTION events (PFP section 10.4.4), and of
// EV_OMIT_BOOT_DEVICE_EVENTS.
const (
	calling         = "Calling EFI Application from Boot Option"
	returning       = "Returning from EFI Application from Boot Option"
	unprotectedDMA  = "DMA Protection Disabled"
	debugMode       = "UEFI Debug Mode"
	attemptsOmitted = "BOOT ATTEMPTS OMITTED"
)

// releases asks which release the log is of, and by which way it was booted:
// the one that explains the log with the fewest findings.
func (k *check) releases() {
	if len(k.c.References) == 0 {
		k.refuse(ReferenceNone, -1, "no reference")
		return
	}
	// Those whose image it seems to be come first: the others need to be judged
	// only as far as they could still be better.
	best := k.bestOf(nil, true)
	best = k.bestOf(best, false)
	if best == nil {
		k.refuse(PathUnknown, -1, "no reference for a boot with Secure Boot %s in bank %s", onOff(k.v.SecureBoot), k.bank)
		return
	}
	best.settle()
	k.statement()
}

// bestOf judges the paths that are likely, or those that are not, and gives the
// one with the fewest findings: of equals the first in the references.
func (k *check) bestOf(best *walk, likely bool) *walk {
	index := 0
	for i := range k.c.References {
		ref := &k.c.References[i]
		for n := range ref.Paths {
			if index++; !k.accepts(&ref.Paths[n]) {
				continue
			}
			w := &walk{check: k, ref: ref, path: &ref.Paths[n], index: index, limit: best.limitFor(index)}
			if w.group(); w.isLikely() != likely || w.limit == 0 {
				continue
			}
			if w.run(); len(w.findings) < w.limit {
				best = w
			}
		}
	}
	return best
}

// limitFor is the number of findings with which the path of an index is no
// better than w.
func (w *walk) limitFor(index int) int {
	switch {
	case w == nil:
		return math.MaxInt
	case index < w.index:
		return len(w.findings) + 1
	}
	return len(w.findings)
}

// isLikely reports whether the sections of the image are those of the log.
func (w *walk) isLikely() bool {
	events, expected := w.events[11], w.expected(11)
	if len(events) < len(expected) {
		return false
	}
	for i, x := range expected {
		if !x.is(events[i], w.bank) {
			return false
		}
	}
	return true
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func (k *check) accepts(p *Path) bool {
	if k.quoted.Has(7) && p.SecureBoot != k.v.SecureBoot {
		return false
	}
	if len(p.Events) > 0 && len(p.Events[0].Digests[k.bank]) == 0 {
		return false // the reference does not speak of this bank
	}
	if k.c.Policy.Paths == nil {
		return !p.Replaced
	}
	return slices.Contains(k.c.Policy.Paths, p.Boot)
}

// walk compares the log with one path of one release.
type walk struct {
	*check
	ref      *Reference
	path     *Path
	index    int // among all paths
	limit    int // of findings: with so many it is not the best
	findings []Finding
	expects  [pcr.Count][]*Expected // the path's events by register
	compared []int
	skips    []string
	failed   int
	images   []*eventlog.Event // the release's programs
}

// run puts the registers first that say most about the image.
func (w *walk) run() {
	if w.c.Policy.QuietFirmware {
		w.quiet(4, "attempts to boot")
		w.quiet(5, "the end of boot services")
	}
	w.keys()
	for _, r := range []struct {
		pcr  int
		walk func(int)
	}{{11, w.sections}, {12, w.options}, {4, w.applications}, {9, w.plain}, {5, w.plain}} {
		if len(w.findings) >= w.limit {
			return
		}
		if w.quoted.Has(r.pcr) && (len(w.expected(r.pcr)) > 0 || slices.Contains(w.path.Empty, r.pcr)) {
			w.compared = append(w.compared, r.pcr)
			r.walk(r.pcr)
		}
	}
}

// settle takes what the walk has found into the verdict.
func (w *walk) settle() {
	v := &w.v
	v.Findings = append(v.Findings, w.findings...)
	v.Release, v.Version, v.Epoch, v.Boot = w.ref.Name, w.ref.Version, w.ref.Epoch, w.path.Boot
	v.FailedBootOptions = w.failed
	v.Compared = len(w.compared)
	w.skipped = append(w.skipped, w.skips...)
	release := fmt.Sprintf("%s %s, boot path %s", w.ref.Name, w.ref.Version, w.path.Boot)
	for _, i := range w.compared {
		w.against(i, release)
	}
	if w.ref.Epoch < w.c.Record.Floor {
		w.refuse(VersionFloor, -1, "%s has the epoch %d, the floor is %d", w.ref.Version, w.ref.Epoch, w.c.Record.Floor)
	}
	w.slotByLog()
}

func (w *walk) find(code Code, e *eventlog.Event, register int, section, format string, args ...any) {
	f := Finding{Code: code, PCR: register, Section: section, Detail: fmt.Sprintf(format, args...)}
	if e != nil {
		f.Offset = e.Off
	}
	w.findings = append(w.findings, f)
}

// maxFindings bounds what is said about one way to boot, and so the work that a
// long log can ask for.
const maxFindings = 32

func (w *walk) full() bool { return len(w.findings) >= maxFindings }

func (w *walk) expected(register int) []*Expected { return w.expects[register] }

// group puts the path's events beside their registers, in one piece of memory.
func (w *walk) group() {
	var n [pcr.Count]int
	for i := range w.path.Events {
		if r := w.path.Events[i].PCR; r >= 0 && r < pcr.Count {
			n[r]++
		}
	}
	all := make([]*Expected, 0, len(w.path.Events))
	for r, count := range n {
		w.expects[r], all = all[:0:count], all[count:count]
	}
	for i := range w.path.Events {
		if r := w.path.Events[i].PCR; r >= 0 && r < pcr.Count {
			w.expects[r] = append(w.expects[r], &w.path.Events[i])
		}
	}
}

func (w *walk) logged(x *Expected) bool {
	return slices.ContainsFunc(w.events[x.PCR], func(e *eventlog.Event) bool { return x.is(e, w.bank) })
}
