package slots

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// TestPatrol: a byte that changes in either slot is damage that the journal, the
// report and the explanation have; slots that are whole cost no write.
func TestPatrol(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	before, lines := r.wrote(), len(r.log)
	r.k.Patrol()
	if r.wrote() != before || len(r.log) != lines {
		t.Fatalf("whole slots were written, or reported: %q", r.log[lines:])
	}
	var told []updateapi.Slots
	r.k.OnReport(func(s updateapi.Slots) { told = append(told, s) })
	for i, x := range letters {
		r.flip(x.Role(), slotSize-1)
		r.k.Patrol()
		if _, s := r.now(); s.Slots[i].Condition != slot.Damaged || s.Good != slot.B {
			t.Errorf("%s after a byte of it has changed: %+v", x, s.Record)
		}
		if len(told) != i+1 || told[i].Slots[i].Condition != "damaged" {
			t.Errorf("%s: told %+v", x, told)
		}
		if why := r.k.Slots().Why; !slices.ContainsFunc(why, func(l string) bool { return strings.HasPrefix(l, "damaged: "+x.String()) }) {
			t.Errorf("%s: explained by %q", x, why)
		}
	}
	before = r.wrote()
	r.k.Patrol()
	if r.wrote() != before {
		t.Error("damage that is known was written again")
	}
}

// TestPatrolOfRoot: a root partition belongs to its slot.
func TestPatrolOfRoot(t *testing.T) {
	r := newRack(t)
	r.roots = true
	for _, name := range []string{"root-a", "root-b"} {
		r.put(name, make([]byte, 4096))
	}
	r.power()
	r.k.Identify()
	r.k.Patrol()
	if _, s := r.now(); s.Slots[0].Condition != slot.Good || s.Slots[0].Root == (slot.Digest{}) {
		t.Fatalf("%+v", s.Record)
	}
	r.flip("root-a", 100)
	r.k.Patrol()
	if _, s := r.now(); s.Slots[0].Condition != slot.Damaged {
		t.Errorf("a root that has changed: %+v", s.Record)
	}
}

// TestPatrolMeetsUpdate: what is being written is not damage, and neither is what
// cannot be read.
func TestPatrolMeetsUpdate(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	release(t, "3.0", 3)
	open, looks := r.k.o.Slot, 0
	r.k.o.Slot = func(role string) (Part, int64, error) {
		if looks++; role == "slot-a" && looks == 1 { // an update begins before the first byte is read
			r.put("slot-a", images["3.0"])
			stage(t, r, "3.0")
		}
		return open(role)
	}
	r.k.Patrol()
	if _, s := r.now(); looks < 2 || s.Slots[0].Condition != slot.Ready || s.Slots[0].Version != "3.0" {
		t.Errorf("after %d looks: %+v", looks, s.Record)
	}
	r.k.o.Slot = func(string) (Part, int64, error) { return nil, 0, errors.New("input/output error") }
	r.k.Patrol()
	if _, s := r.now(); s.Slots[0].Condition != slot.Ready || s.Slots[1].Condition != slot.Good {
		t.Errorf("slots that cannot be read: %+v", s.Record)
	}
	if last := r.log[len(r.log)-1]; last != "compare slot b with its digest: input/output error" {
		t.Errorf("the log ends with %q", last)
	}
}

// TestPatrolOfDyingMedium: a slot of which not all can be read is no way back.
func TestPatrolOfDyingMedium(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	open := r.k.o.Slot
	r.k.o.Slot = func(role string) (Part, int64, error) {
		p, size, err := open(role)
		if role == "slot-a" {
			p = dying{p}
		}
		return p, size, err
	}
	r.k.Patrol()
	if _, s := r.now(); s.Slots[0].Condition != slot.Damaged || s.Slots[1].Condition != slot.Good || !strings.Contains(s.Notice, "slot a is damaged: read slot-a at 3145728: input/output error") {
		t.Errorf("%+v", s)
	}
}

// dying is a partition with an unreadable sector.
type dying struct{ Part }

func (d dying) ReadAt(b []byte, off int64) (int, error) {
	if off <= 3<<20 && 3<<20 < off+int64(len(b)) {
		return 0, unix.EIO
	}
	return d.Part.ReadAt(b, off)
}

// TestPatrolInTrial: a trial is judged by its checks.
func TestPatrolInTrial(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	r.flip("slot-a", 5)
	r.k.state.Phase = slot.Trying
	r.k.Patrol()
	if _, s := r.now(); s.Slots[0].Condition != slot.Good {
		t.Errorf("%+v", s.Record)
	}
	r.k.state.Phase = slot.Blessed
	r.k.Patrol()
	if _, s := r.now(); s.Slots[0].Condition != slot.Damaged {
		t.Errorf("after it: %+v", s.Record)
	}
}

// flip changes a byte of a partition.
func (r *rack) flip(name string, at int) {
	r.t.Helper()
	b, err := os.ReadFile(r.at(name))
	if err != nil {
		r.t.Fatal(err)
	}
	b[at] ^= 1
	r.put(name, b)
}
