package verifier

import (
	"context"
	"errors"
	"time"

	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
)

// sweepAlways looks for hosts that have fallen silent, at once and then at each
// interval.
func (s *Server) sweepAlways(ctx context.Context) {
	t := time.NewTicker(s.o.Interval)
	defer t.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("look for silent hosts", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep records hosts from which nothing came for three intervals: what is
// known about them ends there. (Their standing is computed when it is asked
// for, and does not wait for this.)
func (s *Server) Sweep(ctx context.Context) error {
	now := s.now()
	before := now.Add(-silence * s.o.Interval)
	names, err := s.o.Store.Overdue(ctx, before)
	if err != nil {
		return err
	}
	for _, name := range names {
		var at time.Time
		err := s.o.Store.Update(ctx, name, func(c *fleet.Change) error {
			if c.Host == nil || c.Host.Silent || !c.Host.At.Before(before) {
				return errMoved
			}
			at, c.Host.Silent = c.Host.At, true
			c.Record(&audit.Record{Kind: audit.KindSilent, Time: now, Detail: "last heard at " + at.UTC().Format(time.RFC3339)})
			return nil
		})
		if errors.Is(err, errMoved) {
			continue // it was heard, or another server was quicker
		}
		if err != nil {
			return err
		}
		s.log.Warn("silent", "host", name, "heard", at)
	}
	return nil
}
