package updater

import (
	"context"
	"sync"

	"github.com/ingot-os/ingot/internal/agent/updates"
)

// Run takes updates until the context ends.
func Run(ctx context.Context, m updates.Machine) {
	u := New(m)
	var tasks sync.WaitGroup
	start := func(what string, f func(context.Context)) {
		tasks.Go(func() { u.guard(what, func() { f(ctx) }) })
	}
	start("try again", u.rearm)
	tasks.Wait()
}
