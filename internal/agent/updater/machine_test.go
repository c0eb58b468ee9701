package updater

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
)

const mib = 1 << 20

// sizes of the test machine's partitions, in bytes.
var sizes = map[string]int64{"slot-a": 24 * mib, "slot-b": 24 * mib, "root-a": 8 * mib, "root-b": 8 * mib}

// keeper is the state machine of boot/slot with a journal in memory.
type keeper struct {
	mu       sync.Mutex
	state    slot.State
	host     slot.Host
	journal  slot.Record
	list     []slot.Rejection
	saved    []byte
	basis    slot.Digest // image that a baseline is kept for
	fill     func(slot.Action)
	report   func(updateapi.Slots)
	resets   int
	reset    chan struct{} // told of each reset
	notices  []string
	lockHeld bool // another machine has the reboot lock
}

func newKeeper(running slot.Content) *keeper {
	k := &keeper{reset: make(chan struct{}, 10)}
	running.Condition = slot.Good
	k.journal = slot.Record{Good: slot.A, Slots: [2]slot.Content{running, {}}}
	k.host.Do = k.do
	for i := range k.host.Actuators {
		k.host.Actuators[i] = k
	}
	k.boot(slot.A)
	return k
}

// boot starts a slot: what was only in memory is gone.
func (k *keeper) boot(s slot.Slot) {
	k.mu.Lock() // the boot before has ended
	k.state = slot.State{Record: k.journal, Rejections: k.list}
	k.mu.Unlock()
	k.Handle(slot.Event{Kind: slot.Booted, Boot: slot.Boot{Running: s, Baseline: k.basis, View: slot.View{Entries: true, Order: []slot.Slot{slot.A, slot.B}}}})
}

func (k *keeper) SetDefault(slot.Slot, slot.Slot) error { return nil }
func (k *keeper) SetNext(slot.Slot) error               { return nil }
func (k *keeper) Launch(slot.Slot) error                { return nil }

func (k *keeper) do(a slot.Action) error {
	switch a.Do {
	case slot.WriteJournal:
		if _, err := a.Record.AppendBinary(nil); err != nil {
			return err
		}
		k.journal = a.Record
	case slot.WriteRejected:
		k.list = a.Rejections
	case slot.KeepBaseline:
		k.basis = a.Release.Image
	case slot.Fill, slot.Recover:
		k.fill(a)
	case slot.TakeLock:
		if k.lockHeld {
			return fmt.Errorf("another machine has it")
		}
	case slot.Reset:
		k.resets++
		k.reset <- struct{}{}
	case slot.Report:
		k.notices = append(k.notices, a.Detail)
	}
	return nil
}

func (k *keeper) State() slot.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

func (k *keeper) Handle(e slot.Event) (err error) {
	k.mu.Lock()
	k.state, err = k.host.Handle(k.state, e)
	report, s := k.report, k.slots()
	k.mu.Unlock()
	if report != nil {
		report(s)
	}
	return err
}

func (k *keeper) slots() updateapi.Slots {
	return updateapi.Slots{Good: letter(k.state.Good), Phase: k.state.Phase.String(), Why: k.state.Why()}
}

func (k *keeper) Slots() updateapi.Slots {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.slots()
}

func (k *keeper) OnFill(f func(slot.Action))       { k.fill = f }
func (k *keeper) OnReport(f func(updateapi.Slots)) { k.report = f }

func (k *keeper) SaveProgress(b []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saved = bytes.Clone(b)
	return nil
}

func (k *keeper) Progress() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return bytes.Clone(k.saved)
}

// image is the content of a partition: some MiB of noise, then zeros.
func image(seed byte, used, size int64) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b[:used])
	return b
}

// rel is a release with its bytes.
type rel struct {
	version    string
	slot, root []byte
	epoch      int
	built      int64 // build epoch
	layout     string
}

func (r rel) content() slot.Content {
	return slot.Content{Version: r.version, Image: sha256.Sum256(r.slot), Root: sha256.Sum256(r.root), Epoch: uint32(r.epoch)}
}

