package slots

import (
	"encoding/json"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/state"
)

// Part is the open state partition, or one that holds a slot. Sync makes writes
// durable, and what is read after it comes from the medium.
type Part interface {
	state.ReadWriterAt
	state.Syncer
	Close() error
}

// Options are what a keeper knows of its machine and may do to it.
type Options struct {
	// Running is the slot that was started; None in the selector.
	Running slot.Slot
	// Release is what the running image says of itself: version, epoch, formats
	// of data. Its digests are found out later (see Identify).
	Release slot.Content
	Rules   slot.Rules
	// Polluted says that another program ran before this one (S7).
	Polluted bool

	// Root says that the slots have root partitions, which switch with them.
	Root bool

	// Sealed says that a counter of the TPM keeps the floor too.
	Sealed bool

	// State opens the state partition.
	State func() (Part, error)
	// Slot opens the partition of a role ("slot-b") for reading, and gives its
	// size in bytes.
	Slot func(role string) (Part, int64, error)
	// Firmware is the actuator on boot variables, Selector the one that starts a
	// slot from here.
	Firmware Firmware
	Selector Selector

	Hooks Hooks
	// Uptime is the time since this boot began.
	Uptime func() time.Duration
	// Go starts a goroutine under the guard of init.
	Go func(f func())
	// Logf writes a line of the machine's log; Problem tells of something that is
	// wrong with the machine.
	Logf, Problem func(format string, args ...any)
	// Reset stops the machine and starts it again, cold. It does not return.
	Reset func(why string)
}

// Hooks are the parts of a trial. Each may be nil: then nothing is done. They are
// called by the keeper with events at rest, so a hook must not call Handle; it may
// call State and Slots. Hooks return soon: what takes longer than some seconds
// goes into a goroutine.
type Hooks struct {
	// Evidence is what earlier boots left behind; it is asked for once, in early
	// init, before the data partition is mounted.
	Evidence func() []slot.Evidence
	// EraseEvidence sees to it that what Evidence has found is not found again: it is
	// counted. The log beside it is kept.
	EraseEvidence func() error
	// KeepEvidence writes why this boot ends, with the last lines of the log.
	KeepEvidence func(slot.Cause, string) error

	// HasLog says that the log of a boot that failed is kept.
	HasLog func() bool

	// StartWatchdog arms the hardware watchdog. A machine without one gives nil
	// and says so.
	StartWatchdog func() error
	StopWatchdog  func() error

	// Baseline is how the machine is, taken before a try is armed: the trial is
	// compared with it. It is kept in the state partition, at most MaxBaseline
	// bytes. No try is armed without it.
	Baseline func() (json.RawMessage, error)
	// RunChecks begins a trial: baseline is what Baseline gave before it, nil only
	// when the good slot does not start and has armed nothing; deferred forbids to
	// change the format of the data until Migrate. Health is asked from then on.
	RunChecks func(baseline json.RawMessage, deferred bool)
	// Health says whether the machine is healthy now, and if not why: Unhealthy,
	// NetworkDead, DataFull, ClockWrong or CorruptRoot, with one line of detail. It
	// is asked every CheckInterval during a trial and while a floor may still rise.
	Health func() (ok bool, cause slot.Cause, detail string)
	// Migrate allows to change the format of the data.
	Migrate func() error

	// Counter is the floor by the TPM; 0 without. RaiseFloor raises it.
	Counter    func() uint32
	RaiseFloor func(floor uint32) error

	// Notes are lines about the machine that belong to the explanation of its slots.
	Notes func() []string

	// Report is called after each change, as OnReport's functions are.
	Report func(updateapi.Slots)
}

// CheckInterval is the time between two looks at health in a trial.
const CheckInterval = 2 * time.Second

// SoakInterval is the same while a blessed version soaks.
const SoakInterval = time.Minute

// MaxBaseline and MaxProgress bound what the update region holds of each, in
// bytes: together they fit into 64 KiB.
const (
	MaxBaseline = 24 << 10
	MaxProgress = 24 << 10
)
