package slots

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/state"
)

// TestFirstBoot: a disk that was just flashed starts through the selector, gets
// its journal in the first boot of the slot and its digest soon after, and is
// left alone from then on.
func TestFirstBoot(t *testing.T) {
	r := newRack(t)
	r.power()
	if got := strings.Join(r.chain, " "); got != "esp a=1.0" {
		t.Errorf("the boots are %s", got)
	}
	_, s := r.now()
	if s.Good != slot.A || s.Slots[0].Version != "1.0" || s.Slots[0].Condition != slot.Good || s.Slots[0].Image != (slot.Digest{}) {
		t.Errorf("the journal has %+v", s.Record)
	}
	r.k.Identify()
	if _, s := r.now(); s.Slots[0].Image != releases["1.0"].Image {
		t.Errorf("the digest is %x", s.Slots[0].Image)
	}
	before := r.wrote()
	for range 3 {
		r.power()
		r.k.Identify()
	}
	if r.wrote() != before {
		t.Error("a healthy boot has written")
	}
}

// TestUpdateBeforeIdentify: an update that comes at once finds the digest itself.
func TestUpdateBeforeIdentify(t *testing.T) {
	r := newRack(t)
	r.power()
	stage(t, r, "2.0")
	if _, s := r.now(); s.Slots[0].Image != releases["1.0"].Image || s.Phase != slot.Staged {
		t.Errorf("digest %x in %s", s.Slots[0].Image, s.Phase)
	}
}

// TestWipedVariables: P18. The selector makes the entries again.
func TestWipedVariables(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	if err := errors.Join(os.RemoveAll(r.at("vars")), os.Mkdir(r.at("vars"), 0o755)); err != nil {
		t.Fatal(err)
	}
	r.chain = nil
	r.power()
	if got := strings.Join(r.chain, " "); got != "esp b=2.0" {
		t.Errorf("the boots are %s", got)
	}
	want(t, r, "2.0", slot.Blessed)
	s := r.k.Slots()
	if !slices.Equal(s.Order, []string{"b", "a"}) || s.Next != "" || len(s.Entries) < 3 || s.Journal != "read" {
		t.Errorf("%+v", s)
	}
}

// TestRottenGoodSlot: P20. The other slot sees that the good one's bytes are
// wrong, and becomes good at once.
func TestRottenGoodSlot(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	r.put("slot-b", make([]byte, slotSize))
	r.chain = nil
	r.power()
	if got := strings.Join(r.chain, " "); got != "a=1.0" {
		t.Errorf("the boots are %s", got)
	}
	if _, s := r.now(); s.Good != slot.A || s.Slots[1].Condition != slot.Damaged || s.Cause != slot.CorruptPE {
		t.Errorf("%+v", s.Record)
	}
}

// TestPinnedFirmware: firmware that insists on the slot before gets it, and the
// other one, whose bytes are right, stays a way back.
func TestPinnedFirmware(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	for range 3 {
		r.boot("slot-a")
	}
	if s := r.k.State(); s.Good != slot.A || s.Cause != slot.Unloadable || s.Slots[1].Condition != slot.Good {
		t.Errorf("%s is good, %s: slot b is %s", s.Good, s.Cause, s.Slots[1].Condition)
	}
}

// TestRottenUnderKexec: a slot that kexec does not start is read before it is
// written off.
func TestRottenUnderKexec(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	r.give(slot.Event{Kind: slot.SelfTested})
	r.break_("2.0", slot.CorruptPE) // its bytes are right
	if _, kexec := r.boot(""); kexec != "slot-a" {
		t.Errorf("the selector starts %q", kexec)
	}
	if s := r.k.durable; s.Slots[1].Condition != slot.Good {
		t.Errorf("%s is good, slot b is %s", s.Good, s.Slots[1].Condition)
	}
	r.boot("slot-a")
	if s := r.k.State(); s.Good != slot.A || s.Slots[1].Condition != slot.Good {
		t.Errorf("%s is good, slot b is %s", s.Good, s.Slots[1].Condition)
	}
	r.put("slot-a", make([]byte, slotSize))
	r.break_("2.0", slot.NoCause)
	if _, kexec := r.boot(""); kexec != "slot-b" {
		t.Errorf("the selector starts %q", kexec)
	}
	if s := r.k.durable; s.Good != slot.B || s.Slots[0].Condition != slot.Damaged {
		t.Errorf("%s is good, slot a is %s", s.Good, s.Slots[0].Condition)
	}
}

