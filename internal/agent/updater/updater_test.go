package updater

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"crypto/ed25519"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/delta"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/updateapi"
)

func code(err error) string {
	var e *updateapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

// send writes a part as a client does: what the machine wants, without the zeros
// at the end.
func (b *bench) send(r rel, part, coding string) (updateapi.Progress, error) {
	b.t.Helper()
	p := b.offer(r)
	if len(p.Wants) == 0 || p.Wants[0].Part != part {
		b.t.Fatalf("the machine wants %+v, not %s", p.Wants, part)
	}
	data := used(r.slot)
	if part == updateapi.PartRoot {
		data = used(r.root)
	}
	return b.updater.Write(part, p.Wants[0].From, coding, b.encode(part, coding, data[min(p.Wants[0].From, int64(len(data))):]))
}

func (b *bench) encode(part, coding string, data []byte) io.Reader {
	b.t.Helper()
	switch coding {
	case updateapi.CodingZstd:
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			b.t.Fatal(err)
		}
		return bytes.NewReader(e.EncodeAll(data, nil))
	case updateapi.CodingDelta:
		var patch bytes.Buffer
		base := b.get(part + "-a")
		whole := append(bytes.Clone(data), make([]byte, len(base)-len(data))...)
		if _, err := delta.Make(&patch, delta.Image{ReaderAt: bytes.NewReader(base), Size: int64(len(base))}, delta.Image{ReaderAt: bytes.NewReader(whole), Size: int64(len(whole))}); err != nil {
			b.t.Fatal(err)
		}
		return &patch
	}
	return bytes.NewReader(data)
}

func (b *bench) staged(r rel) {
	b.t.Helper()
	s := b.keeper.State()
	if s.Phase != slot.Staged || s.Candidate != slot.B || s.Of(slot.B).Version != r.version || s.Of(slot.B).Condition != slot.Ready {
		b.t.Errorf("%v, %v, %+v; want staged", s.Phase, s.Candidate, s.Of(slot.B))
	}
	b.holds("slot-b", r.slot)
	b.holds("root-b", r.root)
	b.holds("slot-a", old.slot)
	b.holds("root-a", old.root)
}

func TestUpdate(t *testing.T) {
	for _, coding := range []string{updateapi.CodingIdentity, updateapi.CodingZstd, updateapi.CodingDelta} {
		t.Run(coding, func(t *testing.T) {
			b := newBench(t)
			r := fresh
			if coding == updateapi.CodingDelta { // something that a patch is for
				r.slot, r.root = bytes.Clone(old.slot), bytes.Clone(old.root)
				r.slot[100], r.slot[9*mib], r.root[mib] = 'x', 'y', 'z'
			}
			p := b.offer(r)
			if p.Slot != "b" || p.Phase != "STAGING" || len(p.Wants) != 2 || p.Wants[0].Base == "" {
				t.Fatalf("%+v", p)
			}
			if b.startable("slot-b") {
				t.Fatal("the slot starts while its root is replaced")
			}
			if _, err := b.updater.Write("slot", 0, coding, strings.NewReader("x")); code(err) != updateapi.NotAllowed {
				t.Errorf("the slot before the root: %v", err)
			}
			if p, err := b.send(r, "root", coding); err != nil || len(p.Wants) != 1 {
				t.Fatalf("%+v, %v", p, err)
			}
			if b.startable("slot-b") {
				t.Fatal("the slot starts before it is written")
			}
			if p, err := b.send(r, "slot", coding); err != nil || len(p.Wants) != 0 || p.Phase != "STAGED" {
				t.Fatalf("%+v, %v", p, err)
			}
			b.staged(r)
			if p := b.offer(r); len(p.Wants) != 0 || p.Phase != "STAGED" {
				t.Errorf("offered again: %+v", p)
			}
			if p, err := b.updater.Approve("ann"); err != nil || p.Phase != "ARMED" {
				t.Fatalf("%+v, %v", p, err)
			}
			<-b.keeper.reset
			if s := b.keeper.State(); s.Phase != slot.Armed {
				t.Errorf("%v", s.Phase)
			}
		})
	}
}

