package updater

import (
	"context"
	"errors"

	"github.com/ingot-os/ingot/internal/updateapi"
)

// reports tells the server how the slots are: once in a boot, and after each
// change. Changes that come while it cannot be told are told together.
func (u *Updater) reports(ctx context.Context) {
	news := make(chan struct{}, 1)
	news <- struct{}{}
	u.m.Keeper.OnReport(func(updateapi.Slots) {
		select {
		case news <- struct{}{}:
		default: // there is some already
		}
	})
	r, said := &rhythm{interval: u.m.Spec.Update.Interval.Or(interval)}, ""
	for ctx.Err() == nil {
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			err := u.tellServer(ctx)
			if err == nil {
				r.failed, said = 0, ""
				break
			}
			if errors.Is(err, errWaiting) {
				sleep(ctx, unknown)
				continue
			}
			if err.Error() != said && ctx.Err() == nil {
				said = err.Error()
				u.m.Logf("update: %v", err)
			}
			r.name = u.name()
			sleep(ctx, r.retry())
		}
		sleep(ctx, minInterval)
	}
}

func (u *Updater) tellServer(ctx context.Context) error {
	l, err := u.connect(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	return l.report(ctx, u.explained())
}
