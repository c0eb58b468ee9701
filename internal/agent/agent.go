// Package agent is PID 1 of an appliance: it turns a running kernel with the
// initramfs of ingot into the machine that /etc/ingot/appliance.json describes,
// and keeps it so until it is told to stop.
//
// The order of a boot is Machine.boot in boot.go; every step of it is one
// function. What can run at the same time does: devices, network and disks
// wait for events of the kernel, never for time, and each wait has an upper
// bound. A step that does not work is told on the console, in the log and in
// /v1/status, and the boot goes on with what there is: a machine that answers
// and says what it lacks is worth more than one that is silent.
//
// PID 1 must not end. A panic in init is logged, kept as evidence and followed
// by a reset; a fatal error of the Go runtime goes to the kernel log and ends
// in a kernel panic, which resets after kernel.panic seconds.
package agent

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingot-os/ingot/boot/cmdline"
	"github.com/ingot-os/ingot/internal/agent/device"
	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/measure"
	"github.com/ingot-os/ingot/internal/agent/network"
	"github.com/ingot-os/ingot/internal/agent/nvram"
	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/machine"
)

// Options are the parts that only some images link. The zero value is an init
// that runs the machine and nothing else.
type Options struct {
	// Attest proves to a server what was booted, until the context ends.
	Attest func(context.Context, proof.Machine)
	// Crypt opens an encrypted data partition, and keeps its version floor.
	Crypt volume.Sealer
	// Update serves the management listener and takes updates, until the context
	// ends.
	Update func(context.Context, updates.Machine)
	// Diskless speaks to the server of a machine that was booted over the network.
	Diskless *Diskless
}

// Machine is the running system.
type Machine struct {
	log     *Log
	spec    appliance.Spec
	cmdline cmdline.Line
	ctx     context.Context // ends when the machine stops
	reaper  *proc.Reaper
	devices *device.Manager
	network *network.Manager
	super   *supervisor
	cgroups string // "" = none are made
	stop    chan stopRequest
	vars    nvram.Store
	disk    *disk.Disk // nil: none, or not told from another
	machine machine.Machine
	floor   time.Time
	rootfs  *rootfs         // nil: services run in the initramfs
	online  chan struct{}   // closed when the network has come up, or has failed to
	netCtx  context.Context // of the network before machine.yaml is known; see startEarly
	netEnd  func() bool     // ends it, and says whether another is to begin
	served  []byte          // machine.yaml that the server gave
	growTo  growth
	keeper  *slots.Keeper // nil: this boot has no slots
	judged  chan struct{} // closed when it is known what runs, and as which machine
	trial   trial         // of this boot; see trial.go
	dog     guardian
	hangs   kernelWatch
	found   lookback      // what an earlier boot left behind
	volume  volume.Volume // the encrypted data partition, once it is open

	options   Options
	measuring sync.Mutex
	measured  measure.Log // what this init has extended
	secrets   secretStore
	runtime   string                             // "" = runDir
	pstore    string                             // "" = traces.PstoreDir, not mounted yet
	stateAt   func(flag int) (slots.Part, error) // in place of the disk's state partition

	crashing   atomic.Bool // crash was called; who holds mu then may be gone
	installing atomic.Bool // a disk is being written

	mu       sync.Mutex
	status   listener.Status // what does not change by itself; see Machine.Status
	problems []string
	stopping bool          // services are not started any more
	grown    chan struct{} // closed when the data file system has grown; nil: it does not
	readyAt  time.Duration
	signed   time.Time     // as the attestation server has told it
	signedAt time.Duration // when it did
	tpmUntil time.Duration // how long the TPM is waited for; 0: not yet begun
	// what the attestation server gave for the machine's name, in PEM
	certificate, key []byte
	settled          bool // the evidence of an earlier boot was cleared
}

// problem records something that is wrong with the machine for /v1/status and
// says it on the console.
func (m *Machine) problem(format string, args ...any) {
	text := sprintf(format, args...)
	m.log.Printf("problem: %s", text)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.problems) < 100 && !slices.Contains(m.problems, text) {
		m.problems = append(m.problems, text)
	}
}

// update changes the standing part of the status.
func (m *Machine) update(f func(*listener.Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.status)
}
