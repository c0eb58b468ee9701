package slot

import "time"

// Kind is the kind of an event.
type Kind int

// The events.
const (
	Booted     Kind = iota // first of each boot, with Boot
	Stage                  // Release is to be written; its signature and hardware match were checked
	Written                // Fill ended; OK, or Detail
	Approve                // Release window, approval and rollout allow the trial now
	Checked                // health was looked at: OK, Cause, Detail, Uptime
	Verdict                // the attestation server's answer: OK or Detail
	Rollback               // an operator wants the other slot
	Override               // an operator takes Release.Version off the rejected list
	Adopt                  // an operator vouches for the running slot after the journal was lost
	Drifted                // Slot's bytes differ from its digest
	Restored               // Recover wrote Slot again, with Release, digest checked
	SelfTested             // the firmware kept (OK) or lost a test variable
	Identified             // Release has the digests of Slot, which was flashed and not written by an update
	Undone                 // an action failed: Action, Detail
)

var kindNames = []string{"booted", "stage", "written", "approve", "checked", "verdict", "rollback", "override", "adopt", "drifted", "restored", "self-tested", "identified", "undone"}

func (k Kind) String() string { return kindNames[k] }

// Event is something that happened.
type Event struct {
	Kind    Kind
	Boot    Boot
	Release Content
	Slot    Slot
	OK      bool
	Cause   Cause
	Detail  string
	Uptime  time.Duration // since this boot began
	Action  Action
	Err     error    // of Undone: ErrDigest and ErrRefused are told from others
	Rest    []Action // those after Action that were not begun
}

// JournalState is what was found where the journal should be.
type JournalState byte

// The states of the journal.
const (
	JournalRead  JournalState = iota
	JournalEmpty              // all zero: a fresh disk
	JournalLost               // neither copy is valid, or the region is unreadable
)

// Boot is what early init, the selector or a netboot server found.
type Boot struct {
	Running  Slot // by the loader's partition; None for the selector and the server
	Journal  JournalState
	View     View
	Evidence []Evidence
	Damaged  [2]bool // slots a and b: looked at and wrong
	Content  Content // of the running slot; used when the journal is gone
	Baseline Digest  // image of the candidate that the kept baseline is for; zero: there is none
	Counter  uint32  // floor by the TPM, 0 without
	Resets   int     // that the selector has made without a journal since a slot ran
	Polluted bool    // another program ran before this one (S7)
}

// View is what an actuator has in store for the next boots.
type View struct {
	Entries bool   // both slots have a right entry, in every boot order position that counts
	Order   []Slot // slots in the order in which they would be started
	Next    Slot   // set for one boot
}

// Do is the kind of an action.
type Do int

// The actions.
const (
	WriteJournal  Do = iota // Record, both copies' rules by package state; durable when it returns
	WriteRejected           // Rejections, durable when it returns
	SetDefault              // Slot first, then the other; entries exist afterwards; read back
	SetNext                 // Slot for one boot, None to take it back; read back
	Launch                  // start Slot now: kexec, or serve it
	Fill                    // write Release into Slot as Fill does; answer Written
	KeepBaseline            // how the machine is, for the trial of Release to be compared with; durable when it returns
	TakeLock                // the fleet's reboot lock
	ReleaseLock             //
	StartWatchdog           // arm the hardware watchdog; it stays armed until the bless
	RunChecks               // start health checks, answer Checked again and again; Deferred: do not change the data's format yet
	StopWatchdog            // feed it from now on by the supervisor's rules
	Migrate                 // the data's format may be changed: there is no way back to a version that cannot read it
	KeepEvidence            // last log lines and Cause into the evidence region
	EraseEvidence           // what this boot found is counted
	RaiseFloor              // TPM counter to at least Floor
	Recover                 // write Slot's recorded content again, or any accepted release, from network or USB
	Reset                   // flush and reset, cold
	Report                  // tell the server and the console Detail
)

var doNames = []string{"write-journal", "write-rejected", "set-default", "set-next", "launch", "fill", "keep-baseline", "take-lock", "release-lock", "start-watchdog", "run-checks",
	"stop-watchdog", "migrate", "keep-evidence", "erase-evidence", "raise-floor", "recover", "reset", "report"}

func (d Do) String() string { return doNames[d] }

// Action is something to do.
type Action struct {
	Do         Do
	Record     Record
	Rejections []Rejection
	Means      Means // which actuator, for SetDefault, SetNext and Launch
	Slot       Slot
	Release    Content
	Floor      uint32
	Cause      Cause
	Deferred   bool
	Detail     string
}
