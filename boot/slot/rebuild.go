package slot

// rebuild makes a journal where there is none: at the first boot of a fresh disk.
// After a loss (P22) nothing says whether what runs was ever blessed, so an
// operator has to. The selector leaves that to the slot that it starts.
func (t *step) rebuild(b Boot) bool {
	c := b.Content
	c.Condition = Good
	t.Record = Record{Good: b.Running, Means: t.Means, Floor: b.Counter, Schema: c.Schema}
	if b.Running == None {
		t.guess(b)
		return false
	}
	t.Slots[b.Running.index()] = c
	if b.Journal == JournalLost {
		t.Unjournalled = true
		t.report("the slot journal is lost, and nobody knows whether what runs on %s is good: no update until an operator adopts it", b.Running)
		return false
	}
	t.dirty = true
	return true
}

// guess starts a slot without a journal: slot a, as every disk begins, unless
// it is seen to be damaged. Nothing is written to the journal. Variables that
// were right already mean that the firmware has tried both slots.
func (t *step) guess(b Boot) {
	x := A
	if b.Damaged[A.index()] {
		x = B
	}
	t.Good = x
	switch {
	case b.Damaged[x.index()], t.Means == Firmware && b.View.Holds(x):
		t.recover("neither slot starts, and there is no journal")
	case t.Means == Firmware && b.Resets < t.rules.Bounces:
		t.start(x)
	default: // the firmware has forgotten what it was told
		t.Means = max(t.Means, Selector)
		t.do(Action{Do: Launch, Slot: x})
	}
}
