// Package updates holds what PID 1 and its update client tell each other, as
// package proof does for the attester: the client needs TLS, so not every image
// links it.
//
//	agent.Run(agent.Options{Update: updater.Run})
package updates

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/gpt"
)

// Keeper owns the slots of the machine: journal, variables, trial. All methods
// may be called from any goroutine.
type Keeper interface {
	// State is the state machine's state as it is now.
	State() slot.State
	// Handle gives an event to the state machine and performs what follows. An
	// action Reset does not return.
	Handle(slot.Event) error
	// Slots describes the slots for people and servers.
	Slots() updateapi.Slots
	// OnFill registers who writes slots: f is called with each action Fill (and
	// Recover), must return at once, and answers later by the event Written (or
	// Restored).
	OnFill(f func(slot.Action))
	// OnReport registers who is told after each change.
	OnReport(f func(updateapi.Slots))
	// SaveProgress keeps how much of an update is written, over resets; nil
	// forgets it. Progress returns what was kept.
	SaveProgress([]byte) error
	Progress() []byte
}

// Client takes updates: what the management listener calls for an operator, and
// *updater.Updater has. Refusals are *updateapi.Error; another error is the
// machine's own (updateapi.Failed). All methods may be called from any
// goroutine; one part is written at a time, a second Write is refused as Busy.
type Client interface {
	// Slots describes the slots.
	Slots() updateapi.Slots
	// Offer takes a release that the machine accepts, and says which parts it
	// wants. The same release again goes on where it was cut.
	Offer(updateapi.Offer) (updateapi.Progress, error)
	// Write takes bytes of a part from an offset; what came before an error of
	// body is kept. The last one of an approved offer lets the machine reset, soon
	// after it has returned.
	Write(part string, from int64, coding string, body io.Reader) (updateapi.Progress, error)
	// Approve, Rollback let the machine reset soon after they have returned. Who
	// approves is told in the explanation of the slots.
	Approve(by string) (updateapi.Progress, error)
	Rollback() (updateapi.Progress, error)
	// Override takes a version off the rejected list, Adopt vouches for the running
	// slot.
	Override(updateapi.Override) (updateapi.Progress, error)
	Adopt() (updateapi.Progress, error)
}

// Diskless is what is told about a machine that was booted over the network and
// keeps nothing: its server has its slots. All functions may be called from any
// goroutine.
type Diskless struct {
	Spec appliance.Spec
	// As in Machine.
	Server      func() (url, source string)
	Certificate func() (certificate, key []byte)
	Now         func() time.Time
	// Report is what is known of this boot, but for its id and how healthy it is.
	Report func() updateapi.BootReport
	// Health looks at the machine once: slot.Cause as text, and why.
	Health func() (ok bool, cause, detail string)
	// Reset stops the machine and starts it again.
	Reset func(why string)
	// UEFI says that the firmware is one. Entries writes boot entries of a disk that has
	// this table, and lets it start before all others. MachineYAML is the file that this
	// boot runs with; nil without one.
	UEFI        bool
	Entries     func(gpt.Table) error
	MachineYAML func() []byte
	// Settled says that the drivers of all devices are loaded; nil: they always are.
	// Writing is told when a disk begins to be written, and when that has ended: the
	// machine is not to be reset in between. nil: nobody wants to know.
	Settled func() bool
	Writing func(bool)
	// Logf writes a line of the machine's log.
	Logf func(format string, args ...any)
}

// Machine is what the update client is told about the machine and may do to it.
// All functions may be called from any goroutine.
type Machine struct {
	Spec   appliance.Spec
	Keeper Keeper
	// Partition gives the device node of a partition by its role ("slot-b") and
	// its size in bytes.
	Partition func(role string) (node string, size int64, err error)
	// Server gives the base URL of the server as it is known now; empty: none is.
	Server func() (url, source string)
	// Certificate is what the attestation server gave for the machine's name, with
	// its key, both in PEM; nil until it has. They are good for TLS both ways.
	Certificate func() (certificate, key []byte)
	// Now is the time, as far as it is known; it is never before the image.
	Now func() time.Time
	// Listener is the management listener's socket. The client serves it: TLS for
	// operators, and for everybody else the plain answers of Plain.
	Listener net.Listener
	Plain    func(http1.Request) http1.Response
	// Shows is told the key that the listener shows to operators, whenever it has
	// become another one: SHA-256 of its SubjectPublicKeyInfo, in hex. It goes into
	// the status (management.key); nil: nobody is told.
	Shows func(key string)
	// Wait returns true as soon as a condition on the devices holds: it is asked at
	// once, and after every event of the kernel until the limit or the context ends.
	// nil: nobody tells.
	Wait func(ctx context.Context, limit time.Duration, cond func() bool) bool
	// Problem tells of something that is wrong with the machine.
	Problem func(format string, args ...any)
	// Logf writes a line of the machine's log.
	Logf func(format string, args ...any)
}
