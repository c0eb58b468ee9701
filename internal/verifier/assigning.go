package verifier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// prepare finds the release that an operator names, and looks at its files: what
// no machine could get is refused here and now. From then on the action names
// it by its digest. A patch from what the host runs is begun.
func (s *Server) prepare(c *call, name string, a *Action) error {
	h, err := s.o.Store.Host(c.ctx, name)
	if errors.Is(err, fleet.ErrNotFound) {
		return refuse(http.StatusNotFound, attest.HostUnknown, "%.70q is not enrolled", name)
	}
	if err != nil {
		return err
	}
	r, err := s.o.Store.Report(c.ctx, name)
	if err != nil {
		return err
	}
	about, catalog := s.about(h, r), s.catalog.Load()
	found, refusal := assign.Find(about, a.Release, catalog.offers)
	if refusal == nil {
		refusal = possible(about, found, a)
	}
	if refusal != nil {
		return refused(http.StatusConflict, refusal)
	}
	a.Release = found.Digest
	release := catalog.release(found.Digest)
	// A part that is looked at for the first time is read as a whole, which may
	// take longer than a request: then the next request knows what came of it.
	if err := s.usable(context.WithoutCancel(c.ctx), release); err != nil {
		return err
	}
	if r != nil {
		s.anticipate(release, &r.Slots)
	}
	return nil
}

// possible says why a release cannot be assigned.
func possible(h assign.Host, r assign.Release, a *Action) *assign.Refusal {
	if refusal := assign.Fits(h, r); refusal != nil || a.Override {
		return refusal
	}
	return assign.Sticks(h, r)
}

// usable says why machines could not get a release: it has no signature, or its
// files are not those of its manifest.
func (s *Server) usable(ctx context.Context, r *Release) error {
	cannot := func(hint, format string, args ...any) error {
		return refused(http.StatusConflict, &assign.Refusal{Code: assign.Unusable, Detail: fmt.Sprintf(format, args...), Hint: hint})
	}
	if s.o.Depot == nil {
		return cannot("", "this server sends no releases")
	}
	if _, err := os.Stat(filepath.Join(r.Dir, release.EnvelopeName)); err != nil {
		return cannot("build it with --keys, or: ingot sign", "%s %s is not signed (no %s in %s): no machine would take it", r.Name, r.Version, release.EnvelopeName, r.Dir)
	}
	if _, ok := r.parts[updateapi.PartSlot]; !ok {
		return cannot("assign a release that is for a disk", "%s %s has no slot to write", r.Name, r.Version)
	}
	for name, p := range r.parts {
		if name == updateapi.PartESP { // no update takes it; an install hears of it
			continue
		}
		o, err := s.o.Depot.Open(ctx, p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return cannot("copy the whole image set there, with its .img", "%s %s has no %s: there is nothing to send", r.Name, r.Version, p.Path)
		case errors.Is(err, depot.ErrDiffers), errors.Is(err, depot.ErrChanged):
			return cannot("copy the image set again", "%v", err)
		case err != nil:
			return err
		}
		o.Close()
	}
	return nil
}

// anticipate makes the patches that a host is going to ask for.
func (s *Server) anticipate(r *Release, slots *updateapi.Slots) {
	for _, x := range slots.Slots {
		if x.Name != slots.Good {
			continue
		}
		for name, digest := range map[string]string{updateapi.PartSlot: x.Image, updateapi.PartRoot: x.Root} {
			target, ok := r.parts[name]
			if base := s.catalog.Load().base(r, name, digest); ok && base != nil && digest != target.SHA256 {
				s.o.Depot.Prepare(*base, target)
			}
		}
	}
}

// assign writes the assignment, and says it for the record. What was looked at
// may have changed: the floor is looked at again.
func (s *Server) assign(x *fleet.Change, a *Action, by string) (audit.Kind, string, error) {
	h := x.Host
	if h.Record.State == attest.Revoked {
		return "", "", refuse(http.StatusConflict, attest.HostRevoked, "%s is revoked", h.Record.Name)
	}
	offer := s.catalog.Load().offer(a.Release)
	if offer == nil {
		return "", "", refused(http.StatusConflict, &assign.Refusal{Code: assign.Missing, Detail: "the release is gone meanwhile", Hint: "look again"})
	}
	r, err := x.Report()
	if err != nil {
		return "", "", err
	}
	if refusal := possible(s.about(h, r), *offer, a); refusal != nil {
		return "", "", refused(http.StatusConflict, refusal)
	}
	x.Assign(&assign.Assignment{Release: a.Release, Version: offer.Version, Approved: a.Approved, Override: a.Override, By: by, At: s.now()})
	detail := fmt.Sprintf("%s %s, manifest %s", offer.Name, offer.Version, offer.Digest)
	if a.Approved {
		detail += ", approved"
	}
	if a.Override {
		detail += ", although it was rejected"
	}
	return audit.KindAssigned, detail, nil
}

// unassign takes the assignment back.
func unassign(x *fleet.Change) (audit.Kind, string, error) {
	a, err := x.Assignment()
	if err != nil {
		return "", "", err
	}
	if a == nil {
		return "", "", refused(http.StatusConflict, &assign.Refusal{Code: assign.Nothing, Detail: "no release is assigned to " + x.Host.Record.Name})
	}
	x.Assign(nil)
	return audit.KindAssigned, "none any more, was " + a.Version, nil
}

// addUpdates adds what is known of a host's updates.
func (s *Server) addUpdates(ctx context.Context, d *Detail, h *fleet.Host) (err error) {
	if d.Slots, err = s.o.Store.Report(ctx, h.Record.Name); err != nil {
		return err
	}
	a, offer, refusal, err := s.decide(ctx, h, d.Slots)
	if err != nil {
		return err
	}
	if a != nil || d.Slots != nil {
		d.Update = &fleet.Update{Assignment: a}
		if d.Slots != nil {
			d.Update.Brief, d.Update.At = d.Slots.Brief(), d.Slots.At
		}
	}
	switch {
	case refusal == nil:
		d.Offer = &offer
	case refusal.Code != assign.Nothing:
		d.Withheld = refusal
	}
	return nil
}