// An approved offer is tried once its last byte is right, after the answer.
func TestApprovedOffer(t *testing.T) {
	b := newBench(t)
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer()), Approve: true}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"root", "slot"} {
		if _, err := b.send(fresh, part, "zstd"); err != nil {
			t.Fatal(err)
		}
	}
	<-b.keeper.reset
	if k := parseKept(b.keeper.Progress()); !k.Approved || !k.is(slot.B, fresh.content()) {
		t.Errorf("the approval is not remembered: %+v", k)
	}
}

// cutter ends a body with an error after some bytes, unless it ends before.
func cutter(t testing.TB, r io.Reader, n int64) io.Reader {
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) <= n {
		return bytes.NewReader(b)
	}
	return io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(io.ErrUnexpectedEOF))
}

// A transfer is cut in every MiB, and by a reset each other time. It goes on
// from what was flushed, and ends in the right bytes.
func TestCutAtEveryChunk(t *testing.T) {
	for _, coding := range []string{updateapi.CodingIdentity, updateapi.CodingZstd} {
		t.Run(coding, func(t *testing.T) {
			b := newBench(t)
			b.offer(fresh)
			resumed := 0
			for cuts := 0; ; cuts++ {
				p := b.offer(fresh)
				if len(p.Wants) == 0 {
					break
				}
				w := p.Wants[0]
				if w.From > 0 {
					resumed++
				}
				data := used(fresh.slot)
				if w.Part == "root" {
					data = used(fresh.root)
				}
				body := b.encode(w.Part, coding, data[min(w.From, int64(len(data))):])
				n := int64(mib + 17*cuts)
				if coding == updateapi.CodingZstd {
					n *= 2
				}
				_, err := b.updater.Write(w.Part, w.From, coding, cutter(t, body, n))
				if err == nil {
					continue // the rest was shorter
				}
				if code(err) != updateapi.Failed || b.startable("slot-b") {
					t.Fatalf("cut %d: %v, startable %v", cuts, err, b.startable("slot-b"))
				}
				if cuts%5 == 4 { // the power goes
					b.keeper.boot(slot.A)
					b.start()
				}
				if cuts > 200 {
					t.Fatal("no progress")
				}
			}
			if resumed < 8 {
				t.Errorf("%d transfers went on from where they were cut", resumed)
			}
			b.staged(fresh)
		})
	}
}

// Whatever is wrong with the bytes, the slot does not start, and the same
// release can be sent again.
func TestWrongBytes(t *testing.T) {
	flip := func(b []byte, at int) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	tests := []struct {
		name, part string
		body       []byte
	}{
		{"root, first byte", "root", flip(used(fresh.root), 0)},
		{"root, last byte", "root", flip(used(fresh.root), len(used(fresh.root))-1)},
		{"slot, header", "slot", flip(used(fresh.slot), 510)},
		{"slot, middle", "slot", flip(used(fresh.slot), 12*mib)},
		{"slot, a byte behind its content", "slot", append(bytes.Clone(used(fresh.slot)), 1)},
		{"slot, short", "slot", used(fresh.slot)[:10*mib]},
		{"slot, the old one", "slot", old.slot},
		{"slot, nothing", "slot", nil},
	}
	b := newBench(t)
	b.offer(fresh)
	for _, tt := range tests {
		if p := b.offer(fresh); p.Wants[0].Part != tt.part { // the root was done
			if _, err := b.send(fresh, "root", "identity"); err != nil {
				t.Fatal(err)
			}
		}
		_, err := b.updater.Write(tt.part, 0, "identity", bytes.NewReader(tt.body))
		if code(err) != updateapi.WrongBytes || b.startable("slot-b") {
			t.Errorf("%s: %v, startable %v", tt.name, err, b.startable("slot-b"))
		}
		if p := b.offer(fresh); p.Phase != "STAGING" || p.Wants[0].From != 0 || p.Wants[0].Part != tt.part {
			t.Errorf("%s: then %+v", tt.name, p)
		}
	}
	if _, err := b.send(fresh, "slot", "identity"); err != nil {
		t.Fatal(err)
	}
	b.staged(fresh)
}

