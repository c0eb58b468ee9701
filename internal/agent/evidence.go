package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/ring"
	"github.com/ingot-os/ingot/internal/agent/traces"
	"github.com/ingot-os/ingot/internal/agent/watchdog"
	"github.com/ingot-os/ingot/partition/state"
)

// lookback is what an earlier boot left behind, looked for once.
type lookback struct {
	once   sync.Once
	traces traces.Found
	kernel string      // its last words
	text   string      // for people; has notes too, which are no failure
	kept   uint64      // number of a record that was not counted before; 0: none
	log    atomic.Bool // the state partition has the log of a boot that failed
}

// keepEvidence writes why this boot ends and the newest log lines to the state
// partition, for the next boot to report. NoCause is a note.
func (m *Machine) keepEvidence(cause slot.Cause, text string) {
	defer func() { _ = recover() }() // this runs while init crashes: never crash again
	if err := m.storeEvidence(cause, text); err != nil && !errors.Is(err, errNoState) {
		fmt.Fprintf(os.Stderr, "\r\n%s: keep evidence: %v\r\n", self, err)
	}
}

// storeEvidence takes no lock: whoever crashed may hold it.
func (m *Machine) storeEvidence(cause slot.Cause, text string) error {
	r := traces.Record{Cause: cause, Slot: m.trial.running, Text: text,
		Image: fmt.Sprintf("%s %s build %s", m.spec.Name, m.spec.Version, m.spec.Build)}
	return m.storeState(state.Evidence, evidence(r.Head(), m.log.Ring, state.Evidence.Capacity()))
}

// shortest is the length of the shortest line of a record: no text, a source of one
// letter.
const shortest = len("[    0.000000] x: \n")

// evidence is the head and as many of the newest log lines as fit into limit bytes.
func evidence(head string, log *ring.Ring, limit int) []byte {
	var lines strings.Builder
	for _, e := range log.Tail(limit / shortest) {
		fmt.Fprintf(&lines, "[%12.6f] %s: %s\n", e.At.Seconds(), e.Source, e.Text)
	}
	return traces.Fill(head, lines.String(), limit)
}

// lookBack finds what an earlier boot left behind.
func (m *Machine) lookBack() *lookback {
	f := &m.found
	f.once.Do(func() {
		f.traces.Kernel, f.kernel = m.kernelRecord()
		f.traces.Watchdog = resetByWatchdog()
		note := m.initRecord(f)
		f.traces.BootFile = m.lostCandidate()
		if f.text = f.traces.Text(); f.text == "" {
			f.text = note
		}
		if f.text != "" {
			m.log.Printf("an earlier boot left: %s", f.text)
		}
	})
	return f
}

// passOnHang keeps what the watchdog tells for the slot that the selector starts:
// the driver has cleared the hardware's flag by then. What init itself has kept says
// more and stays.
func (m *Machine) passOnHang() { m.passOn(resetByWatchdog()) }

func (m *Machine) passOn(e *slot.Evidence) {
	if e == nil {
		return
	}
	if b, _, err := m.loadState(state.Evidence); err == nil && len(b) > 0 && !traces.ParseRecord(b).Counted {
		return
	}
	m.keepEvidence(e.Cause, e.Detail)
}

// resetByWatchdog is the evidence of a watchdog; nil in nearly all boots.
func resetByWatchdog() *slot.Evidence {
	for _, d := range watchdog.List("/sys") {
		if d.CardReset && !d.Software {
			return traces.Watchdog(d.Identity)
		}
	}
	return nil
}

// kernelRecord reads pstore. Which storage is behind it, the kernel decides: ERST
// where the firmware has it. That of UEFI variables is a module that no image has:
// firmware that is full of dumps starts nothing any more.
func (m *Machine) kernelRecord() (*slot.Evidence, string) {
	if m.pstore != "" {
		return traces.Pstore(m.pstore)
	}
	m.pstore = traces.PstoreDir
	_, err := mount.Mount("pstore", traces.PstoreDir, "pstore", "", noExec)
	if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
		m.log.Printf("mount pstore: %v", err)
	}
	return traces.Pstore(m.pstore)
}

