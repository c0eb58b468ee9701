package hostclient

import (
	"context"
	"errors"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Outcome is how a trial ended.
type Outcome struct {
	Blessed bool `json:"blessed"`
	// Fell is that the machine went back to the version before.
	Fell   bool             `json:"fellBack,omitempty"`
	Phase  string           `json:"phase"`
	Cause  string           `json:"cause,omitempty"`  // docs/slots.md
	Detail string           `json:"detail,omitempty"` // of the cause
	Proven bool             `json:"proven"`           // the machine said so by TLS
	Slots  *updateapi.Slots `json:"slots,omitempty"`  // as they were then; nil: nothing was heard
}

// WaitOptions configure Wait.
type WaitOptions struct {
	Every time.Duration // between two looks; 0: 2 s
	// Phase is told each phase that the machine comes to; "" when it does not
	// answer. It may be nil.
	Phase func(string)
}

// settled is how long a trial that ended without a trace is watched: the machine
// tries once more, within a minute.
const settled = 90 * time.Second

// Wait watches a machine that tries a release until it is good or the machine
// has gone back. Its error is the context's, when nothing was decided by then.
//
// A machine without a server has another key after the reset, which nobody has
// named: then it is asked without TLS, and Proven is false.
func (c *Client) Wait(ctx context.Context, r *Release, o WaitOptions) (*Outcome, error) {
	if o.Every == 0 {
		o.Every = 2 * time.Second
	}
	w, last := &watch{image: r.Image()}, &Outcome{}
	for {
		s, proven, err := c.look(ctx)
		if ctx.Err() != nil {
			return last, ctx.Err()
		}
		last = &Outcome{}
		if err == nil {
			if out := w.judge(s); out != nil {
				out.Proven = proven
				return out, nil
			}
			last = &Outcome{Phase: s.Phase, Proven: proven, Slots: s}
		}
		if o.Phase != nil {
			o.Phase(last.Phase)
		}
		select {
		case <-time.After(o.Every):
		case <-ctx.Done():
			return last, ctx.Err()
		}
	}
}

// look asks over TLS, and without where that cannot be.
func (c *Client) look(ctx context.Context) (s *updateapi.Slots, proven bool, err error) {
	s, err = c.Slots(ctx)
	if err == nil {
		return s, true, nil
	}
	var other *KeyError
	if c.ByKey() && errors.As(err, &other) {
		s, err = c.Told(ctx)
	}
	if err != nil {
		return nil, false, err
	}
	return s, false, nil
}

// watch is what Wait has seen.
type watch struct {
	image string    // of the release's slot
	since time.Time // the first look that found the trial failed, with tries left
}

// judge says how the trial ended; nil: it has not yet.
func (w *watch) judge(s *updateapi.Slots) *Outcome {
	out := &Outcome{Phase: s.Phase, Slots: s}
	if content(s, s.Good).Image == w.image && s.Running == s.Good {
		out.Blessed = true
		return out
	}
	if good := content(s, s.Good); s.Running == "" && (good.Image == w.image || good.Image == "") {
		return nil // the selector runs: the slot that was restored starts next
	}
	switch s.Phase {
	case slot.Staging.String(), slot.Staged.String(), slot.Armed.String(), slot.Trying.String():
		w.since = time.Time{}
		return nil
	case slot.Failed.String():
		if w.since.IsZero() {
			w.since = time.Now()
		}
		traceless := s.Cause == slot.PowerCut.String() || s.Cause == slot.LostBeforeInit.String()
		if traceless && s.TriesLeft > 0 && time.Since(w.since) < settled {
			return nil
		}
	}
	out.Fell, out.Cause, out.Detail = true, s.Cause, s.Detail
	return out
}
