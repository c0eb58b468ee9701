package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/disk"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/state"
)

// TestUpdateClientPanics: what speaks to the network cannot end the machine.
func TestUpdateClientPanics(t *testing.T) {
	m := testMachine(t)
	m.options.Update = func(context.Context, updates.Machine) { panic("a bad answer") }
	m.updateOnce(updates.Machine{})
	if !slices.ContainsFunc(m.problems, func(p string) bool { return strings.Contains(p, "a bad answer") }) {
		t.Errorf("the problems are %q", m.problems)
	}
}

// TestListenerWithoutSlots: a machine that cannot be updated still answers, and
// says why.
func TestListenerWithoutSlots(t *testing.T) {
	for name, c := range map[string]struct {
		update func(context.Context, updates.Machine)
		keeper *slots.Keeper
		want   string
	}{
		"no slots":      {func(context.Context, updates.Machine) { t.Error("the client was started") }, nil, "not started from a slot"},
		"plain variant": {nil, &slots.Keeper{}, "wrong variant"},
	} {
		t.Run(name, func(t *testing.T) {
			m := idleMachine(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m.ctx, m.judged, m.options.Update, m.keeper = ctx, make(chan struct{}), c.update, c.keeper
			m.spec.Update = &appliance.Update{}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { m.serveUpdates("127.0.0.1:0", l); close(done) }()
			close(m.judged)
			client := http.Client{Timeout: 10 * time.Second}
			r, err := client.Get("http://" + l.Addr().String() + "/v1/nothing")
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != 404 || !strings.Contains(string(b), "/v1/slots") {
				t.Errorf("%d %s", r.StatusCode, b)
			}
			cancel()
			<-done
			m.mu.Lock()
			defer m.mu.Unlock()
			if !slices.ContainsFunc(m.problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("the problems are %q", m.problems)
			}
		})
	}
}

// journalled is a machine with a disk whose journal says this.
func journalled(t *testing.T, r *slot.Record) *Machine {
	t.Helper()
	sys, dev := t.TempDir(), t.TempDir()
	l, err := partition.Plan(partition.Spec{Name: "test", ESP: 64 << 20, Slot: 64 << 20, Data: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	put := func(file, text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	whole := filepath.Join(dev, "vda")
	f, err := os.Create(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(l.Size), partition.Write(f, l, nil)); err != nil {
		t.Fatal(err)
	}
	block := filepath.Join(sys, "class/block/vda")
	put(filepath.Join(block, "size"), fmt.Sprint(l.Size/512))
	part, _ := l.Part(partition.State)
	name := fmt.Sprint("vdap", part.Index)
	put(filepath.Join(block, name, "partition"), fmt.Sprint(part.Index))
	put(filepath.Join(dev, name), "")
	p, err := os.OpenFile(filepath.Join(dev, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Truncate(state.Size); err != nil {
		t.Fatal(err)
	}
	if r != nil {
		b, err := r.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := state.Store(p, state.Journal, b); err != nil {
			t.Fatal(err)
		}
	}
	m := testMachine(t)
	finder := disk.Finder{Sysfs: sys, Dev: dev}
	if m.disk, err = finder.Find(part.GUID.String(), appliance.Layout{}); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestKeeperPanics: a machine that cannot judge its boot goes on where a reset
// would lead to the same again, and ends the boot of a slot that is tried.
func TestKeeperPanics(t *testing.T) {
	of := func(phase slot.Phase, candidate slot.Slot) *slot.Record {
		return &slot.Record{Good: slot.A, Candidate: candidate, Phase: phase, Slots: [2]slot.Content{{Version: "1", Condition: slot.Good}, {Version: "2", Condition: slot.Good}}}
	}
	for name, c := range map[string]struct {
		journal *slot.Record
		running slot.Slot
		ends    bool
	}{
		"no journal":                    {nil, slot.B, false},
		"the good slot":                 {of(slot.Idle, slot.None), slot.A, false},
		"the fallback of a broken one":  {of(slot.Idle, slot.None), slot.B, false},
		"a staged slot that was chosen": {of(slot.Staged, slot.B), slot.B, false},
		"the selector":                  {of(slot.Idle, slot.None), slot.None, false},
		"the selector in an update":     {of(slot.Armed, slot.B), slot.None, false},
		"the good slot in an update":    {of(slot.Armed, slot.B), slot.A, false},
		"armed":                         {of(slot.Armed, slot.B), slot.B, true},
		"trying":                        {of(slot.Trying, slot.B), slot.B, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := journalled(t, c.journal)
			if _, _, err := m.loadState(state.Journal); (err == nil) != (c.journal != nil) {
				t.Fatalf("the journal: %v", err)
			}
			m.keeper = &slots.Keeper{}
			ended := func() (ended bool) {
				defer func() { ended = recover() != nil }()
				m.withoutKeeper(c.running, func() { panic("a strange disk") })
				return
			}()
			if ended != c.ends {
				t.Fatalf("the boot ends: %t, want %t", ended, c.ends)
			}
			if told := slices.ContainsFunc(m.problems, func(p string) bool { return strings.Contains(p, "a strange disk") }); told == ended || (m.slots() == nil) == ended {
				t.Errorf("the problems are %q, the keeper %p", m.problems, m.slots())
			}
		})
	}
}

// TestSelectorPanics: going on from the ESP is better than the same panic at each
// boot.
func TestSelectorPanics(t *testing.T) {
	m := testMachine(t)
	m.enterRole(partESP) // without a disk, which findRole would not do
	if b := m.Status().Boot; b.Role != roleAppliance || b.Path != roleSelector || b.Slot != "" {
		t.Errorf("%+v", b)
	}
	for _, want := range []string{"judging this boot has failed: runtime error", "going on from the ESP"} {
		if !slices.ContainsFunc(m.problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("the problems are %q, want %q", m.problems, want)
		}
	}
}
