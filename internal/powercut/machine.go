package powercut

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/partition/state"
)

// Machine is a disk, the variables of its firmware and the counter of its TPM,
// with an init that does what boot/slot says. It keeps nothing else when it is
// switched off.
type Machine struct {
	Disk     *Disk
	Vars     Vars
	Counter  uint32
	ESP      bool            // the selector on the ESP loads
	Spare    bool            // its spare copy loads
	Evidence []slot.Evidence // that the next boot finds
	Rotten   bool            // slots are compared with their digests at boot
	Chain    []string        // what was started: "a=1.0"
	Reports  []string
	State    slot.State

	releases []*Release
	offer    *Release // what the server wants to run here
	memory   map[contents]seen
	files    map[*int]loaded
	regions  map[*int]regions
	kept     slots.Kept // the region Update, as this boot has it
	history  *History
	writer   Writer
	reset    bool
	pending  []slot.Event
	lazy     bool // approves nothing and does not soak
	approved bool // what is staged may be tried, although no server offers it
	sick     bool // what is offered is never healthy
	blind    bool // a trial ran without its baseline
}

// maxBoots bounds the boots of one PowerOn.
const maxBoots = 12

// PowerOn starts the machine and goes on until a system stays up: the update
// that is offered is then installed, tried and soaked, or refused.
func (m *Machine) PowerOn() error {
	m.State = slot.State{}
	for range maxBoots {
		m.reset = false
		if err := m.boot(m.choose()); err != nil {
			return err
		}
		if !m.reset {
			return nil
		}
	}
	return fmt.Errorf("%d boots and no rest: %v", maxBoots, m.Chain)
}

// boot runs what the firmware started until it resets or rests.
func (m *Machine) boot(x slot.Slot) error {
	name := m.selector()
	switch {
	case x != slot.None:
		name = fmt.Sprintf("%c=%s", x, m.look(x).name())
	case name == "":
		return errors.New("nothing loads")
	}
	m.Chain = append(m.Chain, name)
	b, err := m.bootEvent(x)
	if err != nil {
		return err
	}
	if m.State.Phase == slot.Armed && x == m.State.Candidate {
		m.mark("P10")
	}
	m.give(b)
	for len(m.pending) > 0 && !m.reset {
		e := m.pending[0]
		m.pending = m.pending[1:]
		m.give(e)
	}
	m.pending = nil
	if x != slot.None && !m.reset {
		m.agent()
	}
	return nil
}

// bootEvent is what early init finds.
func (m *Machine) bootEvent(x slot.Slot) (slot.Event, error) {
	b := slot.Boot{Running: x, Counter: m.Counter, Evidence: m.Evidence}
	b.View = slot.View{Entries: m.Vars.Entries, Order: m.Vars.Order[:], Next: m.Vars.Next}
	if x != slot.None {
		if i := slices.IndexFunc(m.releases, func(r *Release) bool { return r.Version == m.look(x).version }); i >= 0 {
			b.Content = m.releases[i].Content
		}
	}
	part := m.Disk.Part(StateArea)
	m.State = slot.State{}
	switch journal, _, err := state.Load(part, state.Journal); {
	case errors.Is(err, state.ErrDamaged):
		b.Journal = slot.JournalLost
	case err != nil:
		b.Journal = slot.JournalEmpty
	default:
		if m.State.Record, err = slot.Parse(journal); err != nil {
			return slot.Event{}, fmt.Errorf("journal: %w", err)
		}
	}
	if list, _, err := state.Load(part, state.Rejected); err == nil {
		if m.State.Rejections, err = slot.ParseRejections(list); err != nil {
			return slot.Event{}, err
		}
	}
	m.kept = m.readRegions().kept
	b.Baseline = m.kept.Of()
	if m.Rotten || x == slot.None {
		b.Damaged = m.damaged(m.State.Record)
	}
	return slot.Event{Kind: slot.Booted, Boot: b}, nil
}