// TestBothSlotsBad: P21. The selector waits until somebody can write a slot.
func TestBothSlotsBad(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	r.put("slot-a", make([]byte, slotSize))
	r.put("slot-b", make([]byte, slotSize))
	r.offline, r.chain = true, nil
	r.power()
	if _, s := r.now(); !s.Recovering || strings.Join(r.chain, " ") != "spare" {
		t.Fatalf("%+v after %v", s, r.chain)
	}
	r.offline = false
	r.k.OnFill(r.fill)
	if len(r.pending) != 1 {
		t.Fatal("who registers is not told to restore")
	}
	e := r.pending[0]
	r.pending = nil
	r.event(e)
	want(t, r, "2.0", slot.Blessed)
}

// TestTornSelector: P23. The spare copy has an entry behind the slots, which is made
// again with theirs, and does what the selector does when that does not load.
func TestTornSelector(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	if err := errors.Join(os.RemoveAll(r.at("vars")), os.Mkdir(r.at("vars"), 0o755)); err != nil {
		t.Fatal(err)
	}
	r.power()
	r.torn, r.chain = true, nil
	for _, n := range r.order()[:2] { // the slots' alone
		if err := r.vars().Delete(efivar.BootName(n), efivar.Global); err != nil {
			t.Fatal(err)
		}
	}
	r.power()
	if got := strings.Join(r.chain, " "); got != "spare b=2.0" {
		t.Errorf("the boots are %s", got)
	}
	want(t, r, "2.0", slot.Blessed)
	r.put("slot-a", make([]byte, slotSize))
	r.put("slot-b", make([]byte, slotSize))
	r.chain = nil
	r.power()
	if got := strings.Join(r.chain, " "); got != "spare b=2.0" {
		t.Errorf("with both slots bad the boots are %s", got)
	}
	want(t, r, "2.0", slot.Blessed)
}

// TestNobodyFills: an image without an update client refuses, and the machine
// goes on.
func TestNobodyFills(t *testing.T) {
	r := newRack(t)
	r.offline = true
	r.power()
	err := r.k.Handle(slot.Event{Kind: slot.Stage, Release: release(t, "2.0", 2)})
	if err == nil || !strings.Contains(err.Error(), "this image takes no updates") {
		t.Errorf("Handle = %v", err)
	}
}

// TestOldSelector: an image on the ESP that is older than the journal starts the
// slot that the first byte names.
func TestOldSelector(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	p, _, err := r.open("state")
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Store(p, state.Journal, append([]byte{'b', 9, 200}, make([]byte, 600)...)); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := errors.Join(os.RemoveAll(r.at("vars")), os.Mkdir(r.at("vars"), 0o755)); err != nil {
		t.Fatal(err)
	}
	r.chain = nil
	if again, _ := r.boot(r.firmware()); !again || r.firmware() != "slot-b" {
		t.Errorf("after %v the firmware does not start slot b", r.chain)
	}
}

// TestPolluted: one cold reset, and the second polluted boot is lived with.
func TestPolluted(t *testing.T) {
	r := newRack(t)
	r.power()
	resets := 0
	for range 3 {
		func() {
			defer func() {
				if v := recover(); v != nil {
					resets++
				}
			}()
			o := r.options(slot.A, "1.0")
			o.Polluted = true
			r.k = New(o)
			if err := r.k.Boot(); err != nil {
				t.Error(err)
			}
		}()
	}
	if s := r.k.State(); resets != 1 || !s.Guarded {
		t.Errorf("%d resets, guarded %t", resets, s.Guarded)
	}
}