// initRecord reads the evidence region and returns what it says, evidence or
// not.
func (m *Machine) initRecord(f *lookback) (note string) {
	b, seq, err := m.loadState(state.Evidence)
	if err != nil || len(b) == 0 {
		return "" // none, on nearly all machines
	}
	f.log.Store(true)
	r := traces.ParseRecord(b)
	if r.Counted {
		return "" // it is there to be read
	}
	f.kept = seq
	f.traces.Init = r.Evidence(seq)
	return r.Summary()
}

// lostCandidate looks at the boot file of a slot that was started on trial and
// never seen. It is the only time that one slot reads the other at a start.
func (m *Machine) lostCandidate() *slot.Evidence {
	b, _, err := m.loadState(state.Journal)
	if err != nil {
		return nil
	}
	r, err := slot.Parse(b)
	if err != nil || !traces.WasLost(r, m.trial.running) {
		return nil
	}
	p, size, err := m.openSlot(r.Candidate.Role())
	if err != nil {
		return nil // not of the slot's content
	}
	defer p.Close()
	look := traces.BootFile{Slot: p, Size: size, Path: boot.FallbackPath(m.spec.Arch), Machine: pe.MachineAMD64, SecureBoot: m.vars.SecureBoot() == "enabled"}
	if m.spec.Arch == boot.ARM64 {
		look.Machine = pe.MachineARM64
	}
	look.DB, _ = m.vars.Get("db", efivar.ImageSecurity)   // without it nothing is trusted,
	look.DBX, _ = m.vars.Get("dbx", efivar.ImageSecurity) // and nothing revoked
	return look.Check()
}

// evidenceFound is the keeper's question.
func (m *Machine) evidenceFound() []slot.Evidence { return m.lookBack().traces.Evidence() }

// eraseEvidence sees to it that no boot finds what this one has found: it is counted,
// or told. The log of the last failure stays on the state partition until another
// failure takes its place.
func (m *Machine) eraseEvidence() error {
	f := m.lookBack()
	err := m.noteEvidence(f)
	if f.traces.Kernel != nil {
		err = errors.Join(err, traces.ErasePstore(m.pstore))
	}
	return err
}

// noteEvidence marks the record that was found as counted. What the kernel said at its
// end takes its place, with what the record says before it.
func (m *Machine) noteEvidence(f *lookback) error {
	b, seq, err := m.loadState(state.Evidence)
	if err != nil || seq != f.kept {
		b = nil // an older failure's, or none
	}
	if f.kernel != "" {
		r := traces.Record{Cause: f.traces.Kernel.Cause, Image: "what the kernel kept", Text: f.traces.Kernel.Detail}
		b = traces.Fill(r.Head(), string(b)+f.kernel, state.Evidence.Capacity())
	}
	if b == nil || errors.Is(err, errNoState) {
		return nil
	}
	if !traces.Count(b) {
		b = nil
	}
	if err := m.storeState(state.Evidence, b); err != nil {
		return err
	}
	f.kernel = ""
	f.log.Store(b != nil)
	return nil
}

// failedLog is the log of the last boot that failed; nil: none is kept.
func (m *Machine) failedLog() []byte {
	b, _, err := m.loadState(state.Evidence)
	if err != nil {
		return nil
	}
	return b
}

// settleEvidence clears the evidence once this boot is healthy and has told it:
// what happened stays in the status until the next boot, and no longer. A boot
// without evidence writes nothing.
func (m *Machine) settleEvidence() {
	m.mu.Lock()
	due := m.readyAt != 0 && m.status.Boot.Evidence != "" && !m.settled
	m.settled = m.settled || due
	m.mu.Unlock()
	if !due {
		return
	}
	if err := m.eraseEvidence(); err != nil {
		m.problem("clear the evidence of an earlier boot: %v", err)
	}
}
