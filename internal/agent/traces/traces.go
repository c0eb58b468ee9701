// Package traces finds what an earlier boot left behind of its end: the kernel's
// record in pstore (ERST), the watchdog's boot status, init's own words in the
// evidence region of the state partition, and what is wrong with a boot file that
// was never seen running. Each is a slot.Evidence: a cause, a line for people, and
// an ID that tells one trace from another.
//
//	found := traces.Found{Kernel: traces.Pstore(traces.PstoreDir), ...}
//	list := found.Evidence()
//
// docs/slots.md says what each kind needs of a machine and what was measured.
package traces

import (
	"encoding/binary"
	"hash/fnv"
	"strings"

	"github.com/ingot-os/ingot/boot/slot"
)

// Found is everything that was looked at. Nil fields were not there.
type Found struct {
	Kernel   *slot.Evidence // of Pstore
	Watchdog *slot.Evidence // of Watchdog
	Init     *slot.Evidence // of Record.Evidence
	BootFile *slot.Evidence // of BootFile.Check
}

// Evidence lists what was found.
func (f Found) Evidence() []slot.Evidence {
	var out []slot.Evidence
	for _, e := range []*slot.Evidence{f.BootFile, f.Init, f.Kernel, f.Watchdog} {
		if e != nil {
			out = append(out, *e)
		}
	}
	return out
}

// Text tells it in one line; "" when nothing was found.
func (f Found) Text() string {
	var parts []string
	for _, e := range f.Evidence() {
		parts = append(parts, e.Cause.String()+": "+e.Detail)
	}
	return strings.Join(parts, "; ")
}

// Watchdog is the evidence of a watchdog that says that it has reset the machine.
// It has no ID: the driver clears the hardware's flag when it has read it.
func Watchdog(identity string) *slot.Evidence {
	return &slot.Evidence{Cause: slot.Hang, Detail: "the watchdog (" + identity + ") reset the machine"}
}

// identify is the ID of a trace: a hash that is never 0.
func identify(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return max(h.Sum64(), 1)
}

// maxDetail bounds a detail: the journal keeps no more.
const maxDetail = slot.MaxDetail

// line makes one line of printable ASCII of a text.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), maxDetail)]
}