// The digest is compared with what the disk holds, not with what was sent.
func TestDiskLies(t *testing.T) {
	b := newBench(t)
	b.offer(fresh)
	if _, err := b.send(fresh, "root", "identity"); err != nil {
		t.Fatal(err)
	}
	// The disk loses a byte that was written, while the rest is on its way.
	body := io.MultiReader(bytes.NewReader(used(fresh.slot)[:10*mib]), readFunc(func() {
		f, err := os.OpenFile(filepath.Join(b.dir, "slot-b"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{0}, 5*mib+3); err != nil {
			t.Fatal(err)
		}
	}), bytes.NewReader(used(fresh.slot)[10*mib:]))
	if fresh.slot[5*mib+3] == 0 {
		t.Fatal("choose another byte")
	}
	if _, err := b.updater.Write("slot", 0, "identity", body); code(err) != updateapi.WrongBytes || b.startable("slot-b") {
		t.Errorf("%v", err)
	}
}

// readFunc does something when it is read, and is empty.
type readFunc func()

func (f readFunc) Read([]byte) (int, error) { f(); return 0, io.EOF }

func TestWrongBase(t *testing.T) {
	b := newBench(t)
	b.offer(fresh)
	patch := b.encode("root", "delta", used(fresh.root))
	b.put("root-a", image(77, 3*mib, 8*mib))
	if _, err := b.updater.Write("root", 0, "delta", patch); code(err) != updateapi.WrongBase {
		t.Errorf("another base: %v", err)
	}
	b.put("root-a", old.root)
	if _, err := b.updater.Write("root", 0, "delta", b.encode("root", "delta", used(image(5, mib, 8*mib)))); code(err) != updateapi.WrongBase {
		t.Errorf("a patch to another release: %v", err)
	}
	if _, err := b.updater.Write("root", 0, "delta", strings.NewReader("no patch")); code(err) != updateapi.Malformed {
		t.Errorf("no patch: %v", err)
	}
	if _, err := b.send(fresh, "root", "identity"); err != nil {
		t.Error(err)
	}
}

func TestOfferRefused(t *testing.T) {
	other := ed25519.NewKeyFromSeed([]byte(strings.Repeat("o", 32)))
	low, elsewhere, large := fresh, fresh, fresh
	low.epoch = 0
	elsewhere.layout = "2"
	large.slot = image(3, mib, 25*mib)
	b := newBench(t)
	b.keeper.state.Floor, b.keeper.journal.Floor = 1, 1
	for _, tt := range []struct {
		name, code string
		env        []byte
	}{
		{"wrong signature", updateapi.Untrusted, fresh.manifest(t, other)},
		{"below the floor", updateapi.BelowFloor, low.manifest(t, signer())},
		{"another layout", updateapi.Mismatched, elsewhere.manifest(t, signer())},
		{"too large", updateapi.Mismatched, large.manifest(t, signer())},
		{"nothing", updateapi.Untrusted, nil},
	} {
		if _, err := b.updater.Offer(updateapi.Offer{Manifest: tt.env}); code(err) != tt.code {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.code)
		}
	}
	if !b.startable("slot-b") || b.keeper.State().Phase != slot.Idle {
		t.Error("a refused release has cost the other slot")
	}
	if _, err := b.updater.Write("slot", 0, "identity", strings.NewReader("x")); code(err) != updateapi.NotAllowed {
		t.Errorf("bytes without an offer: %v", err)
	}
}

func TestRejected(t *testing.T) {
	b := newBench(t)
	c := fresh.content()
	b.keeper.state.Rejections = []slot.Rejection{{Version: c.Version, Image: c.Image, Cause: slot.Panic}}
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer())}); code(err) != updateapi.IsRejected || !strings.Contains(err.Error(), slot.Panic.Text()) {
		t.Errorf("%v", err)
	}
	p, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer()), Override: true})
	if err != nil || len(p.Wants) != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := b.updater.Override(updateapi.Override{Version: "7"}); code(err) != updateapi.NotAllowed {
		t.Errorf("override of what is not rejected: %v", err)
	}
	if _, err := b.updater.Adopt(); code(err) != updateapi.NotAllowed {
		t.Errorf("adopt with a journal: %v", err)
	}
}

