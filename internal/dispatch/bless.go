package dispatch

import (
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/netslot"
)

// enrol makes what a host without slots runs, and runs well, its good release.
func (t *taking) enrol(c slot.Content) error {
	if t.r.Healthy == 0 {
		return nil
	}
	if err := t.d.slots.Enrol(t.host, c); err != nil {
		return err
	}
	st, err := t.d.slots.State(t.host)
	t.state, t.blessed = &st, err == nil
	return err
}

// tell gives the report to the slots as the events that it is.
func (t *taking) tell(c slot.Content) error {
	s := t.d.slots
	st, err := s.State(t.host)
	if err != nil {
		return err
	}
	t.state = &st
	mine := st.Of(st.Good).Image == c.Image || st.Candidate != slot.None && st.Of(st.Candidate).Image == c.Image
	if !mine {
		return nil // booted by rules that were others then, or by hand
	}
	handle := func(f func() (netslot.Outcome, error)) {
		if err != nil {
			return
		}
		var out netslot.Outcome
		if out, err = f(); err == nil {
			st = out.State
			t.order.Reset = t.order.Reset || out.Reset
			if n := len(out.Reports); n > 0 {
				t.order.Why = out.Reports[n-1]
			}
		}
	}
	if t.fresh {
		handle(func() (netslot.Outcome, error) { return s.Booted(t.host, c.Image, t.evidence()) })
		t.order.Reset = false // a boot that has begun is not told to end by what was before it
	}
	if before := st.Phase; before == slot.Trying || before == slot.Blessed {
		t.health(handle)
		t.blessed = err == nil && before == slot.Trying && st.Phase == slot.Blessed
	}
	if err == nil && st.Of(st.Good).Image == c.Image {
		t.arm(&st, handle)
	}
	return err
}

// health tells since when all is well, and that it is, or what is not.
func (t *taking) health(handle func(func() (netslot.Outcome, error))) {
	s, r := t.d.slots, t.r
	up, well := seconds(r.Uptime), seconds(r.Healthy)
	handle(func() (netslot.Outcome, error) { return s.Handle(t.host, slot.Event{Kind: slot.Verdict, OK: true}) })
	if well > 0 {
		handle(func() (netslot.Outcome, error) { return s.Health(t.host, false, slot.NoCause, "", 0) }) // it begins again with since
		handle(func() (netslot.Outcome, error) { return s.Health(t.host, true, slot.NoCause, "", up-well) })
		handle(func() (netslot.Outcome, error) { return s.Health(t.host, true, slot.NoCause, "", up) })
		return
	}
	handle(func() (netslot.Outcome, error) {
		return s.Health(t.host, false, causeNamed(r.Cause), r.Detail, up)
	})
}

// arm has an assigned release wait for the host, which is told to start again when
// it may be tried and was not yet. A try that has failed is armed once more with
// the next boot of the good release, and waits for the one after.
func (t *taking) arm(st *slot.State, handle func(func() (netslot.Outcome, error))) {
	s := t.d.slots
	if st.Phase == slot.Failed && st.TriesLeft > 0 && t.fresh {
		handle(func() (netslot.Outcome, error) { return s.Handle(t.host, slot.Event{Kind: slot.Approve}) })
		t.order.Reset = false
		return
	}
	w := t.wanted()
	if w == nil || w.Image == st.Of(st.Good).Image {
		return
	}
	if name := t.d.overridden(t.wants); name != "" && st.IsRejected(*w) {
		handle(func() (netslot.Outcome, error) {
			return s.Handle(t.host, slot.Event{Kind: slot.Override, Release: slot.Content{Version: name}})
		})
	}
	handle(func() (netslot.Outcome, error) {
		next, said, err := stage(s, t.host, *w, t.wants.Approved)
		return netslot.Outcome{State: next, Reports: said}, err
	})
	if st.Phase == slot.Armed && !st.Launched && st.Arms == 1 && t.wants.Approved {
		t.order.Reset, t.order.Why = true, "the server has "+w.Version+" for this machine"
	}
}

func (t *taking) evidence() (out []slot.Evidence) {
	for _, e := range t.r.Evidence {
		out = append(out, slot.Evidence{Cause: causeNamed(e.Cause), Detail: e.Detail})
	}
	return out
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
