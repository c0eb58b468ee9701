package attest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// applications is PCR 4: what the firmware's boot manager started, in order.
// Boot options that failed before add pairs of "Returning" and "Calling", any
// number of them; nothing else may be there that the release does not measure.
func (w *walk) applications(register int) {
	events, expected := w.events[register], w.expected(register)
	n, started, early, booting, silent := 0, 0, 0, false, false
	for i := 0; i < len(events) && !w.full(); i++ {
		e := events[i]
		switch {
		case n < len(expected) && w.omitted(e, expected[n]):
			n, booting, silent = n+1, true, true
			w.skips = append(w.skips, "failed boot options: the firmware says that it logs none")
		case n < len(expected) && expected[n].is(e, w.bank):
			if n++; e.Type == eventlog.BootServicesApp {
				started++
				w.images = append(w.images, e)
			}
			booting = booting || e.Type == eventlog.Separator || w.bank.Is(e.Digest(w.bank), []byte(calling))
		case !silent && w.failedOption(events[i:]) && n > 0 && expected[n-1].Type == eventlog.Separator:
			w.failed++
			i++
		case w.failedOption(events[i:]) && started > 0:
			w.find(BootPolluted, e, register, "", "an application ran and returned before the image")
			return
		case e.Type != eventlog.BootServicesApp:
			w.find(LogType, e, register, "", "%s %.40q", e.Type, e.Text())
			return
		case !booting && early < len(w.c.Policy.EarlyApplications) && w.firmwares(e):
			early++
			w.skips = append(w.skips, fmt.Sprintf("PCR %d: application %s of the firmware, which the policy names", register, e.Digest(w.bank)))
		case n < len(expected) && w.later(events[i+1:], expected[n]):
			if !booting {
				w.find(BootEarly, e, register, "", "an application before the boot manager, digest %s", e.Digest(w.bank))
			} else {
				w.find(BootPolluted, e, register, "", "another application before %s, digest %s", expected[n].Name, e.Digest(w.bank))
			}
		case n < len(expected):
			w.find(ImageUnknown, e, register, "", "digest %s instead of %s", e.Digest(w.bank), expected[n].Name)
			n++
		default:
			w.find(ImageUnknown, e, register, "", "one image more, digest %s", e.Digest(w.bank))
		}
	}
	if n < len(expected) && len(w.findings) == 0 {
		w.find(MeasureMissing, nil, register, "", "%s is not measured", expected[n].Name)
	}
}

// firmwares reports whether a program is one that the policy lets the firmware
// start before its boot manager.
func (w *walk) firmwares(e *eventlog.Event) bool {
	return slices.ContainsFunc(w.c.Policy.EarlyApplications, func(d pcr.Digest) bool { return bytes.Equal(d, e.Digest(w.bank)) })
}

// quiet leaves out what firmware need not log where the policy allows that: the
// boot attempts in PCR 4, the end of boot services in PCR 5. Firmware that has
// measured them cannot keep them out of the log, which would not replay.
func (w *walk) quiet(register int, what string) {
	isAction := func(typ eventlog.Type) bool { return typ == eventlog.EFIAction || typ == eventlog.OmitBootDevices }
	logged := slices.ContainsFunc(w.events[register], func(e *eventlog.Event) bool { return isAction(e.Type) })
	if x := w.expects[register]; !logged && slices.ContainsFunc(x, func(x *Expected) bool { return isAction(x.Type) }) {
		w.expects[register] = slices.DeleteFunc(x, func(x *Expected) bool { return isAction(x.Type) })
		w.skips = append(w.skips, what+": the firmware does not log it, which the policy allows")
	}
}

// omitted reports whether an event stands in the place of "Calling": firmware
// may say once that it does not log attempts to boot (PFP section 10.4.1,
// EV_OMIT_BOOT_DEVICE_EVENTS), and then it logs none of them.
func (w *walk) omitted(e *eventlog.Event, x *Expected) bool {
	return e.Type == eventlog.OmitBootDevices && x.Type == eventlog.EFIAction && x.Name == calling &&
		w.bank.Is(e.Digest(w.bank), []byte(attemptsOmitted))
}

// failedOption reports whether events begin with a boot option that came back,
// and the call of the next.
func (w *walk) failedOption(events []*eventlog.Event) bool {
	if len(events) < 2 {
		return false
	}
	for i, text := range []string{returning, calling} {
		if e := events[i]; e.Type != eventlog.EFIAction || !w.bank.Is(e.Digest(w.bank), []byte(text)) {
			return false
		}
	}
	return true
}

func (w *walk) later(events []*eventlog.Event, x *Expected) bool {
	for _, e := range events {
		if x.is(e, w.bank) {
			return true
		}
	}
	return false
}

// slots are the numbers of the partitions that hold an image.
var slots = map[uint32]string{1: "esp", 2: "a", 3: "b"}

// slotByLog takes the slot from the device path of the last program that came
// from a partition. No digest covers it; ingot-init's statement is better.
func (w *walk) slotByLog() {
	for _, e := range w.images {
		image, err := e.Image()
		if err != nil {
			continue
		}
		if p, ok := image.Path.Partition(); ok && slots[p.Number] != "" {
			w.v.Slot, w.v.SlotBy = slots[p.Number], "log"
		}
	}
}
