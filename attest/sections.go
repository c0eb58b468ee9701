package attest

import (
	"maps"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/attest/eventlog"
)

// sections is PCR 11: the stub's sections, then words of ingot-init.
func (w *walk) sections(register int) {
	events, expected := w.events[register], w.expected(register)
	n := 0
	for n < len(expected) && n < len(events) && expected[n].is(events[n], w.bank) {
		n++
	}
	if n < len(expected) {
		if w.findings = append(w.findings, Finding{}); len(w.findings) >= w.limit { // differ finds something, and nobody will read what
			return
		}
		w.findings = w.findings[:len(w.findings)-1]
		w.differ(register, events, expected)
		return
	}
	phases := w.ref.Phases
	for _, e := range events[n:] {
		if w.full() {
			return
		}
		at := slices.IndexFunc(phases, func(word string) bool { return w.bank.Is(e.Digest(w.bank), []byte(word)) })
		switch {
		case at >= 0 && e.Type == eventlog.IPL:
			phases = phases[at+1:]
		case w.sectionName(e, expected) != "":
			w.find(BootPolluted, e, register, w.sectionName(e, expected), "a second stub ran in this boot")
			return
		default:
			w.find(MeasureUnexpected, e, register, "", "%s %.40q behind the image", e.Type, e.Text())
		}
	}
}

// sectionName is the section whose name an event is the digest of.
func (w *walk) sectionName(e *eventlog.Event, expected []*Expected) string {
	for _, x := range expected {
		if name, ok := strings.CutSuffix(x.Name, nameSuffix); ok && x.is(e, w.bank) {
			return name
		}
	}
	if name := e.Text(); e.Type == eventlog.IPL && strings.HasPrefix(name, ".") && w.bank.Is(e.Digest(w.bank), append([]byte(name), 0)) {
		return name
	}
	return ""
}

// isPhase reports whether an event is one of ingot-init's words.
func (w *walk) isPhase(e *eventlog.Event) bool {
	return e.Type == eventlog.IPL && slices.ContainsFunc(w.ref.Phases, func(word string) bool { return w.bank.Is(e.Digest(w.bank), []byte(word)) })
}

// differ says which sections are not those of the release, and then what is no
// section at all.
func (w *walk) differ(register int, events []*eventlog.Event, expected []*Expected) {
	before, got := len(w.findings), map[string]*eventlog.Event{}
	var strange []*eventlog.Event
	for i := 0; i < len(events) && len(strange) < maxFindings; i++ {
		name := w.sectionName(events[i], expected)
		switch {
		case w.isPhase(events[i]):
		case name == "" || i+1 == len(events):
			strange = append(strange, events[i])
		case got[name] != nil:
			w.find(BootPolluted, events[i], register, name, "measured twice: a second stub ran in this boot")
			return
		default:
			i++
			got[name] = events[i]
		}
	}
	known := map[string]bool{}
	for _, x := range expected {
		if strings.HasSuffix(x.Name, nameSuffix) {
			continue
		}
		known[x.Name] = true
		switch e := got[x.Name]; {
		case e == nil:
			w.find(ImageUnknown, nil, register, x.Name, "the image has no such section")
		case !x.is(e, w.bank):
			w.find(ImageUnknown, e, register, x.Name, "not that of %s %s", w.ref.Name, w.ref.Version)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if !known[name] {
			w.find(ImageUnknown, got[name], register, name, "the release has no such section")
		}
	}
	for _, e := range strange[:min(len(strange), max(0, maxFindings-len(w.findings)))] {
		w.find(MeasureUnexpected, e, register, "", "%s %.40q", e.Type, e.Text())
	}
	if len(w.findings) == before {
		w.find(MeasureUnexpected, nil, register, "", "the sections are in another order")
	}
}

// options is PCR 12: what was given to the image from outside.
func (w *walk) options(register int) {
	if len(w.expected(register)) > 0 {
		w.plain(register)
		return
	}
	events, code := w.events[register], CmdlineAdded
	if len(events) == 0 {
		return
	}
	if x := w.named(9, nameLoadOptions); x != nil && !w.logged(x) {
		code = CmdlineReplaced
	}
	for _, e := range events[:min(len(events), maxFindings)] {
		w.find(code, e, register, "", "%s %.60q", e.Type, e.Text())
	}
}

func (w *walk) named(register int, name string) *Expected {
	for _, x := range w.expected(register) {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// plain compares event by event.
func (w *walk) plain(register int) {
	events, expected := w.events[register], w.expected(register)
	for n, e := range events {
		switch {
		case w.full():
			return
		case n >= len(expected):
			w.find(MeasureUnexpected, e, register, "", "%s %.40q", e.Type, e.Text())
		case expected[n].is(e, w.bank) || e.Type == eventlog.GPT && expected[n].Type == e.Type && w.layout(e):
		case expected[n].Type != e.Type:
			w.find(LogType, e, register, "", "%s where %s is expected", e.Type, expected[n].Name)
			return // the rest is shifted
		default:
			code, section := mismatch(expected[n])
			w.find(code, e, register, section, "%s is not that of %s %s", expected[n].Name, w.ref.Name, w.ref.Version)
		}
	}
	if len(events) < len(expected) {
		w.find(MeasureMissing, nil, register, "", "%s is not measured", expected[len(events)].Name)
	}
}

func mismatch(x *Expected) (code Code, section string) {
	switch {
	case x.Type == eventlog.GPT:
		return DiskLayout, ""
	case x.Name == nameLoadOptions:
		return CmdlineReplaced, ".cmdline"
	case x.Name == nameInitrd:
		return ImageUnknown, ".initrd"
	}
	return MeasureUnexpected, ""
}

// layout reads a partition table, whose data the digest covers (coverage).
func (w *walk) layout(e *eventlog.Event) bool {
	if w.path.Layout == nil || e.Covered(w.bank) != eventlog.Covered {
		return false
	}
	t, err := e.Table()
	return err == nil && w.path.Layout.matches(t, w.c.Record.Disk)
}
