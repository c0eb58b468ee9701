package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/attest/statement"
	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/partition/state"
)

var _ updates.Keeper = (*slots.Keeper)(nil)

// bootSlots judges this boot: whether it is the good slot's, a trial or one that
// went astray. It does not return when the machine has to be started again.
func (m *Machine) bootSlots() {
	m.mu.Lock()
	b := m.status.Boot
	m.mu.Unlock()
	if m.disk == nil || b.Slot == "" || m.spec.Boot.Loader == systemdBoot {
		return // from RAM, from the ESP (the selector has a keeper), or chosen by a menu
	}
	running := slot.Slot(b.Slot[0])
	m.withoutKeeper(running, func() {
		k := m.newKeeper(running, m.polluted())
		if err := k.Boot(); err != nil {
			m.problem("slots: %v", err)
		}
	})
}

// withoutKeeper lets what runs go on when judging the boot panics: a reset would
// lead to the same panic again, also on the fallback of a good slot that does not
// load (P20) and in the selector. On a slot that is tried the panic ends the boot,
// and the firmware goes back to the good one.
func (m *Machine) withoutKeeper(running slot.Slot, judge func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		journal, _, err := m.loadState(state.Journal)
		if err == nil && isTried(journal, running) {
			panic(v)
		}
		m.mu.Lock()
		m.keeper = nil
		m.mu.Unlock()
		m.problem("slots: judging this boot has failed: %v", v)
		m.log.Printf("%s", debug.Stack())
	}()
	judge()
}

// isTried reports whether a journal says that a slot is on trial. One that cannot
// be read, or not without a panic, says so of none.
func isTried(journal []byte, running slot.Slot) (tried bool) {
	defer func() {
		if recover() != nil {
			tried = false
		}
	}()
	r, err := slot.Parse(journal)
	return err == nil && (r.Phase == slot.Armed || r.Phase == slot.Trying) && r.Candidate == running
}

// newKeeper makes the keeper of this machine's slots, for a boot of one of them
// or of the selector.
func (m *Machine) newKeeper(running slot.Slot, polluted bool) *slots.Keeper {
	s := m.spec
	o := slots.Options{
		Running: running, Polluted: polluted, Root: s.Root != nil, Rules: m.slotRules(),
		Release: slot.Content{Version: s.Version, Epoch: uint32(s.SecurityEpoch), Schema: uint16(s.Data.Schema), Accepts: uint16(max(s.Data.Accepts, s.Data.Schema))},
		State:   func() (slots.Part, error) { return m.openState(os.O_RDWR) },
		Slot:    m.openSlot, Firmware: m.firmwareSlots(),
		Sealed:   m.sealsFloor(),
		Selector: slots.Selector{Refuse: m.kexecRefused(), File: boot.FallbackPath(s.Arch), Open: m.openSlot, Extend: m.measureLaunch, Exec: m.kexec},
		Hooks:    m.trialHooks(), Uptime: uptime, Go: func(f func()) { m.spawn("slots", f) },
		Logf: m.log.Printf, Problem: m.problem, Reset: m.reset,
	}
	o.Hooks.Counter, o.Hooks.RaiseFloor = m.counter, m.raiseFloor
	k := slots.New(o)
	m.mu.Lock()
	m.keeper = k
	m.mu.Unlock()
	return k
}

// slotRules are those of the recipe; what it leaves open has a default.
func (m *Machine) slotRules() slot.Rules {
	u := m.spec.Update
	if u == nil {
		return slot.Rules{}
	}
	return slot.Rules{Tries: u.Tries, Health: time.Duration(u.Health), Limit: time.Duration(u.Limit), Soak: time.Duration(u.Soak), Attested: u.Bless == "attested"}
}

// openSlot opens a partition for reading.
func (m *Machine) openSlot(role string) (slots.Part, int64, error) {
	node, size, err := m.partition(role)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(node)
	return statePart{f}, size, err
}

// partition gives the device node of a partition of the boot disk, and its size
// in bytes.
func (m *Machine) partition(role string) (node string, size int64, err error) {
	if m.disk == nil {
		return "", 0, fmt.Errorf("find partition %s: this system was not started from a disk", role)
	}
	p, ok := m.disk.Partition(role)
	if ok {
		node = m.disk.NodeOf(role)
	}
	if node == "" {
		return "", 0, fmt.Errorf("find partition %s: not on %s", role, m.disk.Node)
	}
	return node, p.Size, nil
}

