// Package slot is the A/B state machine of DESIGN D5 as a pure function: what a
// machine with two slots does at each boot, update, trial and failure, and the
// journal record that it keeps on the state partition.
//
//	rules := slot.Rules{}                          // defaults
//	s := slot.State{Record: record}                // from the journal, by ParseRecord
//	s, actions := rules.Next(s, slot.Event{...})   // nothing has happened yet
//
// Next decides, the caller acts: it performs the actions in their order and
// stops at the first that fails, which it reports as a Failed event. Perform is
// that loop. Next reads no clock and keeps nothing; time comes with events as
// the uptime of this boot.
//
// Three things choose what starts next (Actuator): the firmware's boot manager
// (BootNext for one try, BootOrder for good), the selector on the ESP, or the
// server that a machine boots from over the network. The journal is the truth
// for all three; firmware variables are a cache that the good slot repairs.
//
// The promises, each with a test that fails without it:
//
//   - the default is always the last blessed slot; a trial is one-shot
//   - no write goes to the slot that is good or running
//   - journal first, then BootNext or BootOrder
//   - a blessed slot that starts healthy writes neither journal nor variables
//   - the floor only rises, after a bless, and never above the fallback slot
//   - a rejected version is not tried again unless an operator says so
//
// docs/slots.md has states, events, causes and the format byte by byte.
//
// Limits: two slots. A blessed slot that dies before its init but still loads
// is not noticed here when nothing survives to tell (S6): a hardware watchdog,
// ERST or the server has to.
package slot

// Slot is the letter of a slot; it is what the journal has on disk.
type Slot byte

// The slots.
const (
	None Slot = 0
	A    Slot = 'a'
	B    Slot = 'b'
)

// Other returns the other slot; None for None.
func (s Slot) Other() Slot {
	switch s {
	case A:
		return B
	case B:
		return A
	}
	return None
}

// Role returns the partition's role as package partition names it: "slot-a".
func (s Slot) Role() string { return "slot-" + s.letter() }

func (s Slot) letter() string {
	if s == A || s == B {
		return string(rune(s))
	}
	return "none"
}

func (s Slot) String() string {
	if s == A || s == B {
		return "slot " + s.letter()
	}
	return "no slot"
}

// index is the slot's place in Record.Slots; callers have checked for None.
func (s Slot) index() int {
	if s == B {
		return 1
	}
	return 0
}

// Phase is a state of the machine. The names are those of docs/slots.md.
type Phase byte

// The phases, in the order of an update.
const (
	Idle       Phase = iota // nothing to do
	Staging                 // the candidate's slot is being written
	Staged                  // written and read back; waits for approval
	Armed                   // the next boot tries it
	Trying                  // it runs, and is not trusted yet
	Blessed                 // it is good; soaks before the floor may rise
	Failed                  // the trial ended badly; may be tried again
	Rejected                // never again without an operator
	RolledBack              // an operator went back to the other slot
	CrashLoop               // the machine went back by itself from a blessed slot
	phases
)

var phaseNames = [phases]string{"IDLE", "STAGING", "STAGED", "ARMED", "TRYING", "BLESSED", "FAILED", "REJECTED", "ROLLBACK", "CRASHLOOP"}

func (p Phase) String() string {
	if p < phases {
		return phaseNames[p]
	}
	return "unknown"
}

// Means is how the next boot is chosen.
type Means byte

// The means.
const (
	Firmware Means = iota // BootNext and BootOrder
	Selector              // the ESP's image, or the slot that the firmware insists on, starts the slot by kexec (S1)
	Netboot               // the server serves it
	meansEnd
)

var meansNames = [meansEnd]string{"firmware", "selector", "netboot"}

func (m Means) String() string {
	if m < meansEnd {
		return meansNames[m]
	}
	return "unknown"
}

// Condition is what is known of a slot's content.
type Condition byte

// The conditions.
const (
	Empty   Condition = iota // nothing was ever written
	Partial                  // being written
	Ready                    // written and read back, not yet good
	Good                     // was blessed with these bytes
	Damaged                  // its bytes differ from the digest, or it does not load
	conditions
)

var conditionNames = [conditions]string{"empty", "partial", "ready", "good", "damaged"}

func (c Condition) String() string {
	if c < conditions {
		return conditionNames[c]
	}
	return "unknown"
}
