package slots

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/state"
)

// Boot reads the journal and what the machine has in store, and judges this
// boot. In the selector it returns only when no slot can be started from here.
func (k *Keeper) Boot() error {
	k.turn.Lock()
	defer k.turn.Unlock()
	s, b, err := k.load()
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.state, k.found, k.view = s, b.Journal, b.View
	k.mu.Unlock()
	k.durable, k.booted = s.Record, true
	if k.o.Running == slot.None && k.o.Selector.Refuse != nil {
		if err := k.onlyFirmware(s.Record); err != nil {
			return err
		}
	}
	k.forgetResets()
	err = k.handle(slot.Event{Kind: slot.Booted, Boot: b})
	k.selfTest(b)
	k.watch()
	k.tell()
	return err
}

// load is what early init finds.
func (k *Keeper) load() (slot.State, slot.Boot, error) {
	b := slot.Boot{Running: k.o.Running, View: k.o.Firmware.View(), Content: k.o.Release, Polluted: k.o.Polluted}
	var s slot.State
	kept := k.readKept()
	b.Resets, b.Baseline = kept.Resets, kept.Of()
	journal, err := k.region(state.Journal)
	switch {
	case errors.Is(err, state.ErrEmpty) && !errors.Is(err, state.ErrDamaged):
		b.Journal = slot.JournalEmpty
	case err != nil:
		b.Journal = slot.JournalLost
		k.o.Problem("read the slot journal: %v", err)
	default:
		if s.Record, err = slot.Parse(journal); err != nil {
			if k.o.Running == slot.None {
				return s, b, k.startGood(slot.GoodOf(journal), fmt.Errorf("read the slot journal: %w", err))
			}
			b.Journal = slot.JournalLost
			k.o.Problem("read the slot journal: %v", err)
		}
	}
	k.readRejections(&s)
	if h := k.o.Hooks; b.Running != slot.None && h.Evidence != nil {
		b.Evidence = h.Evidence()
	}
	if h := k.o.Hooks; h.Counter != nil {
		b.Counter = h.Counter()
	}
	b.Damaged = k.inspect(s.Record, b)
	return s, b, nil
}

// onlyFirmware is for a selector that may start nothing by itself. Variables that
// cannot be written are no fault of the slots, which the state machine would hold
// for damaged: the machine goes on from the ESP.
func (k *Keeper) onlyFirmware(r slot.Record) error {
	good := r.Good
	if good == slot.None {
		good = slot.A // no journal: as every disk begins
	}
	if r.Means == slot.Selector {
		return k.startGood(good, k.o.Selector.Refuse)
	}
	if err := k.o.Firmware.SetDefault(good, good.Other()); err != nil {
		return errors.Join(err, k.o.Selector.Refuse)
	}
	return nil
}

// selfTest asks, in the first boot of a disk, whether the firmware keeps what it
// is told. Later boots find the answer in the journal.
func (k *Keeper) selfTest(b slot.Boot) {
	if b.Journal != slot.JournalEmpty || b.Running == slot.None || k.State().Means != slot.Firmware {
		return
	}
	e := slot.Event{Kind: slot.SelfTested, OK: true}
	if err := k.o.Firmware.Test(); err != nil {
		k.o.Problem("test the boot variables: %v", err)
		e.OK = false
	}
	if err := k.handle(e); err != nil {
		k.o.Problem("slots: %v", err)
	}
}

// maxResets bounds the resets towards a slot that does not come up, where the
// journal does not count them.
const maxResets = 2

// startGood is for a selector that does not understand the journal, or may not do
// what it says: the first byte names the good slot in every version. Firmware that
// has the right entries and starts the ESP would do so again after a reset, and so
// would one that forgets them each time.
func (k *Keeper) startGood(x slot.Slot, cause error) error {
	k.o.Problem("selector: %v: %s starts next, by the firmware", cause, x)
	f := k.o.Firmware
	again := !f.View().Holds(x) && k.resets() < maxResets
	err := f.SetDefault(x, x.Other())
	if err == nil && again {
		err = f.SetNext(x)
	}
	if err == nil && again {
		err = k.countReset()
	}
	if err == nil && again {
		k.o.Reset("to " + x.String())
		return nil
	}
	return errors.Join(err, k.o.Selector.Launch(x))
}

// resets are those of the selector since a slot ran.
func (k *Keeper) resets() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept.Resets
}

// countReset counts one of the selector. One that cannot be counted is not made.
func (k *Keeper) countReset() error { return k.save(func(d *Kept) { d.Resets++ }) }

