package dispatch

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// publish has a host's slots shown among those of hosts with a disk. What brings
// news is recorded.
func (d *Dispatcher) publish(ctx context.Context, host string, st slot.State) error {
	s := slotsOf(st)
	err := d.o.Store.Update(ctx, host, func(x *fleet.Change) error {
		if x.Host == nil {
			return fleet.ErrNotFound
		}
		old, err := x.Report()
		if err != nil {
			return err
		}
		if p := plain(s, x.Host); old != nil && same(&old.Slots, &p) {
			return errSame
		}
		r := &fleet.Report{At: d.now(), Slots: plain(s, x.Host)}
		x.Reported(r)
		if brief := r.Brief(); old == nil || old.Brief() != brief {
			x.Record(&audit.Record{Kind: audit.KindSlots, Time: r.At, Detail: "netboot slots: " + words(st.Notice, st.Phase.String()+", "+words(brief.Version, "no version")+" is good")})
		}
		return d.taken(x, &s)
	})
	if errors.Is(err, errSame) || errors.Is(err, fleet.ErrNotFound) {
		return nil
	}
	return err
}

// plain are slots with versions as operators name them: without the name of the
// appliance, where that is what the host runs.
func plain(s updateapi.Slots, h *fleet.Host) updateapi.Slots {
	if h.Last == nil || h.Last.Release == "" {
		return s
	}
	short := func(v string) string { return strings.TrimPrefix(v, h.Last.Release+"-") }
	s.Slots, s.Rejected = slices.Clone(s.Slots), slices.Clone(s.Rejected)
	for i := range s.Slots {
		s.Slots[i].Version = short(s.Slots[i].Version)
	}
	for i := range s.Rejected {
		s.Rejected[i].Version = short(s.Rejected[i].Version)
	}
	return s
}

// errSame has the store change nothing.
var errSame = errors.New("nothing has changed")

// taken ends an override that has done what it is for.
func (d *Dispatcher) taken(x *fleet.Change, s *updateapi.Slots) error {
	a, err := x.Assignment()
	if err != nil || a == nil || !a.Override {
		return err
	}
	r := d.release(a.Release)
	if r == nil || slices.ContainsFunc(s.Rejected, func(y updateapi.Rejected) bool { return y.Version == r.Stem() }) {
		return nil
	}
	next := *a
	next.Override = false
	x.Assign(&next)
	x.Record(&audit.Record{Kind: audit.KindAssigned, Time: d.now(), Detail: a.Version + " was taken once more: if it fails again, it is not offered again"})
	return nil
}

// overridden is the release that an operator has taken off the list; "" for none.
func (d *Dispatcher) overridden(a *assign.Assignment) string {
	if a == nil || !a.Override {
		return ""
	}
	if r := d.release(a.Release); r != nil {
		return r.Stem()
	}
	return ""
}
