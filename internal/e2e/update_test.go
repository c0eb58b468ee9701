package e2e

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// TestUpdate is the good life: from slot a to slot b and back, with another
// service each time, whole and as a delta, an operator's rollback that holds, and
// power cuts that change nothing.
func TestUpdate(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "")
	old, next, third := f.release(t, "1.0.0", ""), f.release(t, "1.1.0", ""), f.release(t, "1.2.0", "")
	b := newBox(t, f, old, nil)
	b.on()
	b.runs("1.0.0")

	b.update(next)
	b.blessed("1.1.0", slot.B)
	if got := b.chain(); !slices.Equal(got, []string{"slot-a", "slot-b"}) {
		t.Errorf("the firmware started %q, want slot-a and then slot-b once", got)
	}
	b.update(third, "--base", next.Dir)
	b.blessed("1.2.0", slot.A)
	if got, want := b.starts(), []string{"1.0.0", "1.1.0", "1.2.0"}; !slices.Equal(got, want) {
		t.Errorf("the data partition knows of %q, want %q", got, want)
	}

	if r := b.operator("rollback"); r.code != 0 {
		t.Fatalf("ingot rollback: code %d: %s%s", r.code, r.out, r.stderr)
	}
	b.runs("1.1.0")
	if j := b.journal(); j.Good != slot.B || j.Phase != slot.RolledBack {
		t.Errorf("after the rollback the journal says %+v", j)
	}
	b.refuses(third, "an operator rolled it back")
	b.slotsTell("1.1.0", "1.2.0")
	b.unchangedByPower(5)
}

// blessed waits until a version that was pushed is the good one.
func (b *box) blessed(version string, in slot.Slot) {
	b.t.Helper()
	b.runs(version)
	r := b.rests(slot.Blessed, slot.Idle)
	if r.Good != in || r.Of(in).Version != version || r.Of(in).Condition != slot.Good {
		b.t.Fatalf("%s in slot %s is not blessed: %+v", version, in, r)
	}
}

// slotsTell wants the same answer from the machine and from its disk.
func (b *box) slotsTell(running, rejected string) {
	b.t.Helper()
	var host, disk updateapi.Slots
	for _, c := range []struct {
		into *updateapi.Slots
		r    result
	}{{&host, b.operator("slots", "--json")}, {&disk, ingot(b.t, "slots", b.m.Disk, "--json")}} {
		if err := json.Unmarshal([]byte(c.r.out), c.into); err != nil || c.r.code != 0 {
			b.t.Fatalf("ingot slots: code %d, %v: %s%s", c.r.code, err, c.r.out, c.r.stderr)
		}
	}
	for _, s := range []updateapi.Slots{host, disk} {
		if len(s.Slots) != 2 || s.Slots[s.Good[0]-'a'].Version != running || !slices.ContainsFunc(s.Rejected, func(r updateapi.Rejected) bool { return r.Version == rejected && r.Cause == "operator" }) {
			b.t.Errorf("ingot slots: %+v", s)
		}
	}
	if host.Running != host.Good || len(host.Why) == 0 || len(host.Why) > 20 {
		b.t.Errorf("ingot slots HOST: running %s, why %q", host.Running, host.Why)
	}
}

// unchangedByPower cuts the power at times that have nothing to do with what the
// machine does: neither journal nor variables change (rauc#490, rauc#683).
func (b *box) unchangedByPower(cycles int) {
	b.t.Helper()
	b.cut()
	b.on()
	b.sees(healthy)
	b.cut()
	vars, state := b.stored()
	for i := range cycles {
		b.on()
		// From the firmware to a boot that is nearly done.
		b.sees([]string{"BdsDxe: loading", "BdsDxe: starting", "on Linux", "listening on", "service tally started"}[i%5])
		b.cut()
		v, s := b.stored()
		if !bytes.Equal(v, vars) {
			b.t.Errorf("cycle %d: the variables were\n%s and are\n%s", i, vars, v)
		}
		if !bytes.Equal(s, state) {
			b.t.Errorf("cycle %d: the state partition has changed: %+v", i, b.journal())
		}
	}
}
