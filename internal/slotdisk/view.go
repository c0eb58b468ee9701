package slotdisk

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/state"
)

var errNotDir error = syscall.ENOTDIR

// maxWhy bounds the explanation, in lines.
const maxWhy = 20

// View is what a disk says about its slots.
type View struct {
	updateapi.Slots
	Disk     string   `json:"disk"`
	Layout   string   `json:"layout"`
	Copies   []Copy   `json:"copies"`              // of the journal
	From     string   `json:"variables,omitempty"` // where Entries come from; empty: no variables were looked at
	Problems []string `json:"problems,omitempty"`

	known bool // the journal names the good slot
}

// Copy is one of the two copies of the journal.
type Copy struct {
	Sequence uint64 `json:"sequence,omitempty"`
	Current  bool   `json:"current,omitempty"`
	State    string `json:"state"` // whole, empty, or what is wrong with it
}

// Options say how to look.
type Options struct {
	Variables *Variables // nil: none are there
	// Quick leaves the digests of slots and roots out: with them every byte is
	// read.
	Quick bool
}

// found is what the bytes of one slot are.
type found struct {
	spec        *appliance.Spec
	image, root slot.Digest
	err         error // of reading the slot
}

// View reads the slots. What cannot be read is a problem in the result.
func (d *Disk) View(o Options) View {
	v := View{Disk: d.Path, Layout: d.Layout.ID}
	if d.note != nil {
		v.problem("partition table: %v", d.note)
	}
	seen := [2]found{d.look(&v, slot.A, o), d.look(&v, slot.B, o)}
	s, journal := d.state(&v, seen)
	arch := boot.AMD64
	for _, f := range seen {
		if f.spec != nil {
			arch = f.spec.Arch
		}
	}
	var next slot.View
	if o.Variables != nil {
		s.Running = d.running(o.Variables)
		next = d.firmware(o.Variables, arch).View()
	}
	v.Slots = slots.Describe(s, journal)
	if journal == slot.JournalLost && !v.known {
		v.Good = "" // where the machine begins to try, no more
	}
	if o.Variables != nil {
		v.From, v.Entries = o.Variables.From, o.Variables.store.Snapshot()
		for _, x := range next.Order {
			v.Order = append(v.Order, letter(x))
		}
		v.Next = letter(next.Next)
	}
	for i, f := range seen {
		v.compare(i, f, o)
	}
	if _, err := d.FailedLog(); err == nil && s.Cause != slot.NoCause {
		v.Why = append(v.Why, strings.Replace(slots.LogLine, "HOST", d.Path, 1))
	}
	v.explain(s, journal, o.Variables != nil, next)
	return v
}

func (v *View) problem(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

func letter(x slot.Slot) string {
	if x == slot.None {
		return ""
	}
	return string(rune(x))
}

// FailedLog is the log of the last boot that failed, as the machine has kept it.
func (d *Disk) FailedLog() (string, error) {
	b, _, err := state.Load(d.Part(partition.State), state.Evidence)
	if err == nil && len(b) == 0 || errors.Is(err, state.ErrEmpty) {
		return "", fmt.Errorf("%s: no log of a boot that failed is kept", d.Path)
	}
	return string(b), err
}

// look reads one slot.
func (d *Disk) look(v *View, x slot.Slot, o Options) (f found) {
	part := d.Part(x.Role())
	f.spec, f.err = Spec(part, part.Size())
	if o.Quick {
		return f
	}
	var err error
	if f.image, err = sum(part); err != nil {
		v.problem("%s: %v", x.Role(), err)
	}
	if root := d.Part(rootRole(x)); root != nil {
		if f.root, err = sum(root); err != nil {
			v.problem("%s: %v", rootRole(x), err)
		}
	}
	return f
}

func sum(part *io.SectionReader) (slot.Digest, error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{part}, make([]byte, 1<<20)); err != nil {
		return slot.Digest{}, err
	}
	return slot.Digest(h.Sum(nil)), nil
}

// state reads the journal. Of a disk that has not started yet, and of one whose
// journal is lost, it is what the slots themselves say.
func (d *Disk) state(v *View, seen [2]found) (s slot.State, journal slot.JournalState) {
	part := d.Part(partition.State)
	for _, c := range state.Scan(part) {
		if c.Region == state.Journal {
			v.Copies = append(v.Copies, Copy{c.Seq, c.Current, copyState(c.Err)})
		}
	}
	payload, _, err := state.Load(part, state.Journal)
	if err == nil {
		s.Record, err = slot.Parse(payload)
		s.Good = cmp.Or(s.Good, slot.GoodOf(payload))
	}
	switch {
	case err == nil:
	case errors.Is(err, state.ErrEmpty) && !errors.Is(err, state.ErrDamaged):
		journal = slot.JournalEmpty
	default:
		journal = slot.JournalLost
		v.problem("journal: %v", err)
	}
	v.known = s.Good != slot.None
	if journal != slot.JournalRead {
		condition := slot.Good // as a disk is flashed: one release, in both slots
		if journal == slot.JournalLost {
			condition = slot.Ready // what was on trial looks just like what is good
		}
		s.Record = rebuilt(cmp.Or(s.Good, slot.A), condition, seen)
	}
	if s.Rejections, err = d.rejections(part); err != nil {
		v.problem("list of rejected versions: %v", err)
	}
	return s, journal
}

