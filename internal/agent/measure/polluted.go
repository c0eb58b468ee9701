package measure

import (
	"fmt"

	"github.com/ingot-os/ingot/attest/eventlog"
)

// Registers that tell which programs ran (PFP section 3.3.4).
const (
	applications = 4
	stub         = 11
)

// Polluted tells from the firmware's log whether another program ran in this
// boot before the one that is running: a slot that gave control back to the
// firmware, or an application of a disk (S7). It says what; "" means nothing
// was found. Applications of the firmware itself, such as its menu, do not
// count: they are the firmware's word about itself, which PCR 0 holds.
//
// It is for machines whose firmware starts the image: a boot loader in between
// is an application too.
func Polluted(l *eventlog.Log) string {
	if name := secondStub(l); name != "" {
		return fmt.Sprintf("section %s is measured twice: another image of this kind ran before", name)
	}
	var paths []string // of applications on a partition; the image and its kernel are last
	for i := range l.Events {
		e := &l.Events[i]
		if e.PCR != applications || e.Type != eventlog.BootServicesApp {
			continue
		}
		if image, err := e.Image(); err == nil {
			if p, ok := image.Path.Partition(); ok {
				paths = append(paths, fmt.Sprintf("%s on partition %d", image.Path.File(), p.Number))
			}
		}
	}
	// The kernel in the image is loaded from memory and has no partition.
	if len(paths) > 1 {
		return fmt.Sprintf("%s ran before %s", paths[0], paths[len(paths)-1])
	}
	return ""
}

// secondStub names a section whose name the stub has measured twice. The name
// is the event's data, in UTF-16 or bytes, with a NUL; digests alone are
// compared, as the data of these events is covered by nothing.
func secondStub(l *eventlog.Log) string {
	if len(l.Banks) == 0 {
		return ""
	}
	bank := l.Banks[len(l.Banks)-1]
	if !bank.Known() {
		return ""
	}
	name := bank.Sum([]byte(".linux\x00"))
	seen := 0
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR == stub && string(e.Digest(bank)) == string(name) {
			seen++
		}
	}
	if seen > 1 {
		return ".linux"
	}
	return ""
}
