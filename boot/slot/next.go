package slot

import "fmt"

// maxLost is how often a trial of which nothing was seen is made again (S6).
const maxLost = 1

// step is one transition under way: the state as it will be, and what to do.
type step struct {
	rules Rules
	State
	acts  []Action
	dirty bool // the record differs from the journal
}

// Next returns what follows from an event: the state that holds once all
// actions are done, and these, in order. It does not change s.
func (r Rules) Next(s State, e Event) (State, []Action) {
	t := &step{rules: r.withDefaults(), State: s}
	t.Notice = ""
	switch e.Kind {
	case Booted:
		t.booted(e.Boot)
	case Stage:
		t.stage(e.Release)
	case Written:
		t.written(e)
	case Approve:
		t.approve()
	case Checked:
		t.checked(e)
	case Verdict:
		t.verdict(e)
	case Rollback:
		t.rollback()
	case Override:
		t.override(e.Release)
	case Adopt:
		t.adopt()
	case Drifted:
		t.drifted(e.Slot, e.Detail)
	case Restored:
		t.restored(e.Slot, e.Release)
	case SelfTested:
		t.selfTested(e.OK)
	case Identified:
		t.identified(e.Slot, e.Release)
	case Undone:
		t.undone(e)
	}
	return t.State, t.acts
}

func (t *step) do(a Action) {
	a.Means = t.Means
	t.acts = append(t.acts, a)
}

// save puts the record, as it is at this point, into the journal.
func (t *step) save() {
	t.dirty = false
	t.do(Action{Do: WriteJournal, Record: t.Record})
}

// flush saves the record if it changed.
func (t *step) flush() {
	if t.dirty {
		t.save()
	}
}

func (t *step) report(format string, args ...any) {
	t.Notice = fmt.Sprintf(format, args...)
	t.do(Action{Do: Report, Detail: t.Notice})
}