// TestKept: progress and baseline share a region, and both stay over a boot.
func TestKept(t *testing.T) {
	r := newRack(t)
	var seen json.RawMessage
	r.hooks.Baseline = func() (json.RawMessage, error) { return json.RawMessage(`{"links":2}`), nil }
	r.hooks.RunChecks = func(b json.RawMessage, deferred bool) { seen = b }
	r.power()
	if err := r.k.SaveProgress([]byte(`{"from":4096}`)); err != nil {
		t.Fatal(err)
	}
	if err := r.k.SaveProgress(make([]byte, MaxProgress+1)); err == nil {
		t.Error("too much was kept")
	}
	if err := r.k.SaveProgress([]byte(`no JSON`)); err == nil {
		t.Error("what is no JSON was kept")
	}
	update(t, r, "2.0")
	want(t, r, "2.0", slot.Blessed)
	if string(seen) != `{"links":2}` || string(r.k.Progress()) != `{"from":4096}` {
		t.Errorf("baseline %s, progress %s", seen, r.k.Progress())
	}
	if err := r.k.SaveProgress(nil); err != nil || r.k.Progress() != nil {
		t.Errorf("progress is %s, %v", r.k.Progress(), err)
	}
}

// spied is the firmware, and what is on the disk when BootNext is to be set.
type spied struct {
	slot.Actuator
	next func()
}

func (s spied) SetNext(x slot.Slot) error {
	s.next()
	return s.Actuator.SetNext(x)
}

// onDisk is the region Update and the phase of the journal as a cut would leave them.
func (r *rack) onDisk() (d Kept, phase slot.Phase) {
	r.t.Helper()
	p, _, err := r.open("state")
	if err != nil {
		r.t.Fatal(err)
	}
	defer p.Close()
	journal, _, err := state.Load(p, state.Journal)
	if err != nil {
		r.t.Fatal(err)
	}
	record, err := slot.Parse(journal)
	if err != nil {
		r.t.Fatal(err)
	}
	if b, _, err := state.Load(p, state.Update); err == nil {
		if err := json.Unmarshal(b, &d); err != nil {
			r.t.Fatal(err)
		}
	}
	return d, record.Phase
}

// TestBaselineBeforeBootNext: when BootNext is set, the disk has the journal ARMED
// and the baseline of this candidate, not that of the trial before.
func TestBaselineBeforeBootNext(t *testing.T) {
	r := newRack(t)
	looks := 0
	r.hooks.Baseline = func() (json.RawMessage, error) { looks++; return fmt.Appendf(nil, `{"look":%d}`, looks), nil }
	r.power()
	for i, version := range []string{"2.0", "3.0"} {
		stage(t, r, version)
		var kept []Kept
		r.k.host.Actuators[slot.Firmware] = spied{r.k.host.Actuators[slot.Firmware], func() {
			d, phase := r.onDisk()
			if phase != slot.Armed {
				t.Errorf("BootNext is set in %s", phase)
			}
			kept = append(kept, d)
		}}
		r.event(slot.Event{Kind: slot.Approve})
		want(t, r, version, slot.Blessed)
		if len(kept) != 1 || string(kept[0].Baseline) != fmt.Sprintf(`{"look":%d}`, i+1) || kept[0].BaselineOf != releases[version].Image {
			t.Errorf("%s: the disk had %+v", version, kept)
		}
	}
}

// TestBaselineFails: no try is armed when how the machine is cannot be told, or not
// be kept.
func TestBaselineFails(t *testing.T) {
	for why, hook := range map[string]func() (json.RawMessage, error){
		"no time":  func() (json.RawMessage, error) { return nil, errors.New("no time") },
		"too much": func() (json.RawMessage, error) { return make([]byte, MaxBaseline+1), nil },
		"no JSON":  func() (json.RawMessage, error) { return json.RawMessage("{"), nil },
	} {
		r := newRack(t)
		r.hooks.Baseline = hook
		r.power()
		update(t, r, "2.0")
		want(t, r, "1.0", slot.Staged)
		if !slices.ContainsFunc(r.log, func(l string) bool { return strings.Contains(l, "keep-baseline: ") }) {
			t.Errorf("%s: nobody says why:\n%s", why, strings.Join(r.log, "\n"))
		}
		if _, phase := r.onDisk(); phase != slot.Staged || r.k.State().Arms != 0 || r.k.o.Firmware.View().Next != slot.None {
			t.Errorf("%s: %s on the disk, armed %d times, next is %s", why, phase, r.k.State().Arms, r.k.o.Firmware.View().Next)
		}
	}
}

