package verifier

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
)

// challenge asks a host for evidence: ChallengeRequest to Challenge.
func (s *Server) challenge(c *call, body []byte) (any, error) {
	if !s.askRate.allow(site(c.address), 1, s.now()) {
		return nil, refuse(http.StatusTooManyRequests, RequestBusy, "too many challenges for your address: wait a while")
	}
	var q attestapi.ChallengeRequest
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	if _, err := s.speaker(c, q.Name); err != nil {
		return nil, err
	}
	return s.ask(c, q.Name, attest.Lifetime)
}

// speaker is a host that may attest.
func (s *Server) speaker(c *call, name string) (*fleet.Host, error) {
	h, err := s.o.Store.Host(c.ctx, name)
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		return nil, refuse(http.StatusNotFound, attest.HostUnknown, "%.70q is not enrolled", name)
	case err != nil:
		return nil, err
	case h.Reenrol:
		return nil, refuse(http.StatusNotFound, attest.HostUnknown, "%s is to be enrolled again", name)
	case h.Record.State == attest.Pending:
		return nil, refuse(http.StatusForbidden, attest.HostPending, "%s waits for an operator: ingot hosts %s --approve", name, name)
	case h.Record.State != attest.Active:
		return nil, refuse(http.StatusForbidden, attest.HostRevoked, "%s is %s", name, h.Record.State)
	}
	return h, s.denied(h)
}

// denied refuses a host that was enrolled before its kind of TPM, or its
// endorsement key, came on a list.
func (s *Server) denied(h *fleet.Host) error {
	roots, m := &s.o.Rules.Roots, h.Certified.Model
	for _, d := range roots.Denied {
		if (d.Manufacturer == "" || strings.EqualFold(d.Manufacturer, m.Manufacturer)) && (d.Name == "" || d.Name == m.Name) &&
			(d.Version == "" || strings.EqualFold(d.Version, m.Version)) && m != (attest.Model{}) {
			return refuse(http.StatusForbidden, attest.TPMDenied, "the kind of TPM of %s is on the list of denied ones", h.Record.Name)
		}
	}
	for _, sum := range roots.Revoked {
		if hex.EncodeToString(sum[:]) == spki(h.EK) {
			return refuse(http.StatusForbidden, attest.EKRevoked, "the endorsement key of %s is revoked", h.Record.Name)
		}
	}
	return nil
}

// ask keeps a new challenge, which may be answered for so long.
func (s *Server) ask(c *call, name string, lifetime time.Duration) (*attestapi.Challenge, error) {
	now := s.now()
	ch, ok := attest.NewChallenge(random(), s.serverID, c.key, now)
	if !ok {
		return nil, errors.New("make challenge: the nonce is too short")
	}
	ch.Expires = now.Add(lifetime)
	if err := s.o.Store.PutChallenge(c.ctx, name, ch, now); errors.Is(err, fleet.ErrBusy) {
		return nil, refuse(http.StatusTooManyRequests, RequestBusy, "too many challenges are open")
	} else if err != nil {
		return nil, err
	}
	return &attestapi.Challenge{Nonce: ch.Nonce, Bank: s.bank(), PCRs: s.pcrs(), Time: now, Expires: ch.Expires}, nil
}

// errMoved: the host changed while its evidence was judged.
var errMoved = errors.New("the host was changed meanwhile")

// maxTries bounds how often evidence is judged again because of that.
const maxTries = 5

// evidence judges: Evidence to Answer.
func (s *Server) evidence(c *call, body []byte) (any, error) {
	e, err := attestapi.ParseEvidence(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, attest.EvidenceMalformed, "%v", err)
	}
	h, err := s.speaker(c, e.Name)
	if err != nil {
		return nil, err
	}
	ch, err := s.o.Store.TakeChallenge(c.ctx, e.Name, c.key)
	if errors.Is(err, fleet.ErrNotFound) {
		return nil, refuse(http.StatusForbidden, attest.QuoteNonce, "no challenge of this host is open on this channel: ask for one")
	}
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(ch.Nonce, e.Nonce) {
		return nil, refuse(http.StatusForbidden, attest.QuoteNonce, "the evidence is for another challenge")
	}
	for range maxTries {
		v, err := s.judge(c, h, &e.Evidence, ch)
		if errors.Is(err, errMoved) {
			if h, err = s.speaker(c, e.Name); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		return s.reply(c, h, &v)
	}
	return nil, errMoved
}

