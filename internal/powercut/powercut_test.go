package powercut

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/state"
)

// slotSize is the smallest that FAT32 allows, rounded up, in bytes.
const slotSize = 34 << 20

// rootSize is that of a verity root, in bytes.
const rootSize = 1 << 20

// boot returns a boot file of so many bytes that differs with its name.
func boot(name string, n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		s := sha256.Sum256(fmt.Append(nil, name, i))
		b = append(b, s[:]...)
	}
	return b[:n]
}

func releases(t testing.TB) (old, new *Release) {
	t.Helper()
	old, err := NewRelease("1.0", 1, boot("old", 300<<10), slotSize)
	if err != nil {
		t.Fatal(err)
	}
	if new, err = NewRelease("2.0", 2, boot("new", 310<<10), slotSize); err != nil {
		t.Fatal(err)
	}
	old.SetRoot(boot("old root", rootSize))
	new.SetRoot(boot("new root", rootSize))
	return old, new
}

func record1(t testing.TB) *History {
	t.Helper()
	old, new := releases(t)
	h, err := Record(old, new)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// row is what happened in one row of the fault matrix.
type row struct {
	states  int
	ops     map[int]bool
	first   map[string]int
	chains  map[string]int
	resumed int
	errs    []string
}

// Proof 1: whatever a power cut leaves of an update, the next boot is the version
// that docs/slots.md names, and the machine gets to the new one by itself, with
// no more resets than it says.
func TestPowerCut(t *testing.T) {
	h := record1(t)
	rows, total := everyState(t, h, updated, settle)
	if rows["P2"].resumed == 0 {
		t.Error("no update goes on from where it was")
	}
	if total < 5000 {
		t.Errorf("%d states, want thousands", total)
	}
	for i := range 18 {
		name := fmt.Sprintf("P%d", i)
		if name == "P12" {
			continue // a reset, not a cut: TestPanicInTrial
		}
		t.Run(name, func(t *testing.T) { rows[name].report(t) })
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("states of a row %q", name)
	}
}

// The same for an update that fails: journal records of failures, and the list of
// rejected versions.
func TestPowerCutOfFailure(t *testing.T) {
	old, new := releases(t)
	h, err := RecordRejected(old, new)
	if err != nil {
		t.Fatal(err)
	}
	// All is as before until the trial fails for the first time.
	first := slices.IndexFunc(h.Ops, func(o Op) bool { return o.Row == "failed" })
	h = &History{Ops: h.Ops[first:], before: h.After(first - 1)}
	rows, _ := everyState(t, h, refused, settleRejected)
	for _, name := range []string{"failed", "rejected"} {
		t.Run(name, func(t *testing.T) { rows[name].report(t) })
		delete(rows, name)
	}
	for name, r := range rows {
		t.Run(name, r.report)
	}
}

// refused are the promises of an update that failed once already: two resets for
// each try that is left, and one try more where the record of a failure is torn.
var refused = promises{
	"failed": {before, 6}, "rejected": {before, 0},
	"P6":        {before, 4},
	"P7 before": {before, 4}, "P7 after": {after, 3},
	"P8":        {after, 3},
	"P9 before": {after, 3}, "P9 after": {before, 4},
	"P10": {before, 4}, "P11": {before, 4},
}

// everyState starts a machine in each state of a history, those once that nothing
// can tell apart, and compares what it starts with the promises.
func everyState(t *testing.T, h *History, want promises, settle func(*Machine) (string, error)) (rows map[string]*row, total int) {
	t.Helper()
	rows, unique, chains := map[string]*row{}, map[string]error{}, map[string]string{}
	err := h.States(func(s State) error {
		r := rows[s.Row]
		if r == nil {
			r = &row{ops: map[int]bool{}, first: map[string]int{}, chains: map[string]int{}}
			rows[s.Row] = r
		}
		r.states++
		total++
		r.ops[s.Op] = true
		r.first[s.First()]++
		if s.Resumes() > 0 {
			r.resumed++
		}
		if s.Overreaches() {
			r.errs = append(r.errs, fmt.Sprintf("operation %d, %s: the update goes on behind bytes that are lost", s.Op, s.Where))
		}
		if x := s.Torn(); x != slot.None {
			r.errs = append(r.errs, fmt.Sprintf("operation %d, %s: slot %s loads without its root", s.Op, s.Where, x))
		}
		key := s.Key()
		if _, ok := unique[key]; !ok {
			chains[key], unique[key] = settle(s.Machine())
		}
		r.chains[chains[key]]++
		if err := errors.Join(unique[key], want.check(s, strings.Fields(chains[key]))); err != nil {
			r.errs = append(r.errs, fmt.Sprintf("operation %d, %s: %v", s.Op, s.Where, err))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations, %d states, %d of them different after the cut", len(h.Ops), total, len(unique))
	return rows, total
}

// settleRejected is settle for a version that is never healthy.
func settleRejected(m *Machine) (chain string, err error) {
	if err := m.PowerOn(); err != nil {
		return "", err
	}
	chain = strings.Join(m.Chain, " ")
	s := m.State
	if m.blind || m.look(s.Running).version != "1.0" || s.Good != s.Running || s.Phase != slot.Rejected || !s.IsRejected(m.offer.Content) || m.Vars.Order[0] != s.Good {
		return chain, fmt.Errorf("runs %s in %s after %s: %v", m.look(s.Running).version, s.Phase, chain, m.Reports)
	}
	writes, vars := m.Disk.counts.Writes, m.Vars
	if err := m.PowerOn(); err != nil || m.Disk.counts.Writes != writes || m.Vars != vars {
		return chain, fmt.Errorf("a boot after the rejection wrote %d times: %v", m.Disk.counts.Writes-writes, err)
	}
	return chain, nil
}

func (r *row) report(t *testing.T) {
	if r == nil {
		t.Fatal("no state")
	}
	t.Logf("%d states in %d operations, %d in which the update goes on from an offset", r.states, len(r.ops), r.resumed)
	for version, n := range r.first {
		t.Logf("%6d x first boot %s", n, version)
	}
	for chain, n := range r.chains {
		t.Logf("%6d x %s", n, chain)
	}
	for i, e := range r.errs {
		if i == 5 {
			t.Errorf("and %d more", len(r.errs)-i)
			break
		}
		t.Error(e)
	}
}

// settle switches a machine on, and returns what it started and what is wrong
// with how it ends.
func settle(m *Machine) (chain string, err error) {
	if err := m.PowerOn(); err != nil {
		return "", err
	}
	chain = strings.Join(m.Chain, " ")
	s := m.State
	switch {
	case m.look(s.Running).version != "2.0" || !m.look(s.Running).whole:
		return chain, fmt.Errorf("runs %s in %s after %s: %v", m.look(s.Running).version, s.Phase, chain, m.Reports)
	case s.Good != s.Running || s.Phase != slot.Idle || m.Vars.Order[0] != s.Good:
		return chain, fmt.Errorf("good %s, running %s, first %s, %s", s.Good, s.Running, m.Vars.Order[0], s.Phase)
	case m.blind:
		return chain, errors.New("a trial ran without its baseline")
	case m.Counter != 1 || s.Floor != 1:
		return chain, fmt.Errorf("floor %d, counter %d, want 1", s.Floor, m.Counter)
	}
	writes, vars := m.Disk.counts.Writes, m.Vars
	if err := m.PowerOn(); err != nil || m.Disk.counts.Writes != writes || m.Vars != vars {
		return chain, fmt.Errorf("a healthy boot wrote %d times: %v", m.Disk.counts.Writes-writes, err)
	}
	return chain, nil
}

// at returns a machine at the first moment that is of the row.
func at(t *testing.T, h *History, row string) *Machine {
	t.Helper()
	for i, o := range h.Ops {
		if o.Row == row && o.Kind == Mark {
			return h.After(i)
		}
	}
	t.Fatalf("no state of row %s", row)
	return nil
}

// P9, P10 and P11 are told apart by what the journal has, and cost no try.
func TestCauseOfACut(t *testing.T) {
	h := record1(t)
	deleted := slices.IndexFunc(h.Ops, func(o Op) bool { return o.Row == "P9" })
	for row, c := range map[string]struct {
		m    *Machine
		want slot.Cause
	}{"P9": {h.After(deleted), slot.LostBeforeInit}, "P10": {at(t, h, "P10"), slot.LostBeforeInit}, "P11": {at(t, h, "P11"), slot.PowerCut}} {
		t.Run(row, func(t *testing.T) {
			c.m.offer, c.m.lazy = nil, true
			if err := c.m.PowerOn(); err != nil {
				t.Fatal(err)
			}
			if s := c.m.State; s.Phase != slot.Failed || s.Cause != c.want || s.TriesLeft != 3 || !slices.Equal(c.m.Chain, []string{"a=1.0"}) {
				t.Errorf("%s, cause %s, %d tries left, %v; want %s", s.Phase, s.Cause, s.TriesLeft, c.m.Chain, c.want)
			}
		})
	}
}

// P12: panic and hang in a trial leave evidence; without it the try is kept.
func TestPanicInTrial(t *testing.T) {
	h := record1(t)
	t.Run("P12", func(t *testing.T) {
		for _, c := range []slot.Cause{slot.Panic, slot.Hang, slot.NoCause} {
			m := at(t, h, "P11")
			m.offer, m.lazy = nil, true
			tries := 2
			if c != slot.NoCause {
				m.Evidence = []slot.Evidence{{Cause: c}}
			} else {
				c, tries = slot.PowerCut, 3
			}
			if err := m.PowerOn(); err != nil {
				t.Fatal(err)
			}
			if s := m.State; s.Phase != slot.Failed || s.Cause != c || int(s.TriesLeft) != tries || m.Chain[0] != "a=1.0" {
				t.Errorf("%s: %s, cause %s, %d tries left, %v", c, s.Phase, s.Cause, s.TriesLeft, m.Chain)
			}
		}
	})
}

// The rows that are no cut of an update but other misfortune.
func TestMisfortune(t *testing.T) {
	h := record1(t)
	updated := at(t, h, "P17")
	if err := updated.PowerOn(); err != nil {
		t.Fatal(err)
	}
	garble := func(m *Machine, a Area) {
		b := boot("rot", 4096)
		if _, err := m.Disk.Part(a).WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, rule string
		do         func(m *Machine)
		chain      string
		good       slot.Slot
		says       string
	}{
		{"P18", "variables wiped", func(m *Machine) { m.Vars = Vars{} }, "selector b=2.0", slot.B, "entries are made again"},
		{"P19", "disk in another machine", func(m *Machine) { m.Vars, m.Counter = Vars{Entries: false, Order: [2]slot.Slot{slot.A, slot.B}}, 0 }, "selector b=2.0", slot.B, "entries are made again"},
		{"P20", "bit rot in the good slot", func(m *Machine) { garble(m, SlotB); m.Rotten = true }, "a=1.0", slot.A, "version 1.0 on slot a is good now"},
		{"P20", "the good slot does not load, and nobody compared it", func(m *Machine) { garble(m, SlotB) }, "a=1.0 a=1.0 a=1.0", slot.A, "version 1.0 on slot a is good now"},
		{"P21", "both slots bad", func(m *Machine) { garble(m, SlotA); garble(m, SlotB) }, "spare b=2.0", slot.B, "restored from the network"},
		{"P22", "state partition lost", func(m *Machine) {
			for _, off := range []int64{0, 1 << 20} {
				_, _ = m.Disk.Part(StateArea).WriteAt(boot("rot", 4096), off)
			}
		}, "b=2.0", slot.B, "until an operator adopts it"},
		{"P22", "state partition zeroed, variables too", func(m *Machine) {
			m.Vars = Vars{}
			_, _ = m.Disk.Part(StateArea).WriteAt(make([]byte, 2<<20), 0)
		}, "selector a=1.0", slot.A, ""},
		{"P23", "the selector is torn, and the slot entries are lost", func(m *Machine) { m.ESP, m.Vars = false, Vars{Spare: true} }, "spare b=2.0", slot.B, "entries are made again"},
		{"P23", "the selector is torn, and both slots are bad", func(m *Machine) { m.ESP = false; garble(m, SlotA); garble(m, SlotB) }, "spare b=2.0", slot.B, "restored from the network"},
		{"P23", "the spare copy is torn, and both slots are bad", func(m *Machine) { m.Spare = false; garble(m, SlotA); garble(m, SlotB) }, "selector b=2.0", slot.B, "restored from the network"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.rule, func(t *testing.T) {
			m := updated.clone()
			m.offer = nil
			tt.do(m)
			if err := m.PowerOn(); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(m.Chain, " "); got != tt.chain || m.State.Good != tt.good || m.State.Running != tt.good {
				t.Errorf("%s, good %s, running %s; want %s, %s", got, m.State.Good, m.State.Running, tt.chain, tt.good)
			}
			if !strings.Contains(strings.Join(m.Reports, "\n"), tt.says) {
				t.Errorf("reports %q, want %q", m.Reports, tt.says)
			}
			if !m.Vars.Spare {
				t.Error("the spare copy of the selector has no entry")
			}
			writes := m.Disk.counts.Writes
			if err := m.PowerOn(); err != nil || m.Disk.counts.Writes != writes {
				t.Errorf("the next boot wrote %d times: %v", m.Disk.counts.Writes-writes, err)
			}
		})
	}
	t.Run("P22 an operator adopts what runs", func(t *testing.T) { adopt(t, updated.clone()) })
	// What nothing on the disk can help: the machine starts from the network or a stick.
	t.Run("P23 the selector is torn, and all entries are lost", func(t *testing.T) {
		m := updated.clone()
		m.offer, m.ESP, m.Vars = nil, false, Vars{}
		if err := m.PowerOn(); err == nil || len(m.Chain) != 0 {
			t.Errorf("%v starts, %v", m.Chain, err)
		}
	})
	t.Run("P24 data of a newer format", func(t *testing.T) { dataFormat(t) })
}

// adopt is P22 as it goes on: no update until an operator vouches for what runs
// (ingot slots HOST --adopt), and then as ever.
func adopt(t *testing.T, m *Machine) {
	for _, off := range []int64{0, 1 << 20} {
		_, _ = m.Disk.Part(StateArea).WriteAt(boot("rot", 4096), off)
	}
	m.offer = m.releases[before]
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if s := m.State; !s.Unjournalled || s.Running != slot.B || s.Phase != slot.Idle || m.Disk.counts.Writes != 2 {
		t.Errorf("%s in %s, unjournalled %t, %d writes", s.Running, s.Phase, s.Unjournalled, m.Disk.counts.Writes)
	}
	if said := strings.Join(m.Reports, "\n"); !strings.Contains(said, "version 1.0 refused: the slot journal was lost") {
		t.Errorf("the machine says %q", said)
	}
	m.give(slot.Event{Kind: slot.Adopt})
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if s := m.State; s.Unjournalled || s.Good != slot.A || s.Running != slot.A || m.Runs() != "1.0" {
		t.Errorf("good %s, %s runs %s after %v: %q", s.Good, s.Running, m.Runs(), m.Chain, m.Reports)
	}
}

// P24 on the model's disk: the journal keeps the format, so that no later boot
// goes back to a version that cannot read the data.
func dataFormat(t *testing.T) {
	old, new := releases(t)
	new.Schema, new.Accepts = 1, 1
	h, err := Record(old, new)
	if err != nil {
		t.Fatal(err)
	}
	m := at(t, h, "P17")
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	journal, _, err := state.Load(m.Disk.Part(StateArea), state.Journal)
	r, perr := slot.Parse(journal)
	if err != nil || perr != nil || r.Schema != 1 {
		t.Fatalf("schema %d, %v, %v", r.Schema, err, perr)
	}
	m.give(slot.Event{Kind: slot.Rollback})
	if m.State.Good != slot.B || !slices.ContainsFunc(m.Reports, func(s string) bool { return strings.Contains(s, "reads data up to format 0") }) {
		t.Errorf("good %s, %q", m.State.Good, m.Reports)
	}
}
