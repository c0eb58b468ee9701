package verifier

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// maxReport bounds a report on slots in bytes: 500 rejected versions have 60 KB.
const maxReport = 256 << 10

// about is what a decision knows of a host.
func (s *Server) about(h *fleet.Host, r *fleet.Report) assign.Host {
	out := assign.Host{Name: h.Record.Name, Trusted: h.Standing(s.o.Interval, s.now()) == attest.StandingTrusted, Floor: h.Record.Floor, Counted: h.Record.Counter != nil}
	if h.Last != nil {
		out.Appliance, out.Arch, out.Layout = h.Last.Release, h.Last.Arch, h.Last.Layout
	}
	if r != nil {
		out.Report = &r.Slots
	}
	return out
}

// decide is what a host is offered now, or why nothing is.
func (s *Server) decide(ctx context.Context, h *fleet.Host, r *fleet.Report) (*assign.Assignment, assign.Release, *assign.Refusal, error) {
	a, err := s.o.Store.Assignment(ctx, h.Record.Name)
	if err != nil {
		return nil, assign.Release{}, nil, err
	}
	release, refusal := assign.Decide(s.about(h, r), a, s.catalog.Load().offers)
	return a, release, refusal, nil
}

// assignment answers GET /v1/assignment. A host that is not trusted now is
// refused; of a release that is withheld it is told why.
func (s *Server) assignment(c *call, _ []byte) (any, error) {
	r, err := s.o.Store.Report(c.ctx, c.host.Record.Name)
	if err != nil {
		return nil, err
	}
	a, release, refusal, err := s.decide(c.ctx, c.host, r)
	out := updateapi.Assignment{Interval: s.o.Interval.Seconds()}
	switch {
	case err != nil:
		return nil, err
	case refusal == nil:
		out.Release, out.Version, out.Approved, out.Override = release.Digest, release.Version, a.Approved, a.Override
	case refusal.Code == assign.Untrusted:
		return nil, refused(http.StatusForbidden, refusal)
	case refusal.Code != assign.Nothing:
		out.Withheld = &updateapi.Error{Code: refusal.Code, Detail: refusal.Detail}
	}
	return out, nil
}

func refused(status int, r *assign.Refusal) error {
	e := refuse(status, attest.Code(r.Code), "%s", r.Detail).(*refusal)
	e.hint = r.Hint
	return e
}

// report answers POST /v1/slots: what a host says about its slots is kept, and
// recorded when it says something new. A later machine may say more than this
// server knows: that is left out.
func (s *Server) report(c *call, body []byte) (any, error) {
	name, now := c.host.Record.Name, s.now()
	if !s.reports.allow(name, 1, now) {
		return nil, refuse(http.StatusTooManyRequests, RequestBusy, "more reports of %s than are kept: wait for the interval", name)
	}
	said, err := parseReport(body)
	if err != nil {
		return nil, err
	}
	r, news := &fleet.Report{At: now, Slots: *said}, false
	err = s.o.Store.Update(c.ctx, name, func(x *fleet.Change) (err error) {
		if x.Host == nil {
			return errMoved
		}
		news, err = s.keepReport(x, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	if b := r.Brief(); news {
		s.log.Info("slots", "host", name, "phase", b.Phase, "good", b.Good, "version", b.Version, "next", b.Next, "cause", b.Cause, "address", c.address)
	}
	return struct{}{}, nil
}

// keepReport writes a report, and says whether it has news.
func (s *Server) keepReport(x *fleet.Change, r *fleet.Report) (bool, error) {
	old, err := x.Report()
	if err != nil {
		return false, err
	}
	x.Reported(r)
	b := r.Brief()
	news := old == nil || old.Brief() != b
	if news {
		x.Record(&audit.Record{Kind: audit.KindSlots, Time: r.At, Detail: reportWords(b)})
	}
	for _, words := range drifts(old, r) {
		x.Record(&audit.Record{Kind: audit.KindDrift, Time: r.At, Detail: words})
		s.log.Warn("drift", "host", x.Host.Record.Name, "detail", words)
	}
	a, err := x.Assignment()
	if err != nil || a == nil {
		return news, err
	}
	if release := s.catalog.Load().offer(a.Release); release != nil && assign.Taken(*a, *release, &r.Slots) {
		a.Override = false
		x.Assign(a)
		x.Record(&audit.Record{Kind: audit.KindAssigned, Time: r.At, Detail: a.Version + " was taken once more: if it fails again, it is not offered again"})
	}
	return news, nil
}

// drifts says which slots have come to differ from what was written to them since the
// report before, and which are right again. A slot is known by its name, in any order.
func drifts(old, now *fleet.Report) (list []string) {
	before := map[string]string{}
	if old != nil {
		for _, x := range old.Slots.Slots {
			before[x.Name] = x.Condition
		}
	}
	for _, x := range now.Slots.Slots {
		was, version := before[x.Name], cmp.Or(x.Version, "no version")
		switch good, damaged := slot.Good.String(), slot.Damaged.String(); {
		case x.Condition == damaged && was != damaged:
			list = append(list, fmt.Sprintf("slot %s, %s, is not what was written to it", x.Name, version))
		case x.Condition == good && was == damaged:
			list = append(list, fmt.Sprintf("slot %s is right again, with %s", x.Name, version))
		}
	}
	return list
}

func reportWords(b fleet.Brief) string {
	s := b.Phase + ", slot " + cmp.Or(b.Good, "-") + " is good: " + cmp.Or(b.Version, "no version")
	if b.Next != "" {
		s += ", candidate " + b.Next
	}
	if b.Cause != "" {
		s += ", last failure " + b.Cause
	}
	return s
}

// Bounds of a report: of its texts in bytes, and of its lists.
const (
	maxWord  = 64
	maxText  = 512
	maxItems = 500
)

func parseReport(body []byte) (*updateapi.Slots, error) {
	s := new(updateapi.Slots)
	if err := jsonv2.Unmarshal(body, s); err != nil {
		return nil, refuse(http.StatusBadRequest, RequestMalformed, "read message: %v", err)
	}
	return s, checkReport(s)
}

// checkReport bounds what a host can have kept and shown.
func checkReport(s *updateapi.Slots) error {
	words := []string{s.Running, s.Good, s.Candidate, s.Phase, s.Means, s.Cause, s.Culprit, s.Next, s.Journal}
	texts := append([]string{s.Detail}, s.Why...)
	texts = append(append(texts, s.Entries...), s.Order...)
	for _, x := range s.Slots {
		words = append(words, x.Name, x.Version, x.Condition, x.Image, x.Root)
		texts = append(texts, x.Found)
	}
	for _, x := range s.Rejected {
		words = append(words, x.Version, x.Cause)
	}
	if max(len(s.Slots), len(s.Why), len(s.Entries), len(s.Order), len(s.Rejected)) > maxItems || longest(words) > maxWord || longest(texts) > maxText {
		return refuse(http.StatusBadRequest, RequestMalformed, "the report is beyond its bounds: lists of %d, words of %d and texts of %d bytes", maxItems, maxWord, maxText)
	}
	if slices.ContainsFunc(words, func(w string) bool { return strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r > '~' }) }) {
		return refuse(http.StatusBadRequest, RequestMalformed, "a word of the report is not printable ASCII")
	}
	if s.Phase == "" || s.Floor < 0 {
		return refuse(http.StatusBadRequest, RequestMalformed, "the report names no phase, or a floor below 0")
	}
	return nil
}

func longest(list []string) (n int) {
	for _, s := range list {
		n = max(n, len(s))
	}
	return n
}