// judge gives the verdict and keeps it.
func (s *Server) judge(c *call, h *fleet.Host, e *attest.Evidence, ch attest.Challenge) (attest.Verdict, error) {
	now, catalog := s.now(), s.catalog.Load()
	record := h.Record
	j := audit.Judged{References: catalog.sums, Case: attest.Case{Evidence: e, References: catalog.references, Record: &record,
		Policy: s.policy(), LastSeen: h.LastSeen, Challenge: ch, Now: now}}
	j.Verdict = attest.Verify(j.Case)
	v := &j.Verdict
	if !v.Proven() {
		return *v, s.reject(c, h, v)
	}
	r, blobs, err := audit.New(j)
	if err != nil {
		return *v, err
	}
	if !s.appetite.allow(h.Record.Name, blobs, now) {
		return *v, refuse(http.StatusTooManyRequests, RequestBusy, "more evidence of %s than is kept: wait for the interval", h.Record.Name)
	}
	before, matching := *h, catalog.matching(j.Case, v)
	err = s.o.Store.Update(c.ctx, h.Record.Name, func(x *fleet.Change) error {
		if x.Host == nil || x.Host.Revision != h.Revision {
			return errMoved
		}
		keepVerdict(x.Host, v, e, c.address)
		x.Host.Last.Arch, x.Host.Last.Layout = catalog.kind(v.Release, v.Version)
		matched(x.Host.Last, matching)
		x.Record(r, blobs...)
		if v.AcceptsFirmware() && x.Host.Record.Firmware == nil {
			x.Host.Baseline(x.Host.Seen.PCRs, x.Host.Seen.Version)
			x.Record(&audit.Record{Kind: audit.KindFirmware, Time: now, Detail: "as in the first trusted verdict"})
		}
		if said := x.Host.Count(v); said != "" {
			x.Record(&audit.Record{Kind: audit.KindFloor, Time: now, Detail: said})
		}
		return nil
	})
	if err == nil {
		s.say(c, &before, v)
		if s.o.Boots != nil {
			// Who hangs up is judged all the same, and the next verdict is of the same boot.
			s.o.Boots.Attested(context.WithoutCancel(c.ctx), &before, v, c.address)
		}
	}
	return *v, err
}

// matching are the releases that a trusted verdict is about. It names a version, which
// several may have; then each reference is asked by itself.
func (c *Catalog) matching(k attest.Case, v *attest.Verdict) (list []*Release) {
	if !v.Trusted {
		return nil
	}
	same := map[audit.Digest]bool{}
	for i := range c.Releases {
		if r := &c.Releases[i]; r.Name == v.Release && r.Version == v.Version {
			list, same[r.Sum] = append(list, r), true
		}
	}
	if len(same) < 2 {
		return list
	}
	for sum := range same {
		k.References = []attest.Reference{c.references[slices.Index(c.sums, sum)]}
		alone := attest.Verify(k)
		same[sum] = alone.Trusted
	}
	return slices.DeleteFunc(list, func(r *Release) bool { return !same[r.Sum] })
}

// matched writes down what was booted, and of which kind that is, unless they differ.
func matched(l *fleet.Last, list []*Release) {
	for _, r := range list {
		l.Manifests = append(l.Manifests, r.Digest)
	}
	if len(list) > 0 && !slices.ContainsFunc(list, func(r *Release) bool { return r.Arch != list[0].Arch || r.Layout != list[0].Layout }) {
		l.Arch, l.Layout = list[0].Arch, list[0].Layout
	}
}

