package verifier

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	agentslots "github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/agent/updater"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// journal is updates.Keeper with the journal in memory.
type journal struct {
	mu     sync.Mutex
	state  slot.State
	host   slot.Host
	record slot.Record
	list   []slot.Rejection
	saved  []byte
	basis  slot.Digest // image that a baseline is kept for
	fill   func(slot.Action)
	report func(updateapi.Slots)
	resets chan struct{}
}

func newJournal(running slot.Content) *journal {
	j := &journal{resets: make(chan struct{}, 10), record: slot.Record{Good: slot.A, Slots: [2]slot.Content{running, {}}}}
	j.host.Do, j.host.Rules.Tries = j.do, 1
	for i := range j.host.Actuators {
		j.host.Actuators[i] = j
	}
	return j
}

// boots starts a slot: what was only in memory is gone.
func (j *journal) boots(s slot.Slot, evidence ...slot.Evidence) error {
	j.mu.Lock()
	j.state = slot.State{Record: j.record, Rejections: j.list}
	j.mu.Unlock()
	return j.Handle(slot.Event{Kind: slot.Booted, Boot: slot.Boot{Running: s, Evidence: evidence, Baseline: j.basis, View: slot.View{Entries: true, Order: []slot.Slot{slot.A, slot.B}}}})
}

func (j *journal) SetDefault(slot.Slot, slot.Slot) error { return nil }
func (j *journal) SetNext(slot.Slot) error               { return nil }
func (j *journal) Launch(slot.Slot) error                { return nil }

func (j *journal) do(a slot.Action) error {
	switch a.Do {
	case slot.WriteJournal:
		j.record = a.Record
	case slot.WriteRejected:
		j.list = a.Rejections
	case slot.KeepBaseline:
		j.basis = a.Release.Image
	case slot.Fill, slot.Recover:
		j.fill(a)
	case slot.Reset:
		j.resets <- struct{}{}
	}
	return nil
}

func (j *journal) State() slot.State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state
}

func (j *journal) Handle(e slot.Event) (err error) {
	j.mu.Lock()
	j.state, err = j.host.Handle(j.state, e)
	report, s := j.report, agentslots.Describe(j.state, slot.JournalRead)
	j.mu.Unlock()
	if report != nil {
		report(s)
	}
	return err
}

func (j *journal) Slots() updateapi.Slots {
	j.mu.Lock()
	defer j.mu.Unlock()
	return agentslots.Describe(j.state, slot.JournalRead)
}

func (j *journal) OnFill(f func(slot.Action)) { j.fill = f }

func (j *journal) OnReport(f func(updateapi.Slots)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report = f
}

func (j *journal) SaveProgress(b []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.saved = bytes.Clone(b)
	return nil
}

func (j *journal) Progress() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.saved)
}

// follower is a machine with the real update client, and partitions that are
// files.
type follower struct {
	*shop
	journal *journal
	dir     string
	stop    func()
	mu      sync.Mutex
	log     []string
}

func follow(x *shop) *follower {
	f := &follower{shop: x, dir: x.t.TempDir(), stop: func() {}}
	content := make([]byte, slotSize)
	copy(content, first.slotContent())
	f.journal = newJournal(slot.Content{Version: first.version, Image: sha256.Sum256(content), Epoch: 1, Condition: slot.Good})
	writeFiles(x.t, f.dir, map[string]string{"slot-a": string(content), "slot-b": strings.Repeat("x", slotSize)})
	return f
}

// starts is a boot: the journal judges it, the update client begins.
func (f *follower) starts(s slot.Slot, evidence ...slot.Evidence) {
	f.t.Helper()
	f.stop()
	if err := f.journal.boots(s, evidence...); err != nil {
		f.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	image, err := x509.MarshalPKIXPublicKey(f.signer.Public())
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(f.cert.PrivateKey)
	if err != nil {
		f.t.Fatal(err)
	}
	var chain []byte
	for _, der := range f.cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	m := updates.Machine{
		Spec: appliance.Spec{Format: 1, Name: first.name, Version: first.version, Arch: first.arch, Attest: &appliance.Attest{},
			Update: &appliance.Update{Pull: true, Interval: appliance.Duration(time.Second)},
			Layout: appliance.Layout{ID: first.layout, Disk: "disk", Part: map[string]string{"slot-a": "guid-a", "slot-b": "guid-b"}},
			Trust:  &appliance.Trust{Image: [][]byte{image}, Threshold: 1, Server: [][]byte{f.servers.Certificate.Raw}}},
		Keeper: f.journal,
		Partition: func(role string) (string, int64, error) {
			info, err := os.Stat(filepath.Join(f.dir, role))
			if err != nil {
				return "", 0, err
			}
			return filepath.Join(f.dir, role), info.Size(), nil
		},
		Server:      func() (string, string) { return "https://" + f.address, "recipe" },
		Certificate: func() ([]byte, []byte) { return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}) },
		Now:         time.Now, Listener: l, Problem: f.note, Logf: f.note,
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		updater.Run(ctx, m)
	}()
	f.stop = func() {
		cancel()
		l.Close()
		<-done
	}
}