func signer() ed25519.PrivateKey { return ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", 32))) }

// manifest signs it with a key.
func (r rel) manifest(t testing.TB, key ed25519.PrivateKey) []byte {
	t.Helper()
	m := &release.Manifest{
		Format: release.Format, Name: "hello", Version: r.version, Arch: "amd64", Epoch: r.built, SecurityEpoch: r.epoch, Root: &release.Root{Format: "squashfs"},
		Disk: release.Disk{Layout: "l" + r.layout, SectorSize: 512, Size: 200 * mib, GUID: "disk"},
	}
	at := int64(mib)
	for i, role := range []string{"slot-a", "slot-b", "root-a", "root-b"} {
		data := r.slot
		if strings.HasPrefix(role, "root") {
			data = r.root
		}
		m.Disk.Partitions = append(m.Disk.Partitions, release.Partition{Index: i, Role: role, GUID: role, Start: at, Size: int64(len(data)), SHA256: fmt.Sprintf("%x", sha256.Sum256(data))})
		at += int64(len(data))
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s, err := dsse.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	env, err := dsse.Sign(dsse.TypeManifest, b, s)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

var (
	old   = rel{version: "1.0", slot: image(1, 10*mib+5, 24*mib), root: image(2, 3*mib, 8*mib), epoch: 1}
	fresh = rel{version: "2.0", slot: image(3, 21*mib+777, 24*mib), root: image(4, 5*mib+1, 8*mib), epoch: 2}
)

// before is what slot b holds until an update comes.
var before = image(9, mib, 24*mib)

// bench is a machine in a directory: partitions are files.
type bench struct {
	t        testing.TB
	dir      string
	keeper   *keeper
	updater  *Updater
	machine  updates.Machine
	mu       sync.Mutex
	problems []string
	log      []string
}

// newBench runs version 1.0 from slot a; slot b holds something that starts.
func newBench(t testing.TB) *bench {
	b := &bench{t: t, dir: t.TempDir(), keeper: newKeeper(old.content())}
	b.put("slot-a", old.slot)
	b.put("root-a", old.root)
	b.put("slot-b", before)
	b.put("root-b", image(10, mib, sizes["root-b"]))
	der, err := x509.MarshalPKIXPublicKey(signer().Public())
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for role := range sizes {
		parts[role] = role
	}
	b.machine = updates.Machine{
		Spec: appliance.Spec{
			Format: 1, Name: "hello", Version: "1.0", Arch: "amd64", Epoch: 1000, Root: &appliance.Root{}, Update: &appliance.Update{},
			Layout: appliance.Layout{ID: "l", Disk: "disk", Part: parts}, Trust: &appliance.Trust{Image: [][]byte{der}, Threshold: 1},
		},
		Keeper: b.keeper,
		Partition: func(role string) (string, int64, error) {
			if _, ok := sizes[role]; !ok {
				return "", 0, fs.ErrNotExist
			}
			return filepath.Join(b.dir, role), sizes[role], nil
		},
		Now:     time.Now,
		Problem: func(f string, a ...any) { b.note(&b.problems, f, a...) },
		Logf:    func(f string, a ...any) { b.note(&b.log, f, a...) },
	}
	b.start()
	return b
}

func (b *bench) note(to *[]string, f string, a ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*to = append(*to, fmt.Sprintf(f, a...))
}

// start makes the client anew, as a boot does.
func (b *bench) start() {
	b.updater = New(b.machine)
	b.updater.grace, b.updater.again, b.updater.lookTry = time.Millisecond, time.Millisecond, time.Millisecond
}

func (b *bench) put(role string, data []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, role), data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) get(role string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, role))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// holds compares a partition with what it should hold.
func (b *bench) holds(role string, want []byte) {
	b.t.Helper()
	if !bytes.Equal(b.get(role), want) {
		b.t.Errorf("%s holds something else", role)
	}
}

// startable says whether firmware could start a slot: its header is not zero.
func (b *bench) startable(role string) bool { return !isZero(b.get(role)[:slot.HeaderSize]) }

func (b *bench) offer(r rel) updateapi.Progress {
	b.t.Helper()
	p, err := b.updater.Offer(updateapi.Offer{Manifest: r.manifest(b.t, signer())})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func used(b []byte) []byte { return bytes.TrimRight(b, "\x00") }
