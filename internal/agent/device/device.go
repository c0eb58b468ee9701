// Package device loads the kernel modules of the machine's devices: those that
// a recipe names, then by modalias those of all devices present, then those of
// devices that appear. It offers one thing to the rest of init: Wait, which
// returns as soon as a condition on the devices holds.
//
// Modules are uncompressed .ko files under lib/modules/RELEASE with depmod's
// modules.dep and modules.alias. There is no blacklist and there are no module
// options other than those on the kernel command line (the kernel applies
// module.option= itself for built-in modules only).
package device

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Manager is the machine's devices. Make it with New, then Run.
type Manager struct {
	sysfs   string
	loader  *loader
	aliases *Aliases
	errorf  func(format string, args ...any)
	spawn   func(func())

	mu      sync.Mutex
	seen    map[string]bool // modaliases that were looked up
	changed chan struct{}   // closed and replaced at every event
	settled chan struct{}   // closed after the first coldplug
}

// Options configure New.
type Options struct {
	Release string // kernel release
	Root    string // of /lib/modules; "" = /
	Sysfs   string // "" = /sys
	// Errorf is told of modules that do not load. A device without its driver
	// is no reason to stop a machine.
	Errorf func(format string, args ...any)
	// Go runs a function on a goroutine of its own; nil = a plain one.
	Go func(func())
}

// New reads the module indexes. A machine without modules gets a Manager that
// loads nothing: its drivers are built in.
func New(o Options) (*Manager, error) {
	m := &Manager{
		sysfs: or(o.Sysfs, "/sys"), errorf: o.Errorf, aliases: &Aliases{},
		seen: map[string]bool{}, changed: make(chan struct{}), settled: make(chan struct{}),
	}
	if m.spawn = o.Go; m.spawn == nil {
		m.spawn = func(f func()) { go f() }
	}
	dir := filepath.Join("/", o.Root, "lib/modules", o.Release)
	var err error
	if m.loader, err = newLoader(dir); err != nil {
		return m, err
	}
	f, err := os.Open(filepath.Join(dir, "modules.alias"))
	if os.IsNotExist(err) && len(m.loader.modules) == 0 {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	defer f.Close()
	m.aliases, err = ReadAliases(f)
	m.loader.resolve = m.aliases.Match
	return m, err
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Load loads a module and what it depends on. Loading a module twice is fine.
// The error is fs.ErrNotExist for one that is neither in the image nor in the kernel.
func (m *Manager) Load(name string) error { return m.loader.Load(name) }

// Run loads the named modules in order, then those of all present devices,
// then follows the events of s until the context ends.
func (m *Manager) Run(ctx context.Context, s *Socket, modules []string) error {
	events := make(chan error, 1)
	m.spawn(func() { events <- s.Run(ctx, m.event) })
	for _, name := range modules {
		m.load(name)
	}
	m.coldplug()
	close(m.settled)
	m.broadcast()
	return <-events
}

// IsSettled reports whether the drivers of all devices that were present at
// the start are loaded. Their own children (disks behind a controller) may
// still appear.
func (m *Manager) IsSettled() bool {
	select {
	case <-m.settled:
		return true
	default:
		return false
	}
}

func (m *Manager) load(name string) {
	if err := m.Load(name); err != nil && m.errorf != nil {
		m.errorf("load module %s: %v", name, err)
	}
}

// coldplug loads the drivers of all present devices at the same time: most of
// a probe is waiting for hardware.
func (m *Manager) coldplug() {
	files, _ := filepath.Glob(filepath.Join(m.sysfs, "bus/*/devices/*/modalias"))
	var wg sync.WaitGroup
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // gone again
		}
		for _, name := range m.modules(strings.TrimSpace(string(b))) {
			wg.Add(1)
			m.spawn(func() {
				defer wg.Done()
				m.load(name)
			})
		}
	}
	wg.Wait()
}

// modules returns the modules of an alias the first time it is asked.
func (m *Manager) modules(alias string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if alias == "" || m.seen[alias] {
		return nil
	}
	m.seen[alias] = true
	// modules.alias may name modules that are not in the image.
	return slices.DeleteFunc(m.aliases.Match(alias), func(name string) bool { return !m.loader.knows(name) })
}

func (m *Manager) event(ev Uevent) {
	if ev.Action == "" {
		m.coldplug()
	}
	if ev.Action == "add" {
		for _, name := range m.modules(ev.Env["MODALIAS"]) {
			// Not on this goroutine: a module that waits for firmware or for
			// hardware must not hold up the events it causes.
			m.spawn(func() { m.load(name) })
		}
	}
	m.broadcast()
}

func (m *Manager) broadcast() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// Wait returns true as soon as cond does; cond is asked at once and again
// after every device event. It returns false after the limit or when the
// context ends.
func (m *Manager) Wait(ctx context.Context, limit time.Duration, cond func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		if cond() {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return cond()
		case <-ctx.Done():
			return false
		}
	}
}
