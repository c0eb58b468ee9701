package serve

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// linesPerSecond bounds the log of boots: anybody on the network can send
// questions, and a disk that is full stops more than the log. A storm of 2,000
// machines that boot within a minute is below it.
const linesPerSecond = 500

// watchers pass each event on.
type watchers []netboot.Watcher

// Saw implements netboot.Watcher.
func (w watchers) Saw(e netboot.Event) {
	for _, x := range w {
		x.Saw(e)
	}
}

// boots writes a line for each step of a boot.
type boots struct {
	log     *slog.Logger
	skipped func(n int)

	mu     sync.Mutex
	second time.Time
	lines  int
}

// Saw implements netboot.Watcher.
func (b *boots) Saw(e netboot.Event) {
	level := slog.LevelInfo
	switch e.Stage {
	case netboot.Asked, netboot.Probed, netboot.Started: // of each boot there are several
		level = slog.LevelDebug
	case netboot.Broken:
		level = slog.LevelWarn
	}
	if !b.log.Enabled(context.Background(), level) {
		return
	}
	if !b.allow(e.Time) {
		b.skipped(1)
		return
	}
	b.log.LogAttrs(context.Background(), level, "boot", attributes(e)...)
}

// attributes are what is known of an event, and no more.
func attributes(e netboot.Event) []slog.Attr {
	list := []slog.Attr{slog.String("stage", string(e.Stage))}
	add := func(key, value string) {
		if value != "" {
			list = append(list, slog.String(key, value))
		}
	}
	if !e.MAC.IsZero() {
		add("mac", e.MAC.String())
	}
	add("host", e.Host)
	add("release", e.Release)
	if e.Addr.Addr().IsValid() {
		add("address", e.Addr.Addr().String())
	}
	add("method", string(e.Method))
	add("path", e.Path)
	if e.Size > 0 {
		list = append(list, slog.Int64("bytes", e.Bytes), slog.Int64("size", e.Size))
	}
	add("reason", e.Detail)
	return list
}

// allow counts the lines of a second.
func (b *boots) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := now.Truncate(time.Second); s != b.second {
		b.second, b.lines = s, 0
	}
	b.lines++
	return b.lines <= linesPerSecond
}

// verdicts counts what the attestation server says in its log.
type verdicts struct {
	slog.Handler
	m *metrics
}

// Handle implements slog.Handler.
func (h verdicts) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case "verdict":
		result := "refused"
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "trusted" && a.Value.Kind() == slog.KindBool && a.Value.Bool() {
				result = "trusted"
			}
			return true
		})
		h.m.verdicts.WithLabelValues(result).Inc()
	case "evidence rejected":
		h.m.verdicts.WithLabelValues("rejected").Inc()
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// Enabled implements slog.Handler: what is not written is counted, too.
func (h verdicts) Enabled(context.Context, slog.Level) bool { return true }

// named fills in what the path of a file says: boot/MAC/RELEASE.efi. A path is the
// client's word, as its MAC address is everywhere. What iPXE loads is told by the name
// that people know, without the directory that holds its files together.
type named struct{ netboot.Watcher }

// Saw implements netboot.Watcher.
func (n named) Saw(e netboot.Event) {
	dir, file, _ := strings.Cut(strings.TrimPrefix(e.Path, "boot/"), "/")
	if of, rest, deep := strings.Cut(file, "/"); deep && chain.IsDir(of) {
		file, e.Path = rest, "boot/"+dir+"/"+rest
	}
	if mac, err := netboot.ParseMAC(dir); err == nil && e.MAC.IsZero() {
		e.MAC = mac
	}
	if stem, ok := strings.CutSuffix(file, ".efi"); ok && e.Release == "" && !strings.Contains(stem, "/") {
		e.Release = stem
	}
	n.Watcher.Saw(e)
}