// TestBaselineLost: a trial whose baseline is gone, or is of another version, is not
// blessed: the machine goes back, and the next try has one again.
func TestBaselineLost(t *testing.T) {
	for name, lose := range map[string]func(*Kept){
		"gone":              func(d *Kept) { d.Baseline = nil },
		"of an earlier one": func(d *Kept) { d.BaselineOf = releases["1.0"].Image },
		"of nobody":         func(d *Kept) { d.BaselineOf = slot.Digest{} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRack(t)
			var seen []string
			r.hooks.RunChecks = func(b json.RawMessage, _ bool) { seen = append(seen, string(b)) }
			r.power()
			stage(t, r, "2.0")
			once := false
			r.k.host.Actuators[slot.Firmware] = spied{r.k.host.Actuators[slot.Firmware], func() {
				if once = true; r.k.save(lose) != nil {
					t.Error("the region is not written")
				}
			}}
			r.event(slot.Event{Kind: slot.Approve})
			want(t, r, "1.0", slot.Failed)
			if s := r.k.State(); !once || s.Cause != slot.Unhealthy || s.Culprit != slot.B || s.TriesLeft != 2 || len(seen) != 0 {
				t.Errorf("%s of %s, %d tries left, checked with %q", s.Cause, s.Culprit, s.TriesLeft, seen)
			}
			r.event(slot.Event{Kind: slot.Approve})
			want(t, r, "2.0", slot.Blessed)
			if !slices.Equal(seen, []string{"{}"}) {
				t.Errorf("checked with %q", seen)
			}
		})
	}
}

// TestLastSlotIsTried: a slot that nobody has armed, because the good one does not
// start, is tried without a baseline, and not with that of an earlier version.
func TestLastSlotIsTried(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	want(t, r, "2.0", slot.Blessed)
	seen := []string{}
	r.hooks.RunChecks = func(b json.RawMessage, _ bool) { seen = append(seen, string(b)) }
	stage(t, r, "3.0")
	r.put("slot-b", make([]byte, slotSize))
	r.power()
	want(t, r, "3.0", slot.Blessed)
	if !slices.Equal(seen, []string{""}) {
		t.Errorf("checked with %q", seen)
	}
}

// TestReports: who registered hears of changes, and of nothing else.
func TestReports(t *testing.T) {
	r := newRack(t)
	r.power()
	var told []updateapi.Slots
	r.k.OnReport(func(s updateapi.Slots) { told = append(told, s) })
	r.give(slot.Event{Kind: slot.Verdict, OK: true})
	if len(told) != 0 {
		t.Errorf("told of nothing: %+v", told)
	}
	stage(t, r, "2.0")
	if n := len(told); n == 0 || told[n-1].Phase != "STAGED" || told[n-1].Slots[1].Version != "2.0" || len(told[n-1].Why) == 0 {
		t.Errorf("told %+v", told)
	}
}

// TestSoakRaisesTheFloor: the checks go on after the bless until the floor is up.
func TestSoakRaisesTheFloor(t *testing.T) {
	r := newRack(t)
	var raised []uint32
	r.hooks.RaiseFloor = func(n uint32) error { raised = append(raised, n); return nil }
	r.power()
	update(t, r, "2.0")
	if interval(r.k.State()) != SoakInterval {
		t.Error("nobody looks at the health of a blessed version")
	}
	r.give(slot.Event{Kind: slot.Checked, OK: true, Uptime: time.Minute})
	r.give(slot.Event{Kind: slot.Checked, OK: true, Uptime: 2 * time.Hour})
	if s := r.k.State(); !slices.Equal(raised, []uint32{1}) || s.Floor != 1 || s.Phase != slot.Idle || interval(s) != 0 {
		t.Errorf("raised %v; floor %d in %s", raised, s.Floor, s.Phase)
	}
}

