package dispatch

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/netslot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// changing are the slots of hosts whose boots are being changed: what netslot does
// to them is part of that change.
type changing struct {
	mu   sync.Mutex
	open map[string]*netslot.Entry
}

var errClosed = errors.New("its boots are not being changed")

// Change implements netslot.Store.
func (s *changing) Change(host string, f func(*netslot.Entry) error) error {
	s.mu.Lock()
	e := s.open[host]
	s.mu.Unlock()
	if e == nil {
		return errClosed
	}
	next := *e
	if err := f(&next); err != nil {
		return err
	}
	*e = next
	return nil
}

// during opens the slots of a host while fn runs. Changes of one host come one after
// the other: the store sees to that.
func (s *changing) during(host string, e *netslot.Entry, fn func() error) error {
	s.mu.Lock()
	if s.open == nil {
		s.open = map[string]*netslot.Entry{}
	}
	s.open[host] = e
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, host)
	}()
	return fn()
}

// copyOf are slots of which nothing is kept.
func (d *Dispatcher) copyOf(host string, e netslot.Entry) *netslot.Server {
	return &netslot.Server{Store: &changing{open: map[string]*netslot.Entry{host: &e}}, Rules: d.o.Slots, Ready: d.ready}
}

// contentOf is a release as slots name it: by the digest of its manifest.
func contentOf(r bootrule.Release) (slot.Content, error) {
	c := slot.Content{Version: r.Stem(), Epoch: uint32(max(r.Epoch, 0))}
	if len(c.Version) > slot.MaxVersion {
		c.Version = c.Version[:slot.MaxVersion]
	}
	b, err := hex.DecodeString(r.Digest)
	if err != nil || len(b) != len(c.Image) {
		return c, fmt.Errorf("%s has the digest %.70q, want a SHA-256", r.Stem(), r.Digest)
	}
	c.Image = slot.Digest(b)
	return c, nil
}

// stage tells slots what is wanted: a release that they do not have becomes the
// candidate, and is armed when it may be tried. A candidate that is not wanted any
// more, and was not begun, is disarmed.
func stage(s *netslot.Server, host string, want slot.Content, approved bool) (slot.State, []string, error) {
	st, err := s.State(host)
	if err != nil {
		return st, nil, err
	}
	var said []string
	do := func(f func() (netslot.Outcome, error)) {
		if err != nil {
			return
		}
		var out netslot.Outcome
		if out, err = f(); err == nil {
			st, said = out.State, append(said, out.Reports...)
		}
	}
	isGood, isNext := st.Of(st.Good).Image == want.Image, st.Candidate != slot.None && st.Of(st.Candidate).Image == want.Image
	if st.Phase == slot.Armed && !st.Launched && (isGood || !isNext || !approved) {
		do(func() (netslot.Outcome, error) { return s.Disarm(host) })
	}
	if !isGood && !isNext {
		do(func() (netslot.Outcome, error) {
			return s.Handle(host, slot.Event{Kind: slot.Stage, Release: want})
		})
		isNext = st.Candidate != slot.None && st.Of(st.Candidate).Image == want.Image
	}
	if isNext && approved && st.Phase == slot.Staged {
		do(func() (netslot.Outcome, error) { return s.Handle(host, slot.Event{Kind: slot.Approve}) })
	}
	return st, said, err
}

// choice is what slots give out.
type choice struct {
	digest string
	trial  bool
	why    string
	state  slot.State
}

// serve stages what is wanted, and serves: the try is used up.
func serve(s *netslot.Server, host string, want slot.Content, approved bool) (choice, error) {
	st, said, err := stage(s, host, want, approved)
	if err != nil {
		return choice{}, err
	}
	out, err := s.Serve(host)
	if err != nil {
		return choice{}, err
	}
	v := choice{digest: hex.EncodeToString(out.Content.Image[:]), trial: out.Slot == out.State.Candidate && out.State.Candidate != slot.None, state: out.State}
	v.why = reason(st, out, want, said)
	return v, nil
}

