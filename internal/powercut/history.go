package powercut

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/boot/slot"
)

// OpKind is the kind of an operation.
type OpKind int

// The kinds.
const (
	Write  OpKind = iota // sectors, in the disk's cache until the next Flush
	Flush                // all writes before it are durable
	SetVar               // the variables become Vars, as a whole
	Count                // the TPM's counter becomes Counter
	Mark                 // nothing changes: a moment that has a row of its own
)

// Op is one operation of an update.
type Op struct {
	Kind    OpKind
	Row     string // of the fault matrix: what a cut here is
	Area    Area
	Off     int64
	Data    []byte
	Vars    Vars
	Counter uint32
}

// History is all operations of an update, and the machine before it.
type History struct {
	Ops    []Op
	before *Machine
	row    string
}

// journalRows and afterRows name what a cut inside a journal write, and right
// after it, is.
var (
	journalRows = map[slot.Phase]string{slot.Staging: "P0", slot.Staged: "P5", slot.Armed: "P6", slot.Trying: "P10", slot.Blessed: "P13", slot.Idle: "P17",
		slot.Failed: "failed", slot.Rejected: "rejected"}
	afterRows = map[slot.Phase]string{slot.Staging: "P0", slot.Staged: "P5", slot.Armed: "P6", slot.Trying: "P11", slot.Blessed: "P14", slot.Idle: "P17",
		slot.Failed: "failed", slot.Rejected: "rejected"}
)

// Record updates a machine from one release to another and returns what it
// wrote. The machine has booted the old release from slot a before; slot b holds
// bytes of no interest, the same file system.
func Record(old, new *Release) (*History, error) { return RecordWith(old, new, nil) }

// RecordWith is Record with a writer of slots in place of the model's.
func RecordWith(old, new *Release, w Writer) (*History, error) {
	m, h, err := record(old, new, w, false)
	if err == nil && (m.look(m.State.Running).version != new.Version || m.State.Phase != slot.Idle) {
		err = fmt.Errorf("update ended in %s with %s running: %v", m.State.Phase, m.look(m.State.Running).version, m.Chain)
	}
	return h, err
}

// RecordRejected is Record of a new release that is never healthy: it is tried
// until it is on the list of rejected versions.
func RecordRejected(old, new *Release) (*History, error) {
	m, h, err := record(old, new, nil, true)
	if err == nil && (m.look(m.State.Running).version != old.Version || m.State.Phase != slot.Rejected) {
		err = fmt.Errorf("update ended in %s with %s running: %v", m.State.Phase, m.look(m.State.Running).version, m.Chain)
	}
	return h, err
}

func record(old, new *Release, w Writer, sick bool) (*Machine, *History, error) {
	m := &Machine{
		Disk: NewDisk(int64(len(old.bytes)), int64(len(old.root))), ESP: true, Spare: true,
		Vars:     Vars{Entries: true, Order: [2]slot.Slot{slot.A, slot.B}, Spare: true},
		releases: []*Release{old, new}, memory: map[contents]seen{}, files: map[*int]loaded{}, regions: map[*int]regions{},
	}
	for _, x := range []slot.Slot{slot.A, slot.B} {
		_, err := m.part(x).WriteAt(old.bytes, 0)
		if _, rootErr := m.root(x).WriteAt(old.root, 0); err != nil || rootErr != nil {
			return nil, nil, errors.Join(err, rootErr)
		}
	}
	if err := m.PowerOn(); err != nil { // makes the journal
		return nil, nil, err
	}
	m.offer, m.writer, m.sick, m.Chain = new, w, sick, nil
	h := &History{before: m.clone()}
	m.history, m.Disk.history = h, h
	return m, h, m.PowerOn()
}

// clone is the machine as its disk, variables and TPM remember it.
func (m *Machine) clone() *Machine {
	return &Machine{Disk: m.Disk.Clone(), Vars: m.Vars, Counter: m.Counter, ESP: m.ESP, Spare: m.Spare, releases: m.releases, offer: m.offer, sick: m.sick, memory: m.memory, files: m.files, regions: m.regions}
}

func (h *History) add(o Op) {
	if o.Row == "" {
		o.Row = h.row
	}
	h.row = o.Row
	h.Ops = append(h.Ops, o)
}

// write records a write, and tells the steps of an update apart: the header of
// the slot is cleared (P1), root and slot are streamed (P2), the header comes last
// (P4).
func (h *History) write(a Area, off int64, b []byte) {
	row := h.row
	switch a {
	case RootA, RootB:
		row = "P2"
	case SlotA, SlotB:
		switch {
		case off > 0:
			row = "P2"
		case bytes.Count(b, []byte{0}) < len(b):
			row = "P4"
		}
	}
	h.add(Op{Kind: Write, Row: row, Area: a, Off: off, Data: bytes.Clone(b)})
}

// row names the operations that follow.
func (m *Machine) row(row string) {
	if m.history != nil {
		m.history.row = row
	}
}

// mark makes this moment a state of its own.
func (m *Machine) mark(row string) {
	if m.history != nil && row != "" {
		m.history.add(Op{Kind: Mark, Row: row})
	}
}

func (m *Machine) setVars(row string, v Vars) {
	m.Vars = v
	if m.history != nil {
		m.history.add(Op{Kind: SetVar, Row: row, Vars: v})
	}
}

func (m *Machine) raise(floor uint32) {
	m.Counter = max(m.Counter, floor)
	if m.history != nil {
		m.history.add(Op{Kind: Count, Row: "P17", Counter: m.Counter})
	}
}