// damaged compares slots that should be whole with their digests.
func (m *Machine) damaged(r slot.Record) (out [2]bool) {
	for i, x := range []slot.Slot{slot.A, slot.B} {
		c := r.Of(x)
		out[i] = (c.Condition == slot.Good || c.Condition == slot.Ready) && !m.look(x).whole
	}
	return out
}

// agent does what the update client does when its slot is up.
func (m *Machine) agent() {
	switch s := m.State; {
	case s.Phase == slot.Trying && s.Running == s.Candidate:
		m.mark("P11")
		m.blind = m.blind || m.kept.Of() != s.Of(s.Candidate).Image
		if m.sick {
			m.give(slot.Event{Kind: slot.Checked, Cause: slot.Unhealthy, Detail: "service: exit 1", Uptime: time.Second})
			m.give(slot.Event{Kind: slot.Checked, Cause: slot.Unhealthy, Detail: "service: exit 1", Uptime: time.Hour})
			return
		}
		m.give(slot.Event{Kind: slot.Checked, OK: true, Uptime: 10 * time.Second})
		m.give(slot.Event{Kind: slot.Checked, OK: true, Uptime: 2 * time.Minute})
		m.agent()
	case m.lazy:
	case s.Phase == slot.Blessed && s.Running == s.Good:
		m.mark("P16")
		m.give(slot.Event{Kind: slot.Checked, OK: true, Uptime: 2 * time.Hour})
	case m.offer == nil && m.approved && s.Running == s.Good && (s.Phase == slot.Staged || s.Phase == slot.Failed && s.TriesLeft > 0):
		m.give(slot.Event{Kind: slot.Approve})
	case m.offer == nil || m.look(s.Running).version == m.offer.Version || s.Running != s.Good:
	case s.Phase == slot.Staged || s.Phase == slot.Failed && s.TriesLeft > 0:
		m.give(slot.Event{Kind: slot.Approve})
	case !s.IsRejected(m.offer.Content):
		m.give(slot.Event{Kind: slot.Stage, Release: m.offer.Content})
		for len(m.pending) > 0 {
			e := m.pending[0]
			m.pending = m.pending[1:]
			m.give(e)
		}
		if m.State.Phase == slot.Staged {
			m.agent()
		}
	}
}

func (m *Machine) give(e slot.Event) {
	f := firmware{m}
	h := slot.Host{Actuators: [3]slot.Actuator{f, kexec{m}, kexec{m}}, Do: m.do}
	var err error
	if m.State, err = h.Handle(m.State, e); err != nil {
		m.Reports = append(m.Reports, "error: "+err.Error())
	}
}

// baseline is how a machine is, in the size that this has.
var baseline = json.RawMessage(`{"version":"` + strings.Repeat("1", 2<<10) + `"}`)

// keep changes the region Update, as the keeper of the slots does.
func (m *Machine) keep(change func(*slots.Kept)) error {
	k := m.kept
	change(&k)
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := state.Store(m.Disk.Part(StateArea), state.Update, b); err != nil {
		return err
	}
	m.kept = k
	return nil
}

// do performs actions on the disk.
func (m *Machine) do(a slot.Action) error {
	switch part := m.Disk.Part(StateArea); a.Do {
	case slot.WriteJournal:
		b, err := a.Record.AppendBinary(nil)
		if err != nil {
			return err
		}
		m.row(journalRows[a.Record.Phase])
		if err := state.Store(part, state.Journal, b); err != nil {
			return err
		}
		m.mark(afterRows[a.Record.Phase])
	case slot.KeepBaseline:
		m.row("P6")
		return m.keep(func(k *slots.Kept) { k.Baseline, k.BaselineOf = baseline, a.Release.Image })
	case slot.WriteRejected:
		b, err := slot.EncodeRejections(a.Rejections)
		if err != nil {
			return err
		}
		m.row("rejected")
		return state.Store(part, state.Rejected, b)
	case slot.Fill, slot.Recover:
		m.fill(a)
	case slot.RaiseFloor:
		m.raise(a.Floor)
	case slot.EraseEvidence:
		m.Evidence = nil
	case slot.Report:
		m.Reports = append(m.Reports, a.Detail)
	case slot.Reset:
		m.reset = true
	}
	return nil
}