// measureLaunch states which boot file is started in place of this one. The
// firmware has measured the program that it started itself, so no reference
// explains the registers of such a boot: a server does not trust it.
func (m *Machine) measureLaunch(x slot.Slot, image slot.Digest) error {
	err := m.extend(statementPCR, statement.Launch{Slot: x.Role()[len("slot-"):], Image: image[:]}.Data())
	if errors.Is(err, errNoTPM) {
		return nil
	}
	return err
}

// kexecRefused is why no slot is started from here.
func (m *Machine) kexecRefused() error {
	if m.vars.SecureBoot() == "enabled" {
		return errors.New("the firmware alone may start a slot, for Secure Boot is on: it checks all of it")
	}
	if b, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil && !strings.Contains(string(b), "[none]") {
		return errors.New("this kernel is locked down, so it starts no other")
	}
	if b, err := os.ReadFile(kexecDisabled); err != nil || strings.TrimSpace(string(b)) != "0" {
		return errors.New("this kernel starts no other: kexec is not built in, or was turned off")
	}
	return nil
}

// kexec starts another kernel. It returns only when that is not possible.
func (m *Machine) kexec(kernel, initrd []byte, cmdline string) error {
	m.log.Printf("starting another kernel")
	return slots.Kexec("/run", kernel, initrd, cmdline, func() {
		m.log.Flush()
		unix.Sync()
	})
}

// reset stops the machine and starts it again. It does not return.
func (m *Machine) reset(why string) {
	m.request(stopRequest{why: why})
	select {}
}

// counter is the version floor by the TPM. Only what seals its data to it has
// one: on other machines the journal alone has the floor.
func (m *Machine) counter() uint32 {
	if !m.sealsFloor() {
		return 0
	}
	n, err := m.options.Crypt.Read(m.ctx, m.disk.NodeOf(partData), m.findTPM)
	if err != nil {
		m.log.Printf("read the version floor: %v", err)
		return 0
	}
	return uint32(max(n, 0))
}

func (m *Machine) raiseFloor(floor uint32) error {
	if !m.sealsFloor() {
		return nil
	}
	_, err := m.options.Crypt.Raise(m.ctx, m.disk.NodeOf(partData), m.findTPM, int(floor))
	return err
}

func (m *Machine) sealsFloor() bool {
	return m.disk != nil && m.spec.Data.Encrypt != "" && m.options.Crypt != nil
}

// identifyAfter is how long a machine is healthy before it reads its slot: not
// while services still warm up, and not in a short test.
const identifyAfter = time.Minute

// watchSlots gives the journal of a disk that was just flashed the digest of
// what runs, and compares the slots with their digests from time to time.
func (m *Machine) watchSlots() {
	k := m.slots()
	every := patrolInterval
	if u := m.spec.Update; u != nil && u.Patrol > 0 {
		every = time.Duration(u.Patrol)
	}
	if k == nil || !m.sleep(min(identifyAfter, every)) {
		return
	}
	k.Identify()
	for m.sleep(spread(every, rand.Float64())) {
		k.Patrol()
	}
}

// patrolInterval is the default of update.patrol.
const patrolInterval = 24 * time.Hour

// spread is the time until something is done that shall be done every d: a rack
// that was switched on at once does not read all its disks at once. chance is in
// [0, 1).
func spread(d time.Duration, chance float64) time.Duration {
	return d/2 + time.Duration(chance*float64(d)/2)
}

// sleep is false when the machine stops before it is over.
func (m *Machine) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-m.ctx.Done():
		return false
	}
}

// slots is the keeper; nil on machines without slots.
func (m *Machine) slots() *slots.Keeper {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keeper
}

// verdict tells a trial what the attestation server says.
func (m *Machine) verdict(st listener.Attestation) {
	k := m.slots()
	if k == nil || st.State != "trusted" && st.State != "refused" {
		return
	}
	e := slot.Event{Kind: slot.Verdict, OK: st.State == "trusted"}
	for _, f := range st.Findings {
		if !e.OK && e.Detail == "" {
			e.Detail = f.Code
		}
	}
	if err := k.Handle(e); err != nil {
		m.problem("slots: %v", err)
	}
}