// TestLostJournal: without a journal nothing is updated until an operator says so.
func TestLostJournal(t *testing.T) {
	r := newRack(t)
	r.power()
	p, _, err := r.open("state")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range state.Map()[:1] {
		for _, off := range e.Offsets {
			if _, err := p.WriteAt([]byte("INGOTST1 and rubbish"), off); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.Close()
	r.power()
	stage(t, r, "2.0")
	if _, s := r.now(); !s.Unjournalled || s.Phase != slot.Idle || r.k.Slots().Journal != "lost" {
		t.Errorf("%+v", s)
	}
	r.event(slot.Event{Kind: slot.Adopt})
	update(t, r, "2.0")
	want(t, r, "2.0", slot.Blessed)
}

// TestFullStore: variables that cannot be written change the means, and the
// machine says why.
func TestFullStore(t *testing.T) {
	r := newRack(t)
	r.power()
	stage(t, r, "2.0")
	// A file system that is full: efivarfs answers the same.
	if err := unix.Mount("none", r.at("vars"), "tmpfs", 0, "size=4k,nr_inodes=1"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(r.at("vars"), 0) })
	r.event(slot.Event{Kind: slot.Approve})
	want(t, r, "2.0", slot.Blessed)
	_, s := r.now()
	if s.Means != slot.Selector || !slices.ContainsFunc(r.log, func(l string) bool { return strings.Contains(l, "variable store is full") }) {
		t.Errorf("means %s\n%s", s.Means, strings.Join(r.log, "\n"))
	}
}

// TestReadOnlyStore: the same for variables that become read-only between the staging
// and the approval of an update, which is not stopped by that.
func TestReadOnlyStore(t *testing.T) {
	r := newRack(t)
	r.power()
	stage(t, r, "2.0")
	if err := unix.Mount(r.at("vars"), r.at("vars"), "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(r.at("vars"), 0) })
	if err := unix.Mount("", r.at("vars"), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := r.vars().Next(1); !errors.Is(err, unix.EROFS) {
		t.Fatalf("the variables can be written: %v", err)
	}
	r.event(slot.Event{Kind: slot.Approve})
	want(t, r, "2.0", slot.Blessed)
	_, s := r.now()
	if s.Means != slot.Selector || s.Good != slot.B || len(s.Rejections) != 0 {
		t.Errorf("means %s, good %s, rejected %v", s.Means, s.Good, s.Rejections)
	}
	for _, words := range []string{"cannot be written while a system runs", "read-only file system", "the selector chooses from now on"} {
		if !slices.ContainsFunc(r.log, func(l string) bool { return strings.Contains(l, words) }) {
			t.Errorf("it does not say %q:\n%s", words, strings.Join(r.log, "\n"))
		}
	}
}

// TestSelfTest: the test variable is not left behind.
func TestSelfTest(t *testing.T) {
	r := newRack(t)
	f := Firmware{Vars: r.vars(), Entries: entries()}
	if err := f.Test(); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(r.at("vars/*")); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
	f.Vars.Dir = "/proc/no-such"
	if err := f.Test(); err == nil {
		t.Error("a firmware without variables passes")
	}
}

// TestForeignEntries: entries of others stay, behind the slots, and a boot in
// which they are in front writes nothing.
func TestForeignEntries(t *testing.T) {
	r := newRack(t)
	r.power()
	_ = r.vars().Set(efivar.BootName(0x99), efivar.Global, efivar.BootAttributes, []byte{1, 0, 0, 0, 0, 0, 'x', 0, 0, 0})
	order := r.order()
	if err := r.vars().Set(efivar.BootOrder, efivar.Global, efivar.BootAttributes, efivar.MarshalOrder(append([]uint16{0x99}, order...)...)); err != nil {
		t.Fatal(err)
	}
	before := r.wrote()
	r.power()
	if r.wrote() != before {
		t.Error("a boot with another entry in front has written")
	}
	update(t, r, "2.0")
	if got := r.order(); !slices.Equal(got, []uint16{order[1], order[0], order[2], 0x99}) {
		t.Errorf("BootOrder %04X after the update, before %04X", got, order)
	}
}

func (r *rack) order() []uint16 {
	b, err := r.vars().Get(efivar.BootOrder, efivar.Global)
	if err != nil {
		r.t.Fatal(err)
	}
	order, err := efivar.ParseOrder(b)
	if err != nil {
		r.t.Fatal(err)
	}
	return order
}

// TestForgetfulFirmware: the first boot finds out, and the selector is in force
// from then on.
func TestForgetfulFirmware(t *testing.T) {
	r := newRack(t)
	if err := os.Mkdir(r.at("vars/"+efivar.FileName(selfTest, vendor)), 0o755); err != nil {
		t.Fatal(err)
	}
	r.power()
	if _, s := r.now(); s.Means != slot.Selector {
		t.Errorf("the means are %s\n%s", s.Means, strings.Join(r.log, "\n"))
	}
}

// TestSecureBootStartsNothing: with Secure Boot on, the selector leaves the start
// to the firmware, and where that is impossible it changes nothing.
func TestSecureBootStartsNothing(t *testing.T) {
	refuse := errors.New("Secure Boot is on")
	for name, means := range map[string]slot.Means{"firmware": slot.Firmware, "selector": slot.Selector} {
		t.Run(name, func(t *testing.T) {
			r := newRack(t)
			r.refuse = refuse
			r.power()
			if means == slot.Selector {
				r.give(slot.Event{Kind: slot.SelfTested})
			}
			if err := errors.Join(os.RemoveAll(r.at("vars")), os.Mkdir(r.at("vars"), 0o755)); err != nil {
				t.Fatal(err)
			}
			r.chain = nil
			r.power()
			if got := strings.Join(r.chain, " "); got != "esp a=1.0" {
				t.Errorf("the boots are %s", got)
			}
			if err := errors.Join(os.RemoveAll(r.at("vars")), os.WriteFile(r.at("vars"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			before := r.wrote()
			r.chain = nil
			r.power()
			if got := strings.Join(r.chain, " "); got != "esp" || r.wrote() != before {
				t.Errorf("the boots are %s; %s", got, strings.Join(r.log, "\n"))
			}
			if err := r.k.o.Selector.Launch(slot.A); !errors.Is(err, refuse) {
				t.Errorf("Launch = %v", err)
			}
		})
	}
}

// TestStickyNext: firmware that does not delete BootNext gets help, or it would
// try for ever.
func TestStickyNext(t *testing.T) {
	r := newRack(t)
	r.power()
	r.sticky = true
	r.break_("2.0", slot.Unhealthy)
	update(t, r, "2.0")
	want(t, r, "1.0", slot.Failed)
}

// TestLaunchMeasures: what is started is measured first, and gets its own kernel,
// initramfs and command line.
func TestLaunchMeasures(t *testing.T) {
	release(t, "1.0", 1)
	r := newRack(t)
	var got []string
	s := Selector{File: bootPath, Open: r.open,
		Extend: func(x slot.Slot, d slot.Digest) error {
			got = append(got, x.String()+" "+digest(d)[:8])
			return nil
		},
		Exec: func(kernel, initrd []byte, cmdline string) error {
			got = append(got, string(kernel), string(initrd), cmdline)
			return nil
		}}
	if err := s.Launch(slot.A); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || !strings.HasPrefix(got[0], "slot a ") || got[1] != "kernel 1.0" || got[2] != "initrd 1.0" || got[3] != "console=ttyS0 version=1.0 ingot.slot=a" {
		t.Errorf("%q", got)
	}
	got = nil
	s.Extend = func(slot.Slot, slot.Digest) error { return errors.New("the TPM is silent") }
	if err := s.Launch(slot.A); err == nil || len(got) != 0 {
		t.Errorf("what cannot be measured is started: %v %q", err, got)
	}
	for name, b := range map[string][]byte{"zeros": make([]byte, slotSize), "cut": images["1.0"][:1<<20]} {
		r.put("slot-b", b)
		if err := s.Launch(slot.B); err == nil {
			t.Errorf("a slot of %s was started", name)
		}
	}
}

// TestSecureBootNeedsVariables: no version is rejected because the machine cannot
// try any, and the way is free when it can again.
func TestSecureBootNeedsVariables(t *testing.T) {
	r := newRack(t)
	r.refuse = errors.New("Secure Boot is on")
	r.power()
	blocked := r.at("vars/" + efivar.FileName(selfTest, vendor))
	if err := os.Mkdir(blocked, 0o755); err != nil {
		t.Fatal(err)
	}
	r.give(slot.Event{Kind: slot.SelfTested})
	stage(t, r, "2.0")
	if _, s := r.now(); s.Phase != slot.Idle || !slices.ContainsFunc(r.log, func(l string) bool { return strings.Contains(l, "no slot can be tried on this machine") }) {
		t.Errorf("%s\n%s", s.Phase, strings.Join(r.log, "\n"))
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	update(t, r, "2.0")
	want(t, r, "2.0", slot.Blessed)
	if _, s := r.now(); s.Means != slot.Firmware {
		t.Errorf("the means are %s", s.Means)
	}
}

// TestLogLine: where the log of a failure is, is said while there is a failure and a log.
func TestLogLine(t *testing.T) {
	r, kept := newRack(t), false
	r.hooks.HasLog = func() bool { return kept }
	r.power()
	says := func() bool { return slices.Contains(r.k.Slots().Why, LogLine) }
	kept = true
	if says() {
		t.Error("nothing has failed")
	}
	r.break_("2.0", slot.Unhealthy)
	update(t, r, "2.0")
	if !says() {
		t.Errorf("a failure with a log: %q", r.k.Slots().Why)
	}
	if kept = false; says() {
		t.Error("there is no log")
	}
}

// TestTimeOfTheVerdict: how long a trial took is told when it was blessed or has failed, in
// later boots too, and not of a trial that ended without a verdict of its own.
func TestTimeOfTheVerdict(t *testing.T) {
	r := newRack(t)
	r.power()
	update(t, r, "2.0")
	if got := r.k.Slots().Judged; got != 1 {
		t.Errorf("blessed: %v s", got)
	}
	r.power()
	if got := r.k.Slots().Judged; got != 1 {
		t.Errorf("a boot later: %v s", got)
	}
	r.break_("3.0", slot.Unhealthy)
	update(t, r, "3.0")
	if s := r.k.Slots(); s.Cause != "unhealthy" || s.Judged != 1 {
		t.Errorf("failed: %s, %v s", s.Cause, s.Judged)
	}
	r.break_("3.0", slot.Panic)
	r.event(slot.Event{Kind: slot.Approve})
	if s := r.k.Slots(); s.Cause != "panic" || s.Judged != 0 {
		t.Errorf("a panic: %s, %v s", s.Cause, s.Judged)
	}
}

// TestNoRoomForTheSpare: an update needs the entries of both slots, and nothing behind them.
func TestNoRoomForTheSpare(t *testing.T) {
	r := newRack(t)
	r.power()
	if err := os.RemoveAll(r.at("vars/" + efivar.FileName(efivar.BootName(0x12), efivar.Global))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(r.at("vars/"+efivar.FileName(efivar.BootName(0x12), efivar.Global)), 0o755); err != nil { // cannot be written
		t.Fatal(err)
	}
	if err := r.k.o.Firmware.SetDefault(slot.B, slot.A); err != nil {
		t.Error(err)
	}
	if b, err := r.vars().Get(efivar.BootOrder, efivar.Global); err != nil || !bytes.HasPrefix(b, efivar.MarshalOrder(0x11, 0x10)) {
		t.Errorf("the order is %x, %v", b, err)
	}
}
