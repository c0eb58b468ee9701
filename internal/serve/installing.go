package serve

import (
	"context"
	"log/slog"
	"sync"

	"github.com/ingot-os/ingot/internal/updateapi"
)

// installs says how the installs of hosts go, each step once: machines report them
// again and again.
type installs struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[string]updateapi.Installing // by host, of those that are enrolled
}

func (i *installs) saw(ctx context.Context, host string, now *updateapi.Installing) {
	if now == nil || now.Phase == updateapi.InstallWriting && now.Disk == "" { // it still looks which
		return
	}
	step := *now
	if step.Phase == updateapi.InstallWriting {
		step.Detail = "" // the partition that it is at
	}
	i.mu.Lock()
	before, known := i.last[host]
	if i.last == nil {
		i.last = map[string]updateapi.Installing{}
	}
	i.last[host] = step
	i.mu.Unlock()
	if known && before == step {
		return
	}
	level := slog.LevelInfo
	if step.Phase != updateapi.InstallWriting && step.Detail != "" { // refused, failed, or without boot entries
		level = slog.LevelWarn
	}
	i.log.Log(ctx, level, "install", "host", host, "phase", step.Phase, "disk", step.Disk, "detail", step.Detail)
}