func (f *follower) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

// until waits for what an operator would see.
func (f *follower) until(what string, fn func(*Detail) bool) *Detail {
	f.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		d := f.detail("a")
		if fn(d) {
			return d
		}
		if time.Now().After(deadline) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Fatalf("%s: never; slots %+v, withheld %v, the machine says %q", what, d.Slots, d.Withheld, f.log)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (f *follower) reset(what string) {
	f.t.Helper()
	select {
	case <-f.journal.resets:
	case <-time.After(30 * time.Second):
		f.mu.Lock()
		defer f.mu.Unlock()
		f.t.Fatalf("%s: the machine does not reset; it says %q", what, f.log)
	}
}

func (f *follower) holds(role string, m made) {
	f.t.Helper()
	if got := readFile(f.t, filepath.Join(f.dir, role)); sum(got) != m.slotDigest() {
		f.t.Errorf("%s holds something else than %s", role, m.version)
	}
}

// TestLoop is the whole way with the real client: enrolled, trusted, assigned,
// pulled by a patch, staged, reported, approved, tried; failed, reported, and
// not offered again; offered once more by hand, and blessed.
func TestLoop(t *testing.T) {
	t.Parallel()
	x := open(t, func(o *Options) {
		o.Interval = time.Second
		o.Limits.HostRate = Rate{Burst: 100, PerSecond: 10}
		o.Limits.ReportRate = Rate{Burst: 100, PerSecond: 10}
	})
	attest, stopped := time.NewTicker(700*time.Millisecond), make(chan struct{}) // the machine's attester
	defer attest.Stop()
	var attester sync.WaitGroup
	attester.Go(func() {
		for {
			select {
			case <-attest.C:
				x.m.attest(x.channel, "a")
			case <-stopped:
				return
			}
		}
	})
	defer attester.Wait()
	defer close(stopped)
	f := follow(x)
	defer func() { f.stop() }()
	f.starts(slot.A)
	f.until("reported", func(d *Detail) bool { return d.Slots != nil && d.Slots.Slots.Phase == "IDLE" })
	x.assigns("1.1.0")
	d := f.until("staged", func(d *Detail) bool { return d.Slots.Slots.Phase == "STAGED" })
	if b := d.Update.Brief; b.Good != "a" || b.Version != "1.0.0" || b.Next != "1.1.0" {
		t.Errorf("%+v", b)
	}
	f.holds("slot-b", next)
	f.holds("slot-a", first)
	if files, err := os.ReadDir(x.patches); err != nil || len(files) != 1 {
		t.Errorf("it came without a patch: %v, %v", files, err)
	}
	x.assigns("1.1.0", func(a *Action) { a.Approved = true })
	f.reset("approved")
	if s := f.journal.State(); s.Phase != slot.Armed {
		t.Errorf("%v", s.Phase)
	}

	f.starts(slot.B)
	for _, at := range []time.Duration{time.Second, time.Hour} {
		if err := f.journal.Handle(slot.Event{Kind: slot.Checked, Uptime: at, Cause: slot.Unhealthy, Detail: "web does not answer"}); err != nil {
			t.Fatal(err)
		}
	}
	f.reset("failed")
	f.starts(slot.A)
	d = f.until("rejected", func(d *Detail) bool { return d.Withheld != nil && d.Withheld.Code == updateapi.IsRejected })
	if d.Update.Cause != "unhealthy" || d.Slots.Slots.Good != "a" || !strings.Contains(strings.Join(d.Slots.Slots.Why, " "), "1.1.0") {
		t.Errorf("%+v", d.Slots.Slots)
	}
	x.assigns("1.1.0", func(a *Action) { a.Approved, a.Override = true, true })
	f.reset("offered once more")
	d = f.until("the override is used", func(d *Detail) bool { return d.Update.Assignment != nil && !d.Update.Assignment.Override })
	if d.Withheld != nil && d.Withheld.Code != assign.Untrusted {
		t.Errorf("%+v", d.Withheld)
	}
	f.starts(slot.B)
	for at := time.Second; f.journal.State().Phase == slot.Trying && at < time.Hour; at += 10 * time.Second {
		if err := f.journal.Handle(slot.Event{Kind: slot.Checked, OK: true, Uptime: at}); err != nil {
			t.Fatal(err)
		}
	}
	f.until("blessed", func(d *Detail) bool { return d.Slots.Slots.Good == "b" && d.Update.Version == "1.1.0" })
	kinds := x.kinds("a")
	for _, want := range []audit.Kind{audit.KindSlots, audit.KindAssigned} {
		if !slices.Contains(kinds, want) {
			t.Errorf("no %s in the record: %v", want, kinds)
		}
	}
}