// The second writer is turned away, and so is whoever wants a reset meanwhile.
func TestTwoWriters(t *testing.T) {
	b := newBench(t)
	b.offer(fresh)
	r, w := io.Pipe()
	first := make(chan error)
	go func() {
		_, err := b.updater.Write("root", 0, "identity", r)
		first <- err
	}()
	if _, err := w.Write(fresh.root[:10]); err != nil { // it is inside now
		t.Fatal(err)
	}
	if _, err := b.updater.Write("root", 0, "identity", strings.NewReader("x")); code(err) != updateapi.Busy {
		t.Errorf("second writer: %v", err)
	}
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: rel{version: "3", slot: old.root[:mib], root: old.root, epoch: 9}.manifest(t, signer())}); code(err) != updateapi.Mismatched {
		t.Errorf("%v", err)
	}
	third := fresh
	third.version, third.root = "3.0", old.root
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: third.manifest(t, signer())}); code(err) != updateapi.Busy {
		t.Errorf("another release: %v", err)
	}
	if p := b.offer(fresh); len(p.Wants) != 2 {
		t.Errorf("the same release: %+v", p)
	}
	if _, err := b.updater.Approve("ann"); code(err) != updateapi.Busy {
		t.Errorf("approve: %v", err)
	}
	if _, err := b.updater.Rollback(); code(err) != updateapi.Busy {
		t.Errorf("rollback: %v", err)
	}
	for rest := used(fresh.root)[10:]; len(rest) > 0; { // slowly
		n, err := w.Write(rest[:min(len(rest), 100_003)])
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	w.Close()
	if err := <-first; err != nil {
		t.Error(err)
	}
	b.holds("root-b", fresh.root)
}

// Another release takes the place of one that nobody finished.
func TestReplaced(t *testing.T) {
	b := newBench(t)
	b.offer(fresh)
	if _, err := b.send(fresh, "root", "identity"); err != nil {
		t.Fatal(err)
	}
	third := rel{version: "3.0", slot: image(6, 2*mib, 24*mib), root: image(7, mib, 8*mib), epoch: 2}
	for _, part := range []string{"root", "slot"} {
		if _, err := b.send(third, part, "identity"); err != nil {
			t.Fatal(err)
		}
	}
	b.staged(third)
}

// The firmware starts slot b whatever the journal says, so the good version is
// copied there before an update goes to slot a.
func TestMirror(t *testing.T) {
	b := newBench(t)
	b.keeper.state.Means, b.keeper.state.Pinned = slot.Selector, slot.B
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer())}); code(err) != updateapi.Busy {
		t.Fatalf("%v", err)
	}
	<-b.keeper.reset
	b.holds("slot-b", old.slot)
	b.holds("root-b", old.root)
	if s := b.keeper.State(); s.Good != slot.B || s.Of(slot.B).Condition != slot.Good {
		t.Errorf("%+v", s.Record)
	}
}

// A machine without a slot that starts takes what its journal names, and only that.
func TestRestore(t *testing.T) {
	b := newBench(t)
	b.keeper.journal.Slots[0].Condition = slot.Damaged
	b.keeper.boot(slot.None)
	if !b.keeper.State().Recovering {
		t.Fatal("nothing to restore")
	}
	b.put("slot-a", make([]byte, 24*mib))
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer())}); code(err) != updateapi.NotAllowed {
		t.Errorf("another version: %v", err)
	}
	for _, part := range []string{"root", "slot"} {
		if _, err := b.send(old, part, "identity"); err != nil {
			t.Fatal(err)
		}
	}
	<-b.keeper.reset
	b.holds("slot-a", old.slot)
	if s := b.keeper.State(); s.Of(slot.A).Condition != slot.Good {
		t.Errorf("%+v", s.Of(slot.A))
	}
}