// forgetResets is for a slot that runs.
func (k *Keeper) forgetResets() {
	if k.o.Running == slot.None || k.resets() == 0 {
		return
	}
	if err := k.save(func(d *Kept) { d.Resets = 0 }); err != nil {
		k.o.Problem("forget the resets of the selector: %v", err)
	}
}

func (k *Keeper) readRejections(s *slot.State) {
	list, err := k.region(state.Rejected)
	if errors.Is(err, state.ErrEmpty) && !errors.Is(err, state.ErrDamaged) {
		return
	}
	if err == nil {
		s.Rejections, err = slot.ParseRejections(list)
	}
	if err != nil {
		k.o.Problem("read the list of rejected versions: %v", err)
	}
}

func (k *Keeper) region(r state.Region) ([]byte, error) {
	p, err := k.o.State()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	b, _, err := state.Load(p, r)
	return b, err
}

func (k *Keeper) store(r state.Region, payload []byte) error {
	p, err := k.o.State()
	if err != nil {
		return err
	}
	defer p.Close()
	return state.Store(p, r, payload)
}

func (k *Keeper) writeJournal(r slot.Record) error {
	b, err := r.AppendBinary(nil)
	if err != nil {
		return err
	}
	if err := k.store(state.Journal, b); err != nil {
		return err
	}
	before := k.durable
	k.durable = r
	k.mu.Lock()
	k.state.Record = r // whoever is told of a Fill looks at it
	k.mu.Unlock()
	if before.Phase == slot.Trying && before.Candidate == k.o.Running && r.Phase != slot.Trying {
		k.noteVerdict(r)
	}
	return nil
}

// noteVerdict keeps when this trial came to its end, which is told after the reset too.
func (k *Keeper) noteVerdict(r slot.Record) {
	v := verdict{r.Generation, r.Arms, k.o.Uptime().Seconds()}
	if err := k.save(func(d *Kept) { d.Verdict = v }); err != nil {
		k.o.Logf("slots: keep the time of the verdict: %v", err)
	}
}

func (k *Keeper) writeRejected(list []slot.Rejection) error {
	b, err := slot.EncodeRejections(list)
	if err != nil {
		return err
	}
	return k.store(state.Rejected, b)
}

// Kept is the payload of the region Update.
type Kept struct {
	Progress   json.RawMessage `json:"progress,omitempty"`
	Baseline   json.RawMessage `json:"baseline,omitempty"`
	BaselineOf slot.Digest     `json:"baselineOf,omitzero"` // image of the candidate whose trial it is for
	Resets     int             `json:"resets,omitempty"`    // of the selector without a journal that it may follow
	Verdict    verdict         `json:"verdict,omitzero"`
}

// verdict is when the trial of an update, in one of its starts, was judged.
type verdict struct {
	Generation uint64  `json:"generation"`
	Arms       uint8   `json:"arms"`
	Seconds    float64 `json:"seconds"` // since that boot began
}

// Of is the image whose trial has a baseline; zero: none has.
func (d *Kept) Of() slot.Digest {
	if d.Baseline == nil {
		return slot.Digest{}
	}
	return d.BaselineOf
}

func (k *Keeper) readKept() Kept {
	b, err := k.region(state.Update)
	if err != nil {
		return Kept{} // none in nearly all machines; a damaged one costs a download, or a try
	}
	var d Kept
	if err := json.Unmarshal(b, &d); err != nil {
		k.o.Problem("read the progress of an update: %v", err)
		return Kept{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = d
	return d
}

// save changes what is kept.
func (k *Keeper) save(change func(*Kept)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.kept
	change(&d)
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := k.store(state.Update, b); err != nil {
		return err
	}
	k.kept = d
	return nil
}

// SaveProgress keeps how much of an update is written, over resets: one JSON
// value of at most MaxProgress bytes; nil forgets it.
func (k *Keeper) SaveProgress(b []byte) error {
	switch {
	case len(b) > MaxProgress:
		return fmt.Errorf("save progress of update: %d bytes are more than %d", len(b), MaxProgress)
	case len(b) == 0 && k.Progress() == nil:
		return nil
	}
	if err := k.save(func(d *Kept) { d.Progress = b }); err != nil {
		return fmt.Errorf("save progress of update: %w", err)
	}
	return nil
}

// Progress is what SaveProgress kept; nil: nothing.
func (k *Keeper) Progress() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept.Progress
}