func copyState(err error) string {
	switch {
	case err == nil:
		return "whole"
	case errors.Is(err, state.ErrDamaged):
		return "damaged"
	case errors.Is(err, state.ErrEmpty):
		return "empty"
	}
	return err.Error()
}

func (d *Disk) rejections(part *io.SectionReader) ([]slot.Rejection, error) {
	payload, _, err := state.Load(part, state.Rejected)
	switch {
	case errors.Is(err, state.ErrEmpty) && !errors.Is(err, state.ErrDamaged):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return slot.ParseRejections(payload)
}

// rebuilt is a record made of the slots' own words.
func rebuilt(good slot.Slot, condition slot.Condition, seen [2]found) slot.Record {
	r := slot.Record{Good: good}
	for i, f := range seen {
		c := &r.Slots[i]
		if f.spec == nil {
			continue
		}
		*c = slot.Content{Version: f.spec.Version, Image: f.image, Root: f.root, Epoch: uint32(f.spec.SecurityEpoch),
			Schema: uint16(f.spec.Data.Schema), Accepts: uint16(max(f.spec.Data.Accepts, f.spec.Data.Schema)), Condition: condition}
	}
	return r
}

// compare holds what a slot is against what the journal says of it.
func (v *View) compare(i int, f found, o Options) {
	s := &v.Slots.Slots[i]
	role := letters[i].Role()
	if !o.Quick {
		s.Found = hex.EncodeToString(f.image[:])
	}
	switch {
	case f.err != nil && (s.Condition == "empty" || s.Condition == "partial"):
		s.Found = "no volume" // as the journal says: nothing there, or not all of it yet
		return
	case f.err != nil:
		s.Found = f.err.Error()
		v.problem("%s: %v", role, f.err)
		return
	case s.Version != "" && s.Version != f.spec.Version:
		v.problem("%s holds version %s, the journal says %s", role, f.spec.Version, s.Version)
	}
	if o.Quick || s.Condition != "good" && s.Condition != "ready" {
		return
	}
	if s.Image != "" && s.Image != s.Found {
		v.problem("%s: its digest is not the journal's: %s, want %s", role, s.Found, s.Image)
	}
	if s.Root != "" && s.Root != hex.EncodeToString(f.root[:]) {
		v.problem("%s: its digest is not the journal's: %x, want %s", rootRole(letters[i]), f.root, s.Root)
	}
}

// explain corrects what only a running machine knows, and puts the problems
// first.
func (v *View) explain(s slot.State, journal slot.JournalState, variables bool, next slot.View) {
	why := v.Why
	if s.Running == slot.None && len(why) > 0 && strings.HasPrefix(why[0], "runs: ") {
		why = slices.Clone(why)
		why[0] = "runs: not known, this is a disk and no running machine"
	}
	if i := slices.IndexFunc(why, func(line string) bool { return strings.HasPrefix(line, "fallback: ") }); i >= 0 && journal == slot.JournalLost {
		why = slices.Clone(why)
		why[i] = "fallback: not known, because no journal says which slots were ever good"
	}
	head := []string{}
	switch journal {
	case slot.JournalEmpty:
		head = append(head, "journal: empty, the disk has not started yet; what follows is what its slots say")
	case slot.JournalLost:
		head = append(head, "journal: lost; the machine goes on with the slot that it starts, and takes no update until that is vouched for (ingot slots shows what is readable)")
	}
	for _, p := range v.Problems {
		if journal != slot.JournalLost || !strings.HasPrefix(p, "journal: ") {
			head = append(head, "problem: "+p)
		}
	}
	if line := disagreement(s, variables, next); line != "" {
		head = append(head, line)
	}
	all := append(head, why...)
	v.Why = all[:min(len(all), maxWhy)]
}

// disagreement says where firmware variables would start another slot than the
// journal says.
func disagreement(s slot.State, variables bool, next slot.View) string {
	switch {
	case !variables || s.Means != slot.Firmware:
		return ""
	case len(next.Order) == 0 && next.Next == slot.None:
		return "firmware: has no entry of a slot; the selector on the ESP repairs that at the next boot"
	case next.Next != slot.None && next.Next != s.Good && s.Phase != slot.Armed:
		return fmt.Sprintf("firmware: starts %s once, which is not the good slot, and no trial is armed", next.Next)
	case len(next.Order) > 0 && next.Order[0] != s.Good:
		return fmt.Sprintf("firmware: has %s first, the good slot is %s; the next boot repairs that", next.Order[0], s.Good)
	}
	return ""
}