// keepVerdict writes a verdict on a host.
func keepVerdict(h *fleet.Host, v *attest.Verdict, e *attest.Evidence, address string) {
	h.Judged(v)
	h.Silent = false
	h.Last = &fleet.Last{Code: v.Reason(), Release: v.Release, Version: v.Version, Epoch: v.Epoch, Boot: v.Boot, Slot: v.Slot, SecureBoot: v.SecureBoot, Address: address}
	if len(v.Findings) > 0 {
		h.Last.Detail = cut(v.Findings[0].String())
	}
	if seen := firmware(v, e); seen != nil {
		h.Seen = seen
	}
}

// firmware is what an operator may accept: values that the TPM has signed, of the
// bank that was judged. Of evidence that was refused before that there is none.
func firmware(v *attest.Verdict, e *attest.Evidence) *fleet.Firmware {
	bank, err := pcr.ParseBank(v.Bank)
	if err != nil || len(v.Registers) == 0 {
		return nil
	}
	values := map[int]pcr.Digest{}
	for _, r := range v.Registers { // the quoted ones
		if r.PCR == 0 || r.PCR == 2 {
			values[r.PCR] = e.PCRs[bank][r.PCR]
		}
	}
	return &fleet.Firmware{PCRs: map[pcr.Bank]map[int]pcr.Digest{bank: values}, Version: v.Firmware}
}

func cut(s string) string { return s[:min(len(s), 300)] }

// reject notes evidence that anybody may have sent. It changes nothing that is
// known about the host, and is kept once in an interval.
func (s *Server) reject(c *call, h *fleet.Host, v *attest.Verdict) error {
	r := fleet.Rejected{At: v.At, Code: v.Reason(), Detail: cut(v.Findings[0].Detail), Address: c.address}
	s.log.Warn("evidence rejected", "host", h.Record.Name, "code", r.Code, "detail", r.Detail, "address", c.address)
	if last := h.Rejected; last != nil && v.At.Sub(last.At) < s.o.Interval {
		return nil
	}
	return s.o.Store.Update(c.ctx, h.Record.Name, func(x *fleet.Change) error {
		if x.Host == nil {
			return errMoved
		}
		if last := x.Host.Rejected; last != nil && v.At.Sub(last.At) < s.o.Interval {
			return nil
		}
		x.Host.Rejected = &r
		x.Record(&audit.Record{Kind: audit.KindRejected, Time: v.At, Code: r.Code, Detail: r.Detail + ", from " + c.address})
		return nil
	})
}

// say reports what is new about a host; each verdict only to those who debug.
func (s *Server) say(c *call, before *fleet.Host, v *attest.Verdict) {
	args := []any{"host", v.Host, "trusted", v.Trusted, "release", v.Release, "version", v.Version, "slot", v.Slot, "boot", v.Boot, "address", c.address}
	if !v.Trusted {
		args = append(args, "code", v.Reason(), "detail", v.Findings[0].Detail)
	}
	last := before.Last
	same := last != nil && before.Trusted == v.Trusted && !before.Silent && last.Code == v.Reason() && last.Version == v.Version && last.Release == v.Release && last.Slot == v.Slot
	switch {
	case same:
		s.log.Debug("verdict", args...)
	case v.Trusted:
		s.log.Info("verdict", args...)
	default:
		s.log.Warn("verdict", args...)
	}
}

// reply is the verdict with what an attested host gets.
func (s *Server) reply(c *call, h *fleet.Host, v *attest.Verdict) (any, error) {
	a := &attestapi.Answer{Trusted: v.Trusted, Findings: v.Findings, Interval: s.o.Interval.Seconds()}
	if !v.Proven() {
		return a, nil // who it is asks for the next challenge, and not too often
	}
	var err error
	if a.Next, err = s.ask(c, h.Record.Name, s.o.Interval+attest.Lifetime); err != nil {
		a.Next = nil // the machine asks
	}
	if !v.Trusted {
		return a, nil
	}
	if err = s.grants.give(a, c, h, s.now()); err != nil { // the verdict stands, and comes again with the next
		s.log.Error("certificate and secrets are held back", "host", h.Record.Name, "error", err)
	}
	return a, nil
}
