package updater

import (
	"maps"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/powercut"
	"github.com/ingot-os/ingot/internal/updateapi"
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
// the machine starts the version before, no slot loads without its root, and the
// update comes to its end (rows P1 to P4 of docs/slots.md).
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
	states, first, settled := map[string]int{}, map[string]int{}, map[string]bool{}
	err = h.States(func(s powercut.State) error {
		states[s.Row]++
		first[s.First()]++
		if x := s.Torn(); x != slot.None {
			t.Errorf("%s, operation %d, %s: slot %s loads without its root", s.Row, s.Op, s.Where, x)
		}
		if key := s.Key(); !settled[key] {
			settled[key] = true
			if chain, err := s.Settle(); err != nil {
				t.Errorf("%s, operation %d, %s: %q: %v", s.Row, s.Op, s.Where, chain, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations, %v states, first boot %v, %d that a boot can tell apart", len(h.Ops), states, first, len(settled))
	for _, row := range []string{"P1", "P2", "P3", "P4"} {
		if states[row] == 0 {
			t.Errorf("no states of %s", row)
		}
	}
	for version := range first {
		if version != old.version && version != fresh.version {
			t.Errorf("%q was started first %d times", version, first[version])
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