// reason says why slots serve what they do.
func reason(st slot.State, out netslot.Outcome, want slot.Content, said []string) string {
	next := st.Of(st.Candidate).Version
	switch {
	case out.Slot == out.State.Candidate && out.State.Candidate != slot.None:
		return fmt.Sprintf("try %d of %s", st.Arms, next)
	case out.Content.Image == want.Image:
		return "it is good"
	case st.IsRejected(want):
		return want.Version + " is rejected (" + st.Cause.Text() + "), " + out.Content.Version + " is the last good one"
	case st.Phase == slot.Staged:
		return next + " waits for approval, " + out.Content.Version + " is good"
	case st.Phase == slot.Armed && st.Launched:
		return "the try of " + next + " ended without a word, " + out.Content.Version + " is the last good one"
	case st.Phase == slot.Trying:
		return next + " started and ended before it was good, " + out.Content.Version + " is the last good one"
	case st.Phase == slot.Failed:
		return next + " failed (" + st.Cause.Text() + "), " + out.Content.Version + " is the last good one"
	case len(said) > 0:
		return said[len(said)-1]
	}
	return out.Content.Version + " is the last good one"
}

// underWay is the attempt that goes on at a time; nil for none.
func underWay(b *fleet.Boot, now time.Time) *fleet.Attempt {
	if a := b.Attempt; a != nil && now.Before(a.Until) {
		return a
	}
	return nil
}

// peek says what the slots would serve, on a copy of them. Within the window of a
// try the try goes on.
func (d *Dispatcher) peek(x *Decision, want bootrule.Release, approved bool) bootrule.Peeked {
	if a := underWay(&x.boot, d.now()); a != nil && a.Trial && d.release(a.Digest) != nil {
		return bootrule.Peeked{Digest: a.Digest, Trial: true, Why: "the try of " + a.Stem + " goes on, begun at " + a.Opened.Format(time.TimeOnly)}
	}
	c, err := contentOf(want)
	if err != nil {
		return bootrule.Peeked{Why: err.Error()}
	}
	v, err := serve(d.copyOf(x.key, x.boot.Entry), x.key, c, approved)
	if err != nil {
		return bootrule.Peeked{Why: err.Error()}
	}
	return bootrule.Peeked{Digest: v.digest, Trial: v.trial, Why: v.why}
}

// slotsOf are a host's slots as it would tell them itself, for lists.
func slotsOf(st slot.State) updateapi.Slots {
	s := updateapi.Slots{Running: letter(st.Running), Good: letter(st.Good), Candidate: letter(st.Candidate), Phase: st.Phase.String(), Means: st.Means.String(),
		TriesLeft: int(st.TriesLeft), Attempt: int(st.Attempt), Floor: int(st.Floor), Journal: "read", Why: st.Why()}
	if st.Cause != slot.NoCause {
		s.Cause, s.Culprit, s.Detail = st.Cause.String(), letter(st.Culprit), st.Detail
	}
	for _, x := range []slot.Slot{slot.A, slot.B} {
		c := st.Of(x)
		y := updateapi.Slot{Name: letter(x), Version: c.Version, Condition: c.Condition.String(), Epoch: int(c.Epoch)}
		if c.Version != "" {
			y.Image = hex.EncodeToString(c.Image[:])
		}
		s.Slots = append(s.Slots, y)
	}
	for _, r := range st.Rejections {
		s.Rejected = append(s.Rejected, updateapi.Rejected{Version: r.Version, Cause: r.Cause.String()})
	}
	return s
}

func letter(x slot.Slot) string {
	if x == slot.None {
		return ""
	}
	return string(rune(x))
}

// same reports whether two reports say the same.
func same(a, b *updateapi.Slots) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// causeNamed is a cause by its stable name; Unhealthy for one that is not known.
func causeNamed(name string) slot.Cause {
	for c := slot.NoCause; c.String() != "unknown"; c++ {
		if c.String() == name {
			return c
		}
	}
	return slot.Unhealthy
}

// words are a text that is never empty.
func words(s, other string) string { return cmp.Or(s, other) }