// Who restores a slot is answered before the machine resets, and nothing else is
// written until it does.
func TestRestoreAnswers(t *testing.T) {
	b := newBench(t)
	b.updater.grace = time.Hour
	b.keeper.journal.Slots[0].Condition = slot.Damaged
	b.keeper.boot(slot.None)
	if _, err := b.send(old, "root", "identity"); err != nil {
		t.Fatal(err)
	}
	p, err := b.send(old, "slot", "identity")
	if err != nil || b.keeper.resets != 0 || p.Version != old.version || p.Slot != "a" || len(p.Wants) != 0 {
		t.Errorf("answer %+v, %v; %d resets", p, err, b.keeper.resets)
	}
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: old.manifest(t, signer())}); code(err) != updateapi.Busy {
		t.Errorf("an offer before the reset: %v", err)
	}
}

// What is good or runs is never written, whatever was under way.
func TestNeverTheGoodSlot(t *testing.T) {
	b := newBench(t)
	b.offer(fresh)
	b.keeper.state.Good = slot.B
	if _, err := b.updater.Write("root", 0, "identity", bytes.NewReader(fresh.root)); code(err) != updateapi.NotAllowed {
		t.Errorf("%v", err)
	}
}

func TestUnavailable(t *testing.T) {
	b := newBench(t)
	b.machine.Spec.Update = nil
	b.start()
	if _, err := b.updater.Offer(updateapi.Offer{Manifest: fresh.manifest(t, signer())}); code(err) != updateapi.Unavailable {
		t.Errorf("%v", err)
	}
	b.machine.Keeper = nil
	b.start()
	for _, f := range []func() (updateapi.Progress, error){func() (updateapi.Progress, error) { return b.updater.Approve("ann") }, b.updater.Rollback, b.updater.Adopt} {
		if _, err := f(); code(err) != updateapi.Unavailable {
			t.Errorf("%v", err)
		}
	}
	if s := b.updater.Slots(); len(s.Why) == 0 {
		t.Error("no reason")
	}
}

// TestLoopDevice does it on real block devices, with sectors of both sizes.
func TestLoopDevice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a loop device needs root")
	}
	losetup := oracle.Need(t, "util-linux", "losetup")
	for _, sector := range []string{"512", "4096"} {
		t.Run(sector, func(t *testing.T) {
			b := newBench(t)
			nodes := map[string]string{}
			for role := range sizes {
				out, err := exec.Command(losetup, "--find", "--show", "--sector-size", sector, filepath.Join(b.dir, role)).CombinedOutput()
				if err != nil {
					t.Skipf("losetup: %v: %s", err, out)
				}
				nodes[role] = strings.TrimSpace(string(out))
				t.Cleanup(func() { exec.Command(losetup, "-d", nodes[role]).Run() })
			}
			b.machine.Partition = func(role string) (string, int64, error) { return nodes[role], sizes[role], nil }
			b.start()
			if p := b.offer(fresh); len(p.Wants) != 2 {
				t.Fatalf("%+v", p)
			}
			body := b.encode("root", "zstd", used(fresh.root))
			if _, err := b.updater.Write("root", 0, "zstd", cutter(t, body, 4*mib)); code(err) != updateapi.Failed {
				t.Errorf("cut: %v", err)
			}
			for _, part := range []string{"root", "slot"} {
				if _, err := b.send(fresh, part, "zstd"); err != nil {
					t.Fatal(err)
				}
			}
			for role, want := range map[string][]byte{"slot-b": fresh.slot, "root-b": fresh.root, "slot-a": old.slot} {
				got, err := os.ReadFile(nodes[role])
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s holds something else: %v", role, err)
				}
			}
			d, err := openDevice(nodes["slot-b"], sizes["slot-b"], os.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			if !d.block || !d.direct {
				t.Errorf("block %v, past the cache %v", d.block, d.direct)
			}
			if _, err := openDevice(nodes["slot-b"], sizes["slot-b"]+mib, os.O_RDWR); err == nil {
				t.Error("a device of another size is taken")
			}
		})
	}
}
