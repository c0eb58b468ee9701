// Package hosttest is a machine that takes updates, in the process of a test:
// the real management listener, update client and state machine, over slots
// that are files. Firmware, journal and health checks are imitated.
//
//	m, err := hosttest.Start(hosttest.Options{Dir: t.TempDir(), Runs: old, Trust: anchors.Spec()})
//	defer m.Close()
//	client asks m.Addr() and sees m.Key()
package hosttest

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/ring"
	"github.com/ingot-os/ingot/internal/agent/updater"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/appliance"
)

// Layout of the disks.
const (
	layoutID = "esp128-slot8-state16"
	diskGUID = "0b2a1c5e-0000-4000-8000-00000000d15c"
)

// Options describe a machine.
type Options struct {
	Dir   string  // for its partitions
	Runs  Release // what it runs from slot a
	Trust *appliance.Trust
	// Trial says how a version behaves on trial: slot.NoCause for well.
	Trial func(version string) slot.Cause
	// Certificate is what an attestation server gave; nil: nothing.
	Certificate func() (certificate, key []byte)
	Listener    net.Listener // of the first boot; nil: on a free port of loopback
}

// Machine is a running machine.
type Machine struct {
	o      Options
	addr   string
	keeper *keeper
	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	key   string
	log   []string
	boots int
}

// Start starts a machine.
func Start(o Options) (*Machine, error) {
	if err := os.WriteFile(filepath.Join(o.Dir, "slot-a"), o.Runs.Bytes(), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "slot-b"), make([]byte, Size), 0o600); err != nil {
		return nil, err
	}
	l := o.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	m := &Machine{o: o, addr: l.Addr().String(), keeper: newKeeper(o.Runs.Content()), ended: make(chan struct{})}
	if err := m.keeper.boot(slot.A); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.live(ctx, l)
	return m, nil
}

// Addr is where the machine listens.
func (m *Machine) Addr() string { return m.addr }

// Key is the key that it shows now.
func (m *Machine) Key() string {
	for range 500 { // it is made at the start of each boot
		m.mu.Lock()
		key := m.key
		m.mu.Unlock()
		if key != "" {
			return key
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

// Log is what the machine has logged.
func (m *Machine) Log() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.log, "\n")
}

// Boots counts the starts after the first.
func (m *Machine) Boots() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boots
}

// Slot is the content of a slot.
func (m *Machine) Slot(s slot.Slot) ([]byte, error) {
	return os.ReadFile(filepath.Join(m.o.Dir, s.Role()))
}

// Spoil changes a byte of a slot.
func (m *Machine) Spoil(s slot.Slot, off int64) error {
	f, err := os.OpenFile(filepath.Join(m.o.Dir, s.Role()), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{b[0] ^ 1}, off)
	return err
}

// Close stops the machine.
func (m *Machine) Close() {
	m.cancel()
	<-m.ended
}

// live runs boot after boot.
func (m *Machine) live(ctx context.Context, l net.Listener) {
	defer close(m.ended)
	for {
		m.boot(ctx, l)
		if ctx.Err() != nil {
			return
		}
		m.logf("reset")
		for l = nil; l == nil && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			l, _ = net.Listen("tcp", m.addr)
		}
		if ctx.Err() != nil {
			return
		}
		if err := m.keeper.boot(m.choose()); err != nil {
			m.logf("boot: %v", err)
		}
	}
}

// choose is the firmware: BootNext, then the good slot, each when it loads.
func (m *Machine) choose() slot.Slot {
	m.mu.Lock()
	m.boots++
	m.mu.Unlock()
	next := m.keeper.next
	m.keeper.next = slot.None
	if next != slot.None && m.loads(next) {
		return next
	}
	return m.keeper.journal.Good
}

// loads says whether a slot has its first bytes.
func (m *Machine) loads(s slot.Slot) bool {
	b, err := m.Slot(s)
	return err == nil && strings.Trim(string(b[:slot.HeaderSize]), "\x00") != ""
}

// boot serves until the machine resets or the context ends.
func (m *Machine) boot(ctx context.Context, l net.Listener) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	m.key = ""
	m.mu.Unlock()
	done := make(chan struct{})
	go func() { defer close(done); updater.Run(ctx, m.machine(l)) }()
	go m.trial()
	select {
	case <-m.keeper.reset:
	case <-ctx.Done():
	}
	cancel()
	<-done
}

// trial checks a candidate's health, twice.
func (m *Machine) trial() {
	s := m.keeper.State()
	if s.Phase != slot.Trying {
		return
	}
	version, cause := s.Of(s.Running).Version, slot.NoCause
	if m.o.Trial != nil {
		cause = m.o.Trial(version)
	}
	for i := range 3 {
		time.Sleep(50 * time.Millisecond)
		e := slot.Event{Kind: slot.Checked, OK: cause == slot.NoCause, Cause: cause, Uptime: time.Duration(1 + i)}
		if !e.OK {
			e.Detail = "version " + version + " does not do what it should"
		}
		if err := m.keeper.Handle(e); err != nil {
			m.logf("checked: %v", err)
		}
	}
}

func (m *Machine) logf(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *Machine) machine(l net.Listener) updates.Machine {
	parts := map[string]string{}
	for _, role := range Roles {
		parts[role] = role
	}
	return updates.Machine{
		Spec: appliance.Spec{Format: 1, Name: m.o.Runs.Name, Arch: "amd64", Trust: m.o.Trust, Update: &appliance.Update{},
			Layout: appliance.Layout{ID: layoutID, Disk: diskGUID, Part: parts}},
		Keeper: m.keeper, Listener: l, Certificate: m.o.Certificate, Now: time.Now, Logf: m.logf, Problem: m.logf,
		Server: func() (string, string) { return "", "" },
		Partition: func(role string) (string, int64, error) {
			if _, ok := parts[role]; !ok {
				return "", 0, fs.ErrNotExist
			}
			return filepath.Join(m.o.Dir, role), Size, nil
		},
		Plain: m.plain,
		Shows: func(key string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.key = key
		},
	}
}

// plain answers as every machine does, as far as it matters here.
func (m *Machine) plain(r http1.Request) http1.Response {
	if r.Path == "/v1/logs" {
		s := listener.Server{Logs: ring.New(0), Failed: m.keeper.failedLog}
		return s.Handle(r)
	}
	if r.Path != "/v1/status" {
		return http1.Text(404, "not found")
	}
	s := listener.Status{Name: m.o.Runs.Name}
	m.mu.Lock()
	s.Management.Key = m.key
	m.mu.Unlock()
	b, err := json.Marshal(s)
	if err != nil {
		return http1.Text(500, err.Error())
	}
	return http1.Response{Status: 200, Type: "application/json", Body: b}
}
