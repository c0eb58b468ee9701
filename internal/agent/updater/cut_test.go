package updater

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/powercut"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/state"
)

// noted lets a power-cut model see what a keeper saves.
type noted struct {
	*keeper
	save func([]byte) error
}

func (n noted) SaveProgress(b []byte) error {
	if err := n.save(b); err != nil {
		return err
	}
	return n.keeper.SaveProgress(b)
}

// What the client writes, cut at every sector and out of order between flushes:
// the machine starts what docs/slots.md says, no slot loads without its root, and
// the update comes to its end, by the model's writer in all states and by the
// client itself in some.
func TestWritesThatAreCut(t *testing.T) {
	was, wasFresh, wasSizes := old, fresh, maps.Clone(sizes)
	t.Cleanup(func() { old, fresh, sizes = was, wasFresh, wasSizes })
	const slotSize, rootSize = 34 * mib, 1 * mib
	sizes = map[string]int64{"slot-a": slotSize, "slot-b": slotSize, "root-a": rootSize, "root-b": rootSize}
	var model [2]*powercut.Release
	for i, r := range []*rel{&old, &fresh} {
		var err error
		if model[i], err = powercut.NewRelease(r.version, 1, image(byte(20+i), 18*mib, 18*mib), slotSize); err != nil {
			t.Fatal(err)
		}
		r.slot, r.root, r.epoch = model[i].Bytes(), image(byte(30+i), rootSize, rootSize), 1
		model[i].SetRoot(r.root)
	}
	h, err := powercut.RecordWith(model[0], model[1], func(m *powercut.Machine, _ slot.Slot, _ *powercut.Release) error { return writeInto(t, m) })
	if err != nil {
		t.Fatal(err)
	}
	states, settled := map[string]int{}, map[string]ending{}
	err = h.States(func(s powercut.State) error {
		states[s.Row]++
		key := s.Key()
		e, ok := settled[key]
		if !ok {
			e.chain, e.err = s.Settle()
			settled[key] = e
		}
		err := errors.Join(e.err, s.Check(e.chain))
		switch {
		case s.Torn() != slot.None:
			err = fmt.Errorf("%s loads without its root", s.Torn())
		case s.Overreaches():
			err = errors.New("the update goes on behind bytes that are lost")
		}
		if err != nil {
			t.Errorf("%s, operation %d, %s: %q: %v", s.Row, s.Op, s.Where, e.chain, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations, %v states, %d that a boot can tell apart", len(h.Ops), states, len(settled))
	for _, row := range []string{"P1", "P2", "P3", "P4"} {
		if states[row] == 0 {
			t.Errorf("no states of %s", row)
		}
	}
	t.Run("the client goes on", func(t *testing.T) { goOn(t, h) })
}

// ending is what a machine came to.
type ending struct {
	chain []string
	err   error
}

// goOn starts the client itself in states of all rows in which a slot is written, 6
// of each, and lets it come to the end: from what was kept, on a slot that lacks
// some of what was not flushed.
func goOn(t *testing.T, h *powercut.History) {
	all, err := h.Sample(17*6, 5)
	if err != nil {
		t.Fatal(err)
	}
	b, done, resumed := newBench(t), 0, 0
	for _, s := range all {
		if !b.powerOn(s) {
			continue
		}
		done++
		if s.Resumes() > 0 {
			resumed++
		}
		b.finish(fresh, s.Resumes())
		b.staged(fresh)
		if t.Failed() {
			t.Fatalf("%s, operation %d, %s: from %d", s.Row, s.Op, s.Where, s.Resumes())
		}
	}
	t.Logf("%d states, in %d the client went on from an offset", done, resumed)
	if done < 20 || resumed < 8 {
		t.Errorf("%d states, %d from an offset: too few", done, resumed)
	}
	t.Run("a disk that loses what it flushed", func(t *testing.T) { lied(t, all) })
}

// lied is a disk that did not keep what it said to be durable: the client finds it
// when it reads back, and everything is sent again.
func lied(t *testing.T, all []powercut.State) {
	i := slices.IndexFunc(all, func(s powercut.State) bool { return s.Resumes() >= 16*mib })
	b := newBench(t)
	if i < 0 || !b.powerOn(all[i]) {
		t.Fatal("no state goes on from 16 MiB or more")
	}
	lost := b.get("slot-b")
	clear(lost[5*mib : 5*mib+512])
	b.put("slot-b", lost)
	if _, err := b.send(fresh, updateapi.PartSlot, updateapi.CodingIdentity); code(err) != updateapi.WrongBytes || b.startable("slot-b") {
		t.Fatalf("%v, startable %t", err, b.startable("slot-b"))
	}
	b.finish(fresh, 0)
	b.staged(fresh)
}

// powerOn makes the machine one in that state: its disk, journal and what was kept. It
// is false when no slot is being written there.
func (b *bench) powerOn(s powercut.State) bool {
	b.t.Helper()
	load := func(r state.Region) []byte {
		p, _, err := state.Load(s.Part(powercut.StateArea), r)
		if err != nil && !errors.Is(err, state.ErrEmpty) {
			b.t.Fatal(err)
		}
		return p
	}
	record, err := slot.Parse(load(state.Journal))
	if err != nil {
		b.t.Fatal(err)
	}
	if record.Phase != slot.Staging {
		return false
	}
	var kept slots.Kept
	if p := load(state.Update); p != nil {
		if err := json.Unmarshal(p, &kept); err != nil {
			b.t.Fatal(err)
		}
	}
	for role, area := range map[string]powercut.Area{"slot-b": powercut.SlotB, "root-b": powercut.RootB} {
		p := make([]byte, sizes[role])
		if _, err := s.Part(area).ReadAt(p, 0); err != nil {
			b.t.Fatal(err)
		}
		b.put(role, p)
	}
	b.keeper.journal, b.keeper.saved = record, kept.Progress
	b.keeper.boot(slot.A)
	b.start()
	return true
}

// finish sends what the machine wants, from where it was and not from the begin.
func (b *bench) finish(r rel, from int64) {
	b.t.Helper()
	p := b.offer(r)
	if len(p.Wants) == 0 || p.Wants[0].From != from || b.startable("slot-b") {
		b.t.Fatalf("the machine wants %+v, want it from %d; startable %t", p.Wants, from, b.startable("slot-b"))
	}
	for len(p.Wants) > 0 {
		var err error
		if p, err = b.send(r, p.Wants[0].Part, updateapi.CodingIdentity); err != nil {
			b.t.Fatal(err)
		}
	}
}

// writeInto lets an update client write its release, and does the same to the
// other slot of a model.
func writeInto(t *testing.T, m *powercut.Machine) error {
	b := newBench(t)
	b.put("slot-b", make([]byte, sizes["slot-b"]))
	b.put("root-b", make([]byte, sizes["root-b"]))
	fail := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	b.machine.Keeper = noted{b.keeper, m.SaveProgress}
	b.start()
	b.updater.tap = func(role string, off int64, p []byte) {
		part := m.Part(role)
		if p == nil {
			fail(part.Sync())
			return
		}
		_, err := part.WriteAt(p, off)
		fail(err)
	}
	for _, part := range []string{updateapi.PartRoot, updateapi.PartSlot} {
		if _, err := b.send(fresh, part, updateapi.CodingIdentity); err != nil {
			return err
		}
	}
	return nil
}
