package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/agent/ring"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/agent/traces"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition/state"
)

// stateFile is a state partition that is a file.
type stateFile struct{ *os.File }

// box is a machine between its boots: what survives them.
type box struct{ state, pstore string }

func newBox(t *testing.T) box {
	t.Helper()
	b := box{filepath.Join(t.TempDir(), "state"), t.TempDir()}
	if err := os.WriteFile(b.state, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.state, state.Size); err != nil {
		t.Fatal(err)
	}
	return b
}

// boot is one of a version from a slot.
func (b box) boot(version string, x slot.Slot) *Machine {
	m := &Machine{log: newLog(), pstore: b.pstore}
	m.stateAt = func(flag int) (slots.Part, error) {
		f, err := os.OpenFile(b.state, flag, 0)
		return stateFile{f}, err
	}
	m.spec = appliance.Spec{Name: "hello", Version: version, Build: "b1"}
	m.trial.running = x
	return m
}

// regionSeq is how often the evidence was written.
func regionSeq(t *testing.T, m *Machine) uint64 {
	t.Helper()
	_, seq, err := m.loadState(state.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// failed asks the listener for the log of the boot that failed.
func failed(t *testing.T, m *Machine, target string) (int, string) {
	t.Helper()
	r, err := http1.ReadRequest(strings.NewReader("GET " + target + " HTTP/1.1\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	a := m.listener().Handle(r)
	return a.Status, string(a.Body)
}

// TestEvidenceFillsItsRecord: the 64 KiB are used up, however short the lines are, and the newest
// lines are kept, not the oldest.
func TestEvidenceFillsItsRecord(t *testing.T) {
	const limit = 64 << 10
	for _, width := range []int{0, 1, 60, 1000, ring.MaxLine} {
		log := ring.New(ringSize)
		for i := range 20000 {
			log.Add(0, "web", fmt.Sprintf("%d %s", i, strings.Repeat("x", width)))
		}
		got := string(evidence("head\nhello\nwhy\n", log, limit))
		longest := len("[    0.000000] web: 19999 \n") + width
		if len(got) > limit || len(got) < limit-longest {
			t.Errorf("lines of %d bytes: the record has %d bytes", width, len(got))
		}
		if !strings.HasPrefix(got, "head\nhello\nwhy\n[") || !strings.Contains(got, " 19999 ") || strings.Contains(got, " 0 ") {
			t.Errorf("lines of %d bytes: %.80q … %.80q", width, got, got[len(got)-80:])
		}
		if i, j := strings.Index(got, " 19998 "), strings.Index(got, " 19999 "); i < 0 || i > j {
			t.Errorf("lines of %d bytes: line 19998 at %d, 19999 at %d", width, i, j)
		}
	}
	if got := string(evidence(strings.Repeat("h", 50), ring.New(ringSize), 20)); len(got) != 20 {
		t.Errorf("a long head is kept with %d bytes, want 20", len(got))
	}
}

// TestLogOfAFailedTrialStays: what a service said before its trial failed is there for
// whoever asks the slot that runs then, in each boot until another trial fails. It is
// counted once, and its boots write nothing more.
func TestLogOfAFailedTrialStays(t *testing.T) {
	b := newBox(t)
	trial := b.boot("2.0", slot.B)
	for i := range 1000 {
		trial.log.Line("web", fmt.Sprintf("request %d", i))
	}
	trial.log.Line("web", "cannot open the database: no such table")
	if status, _ := failed(t, trial, "/v1/logs?boot=failed"); status != 404 {
		t.Errorf("before anything failed: %d", status)
	}
	if err := trial.storeEvidence(slot.Unhealthy, "service web: no answer"); err != nil {
		t.Fatal(err)
	}
	written := uint64(0)
	for boot := range 3 {
		good := b.boot("1.0", slot.A)
		found := good.evidenceFound()
		if want := 1 - min(boot, 1); len(found) != want {
			t.Errorf("boot %d finds %+v", boot, found)
		}
		if text := good.lookBack().text; (text != "") != (boot == 0) {
			t.Errorf("boot %d tells %q", boot, text)
		}
		for range 2 { // the state machine, then a healthy boot
			if err := good.eraseEvidence(); err != nil {
				t.Fatal(err)
			}
		}
		if boot == 0 {
			written = regionSeq(t, good)
		}
		if seq := regionSeq(t, good); seq != written || seq != 2 {
			t.Errorf("boot %d: the record was written %d times", boot, seq)
		}
		status, log := failed(t, good, "/v1/logs?boot=failed")
		for _, want := range []string{"noted=unhealthy slot=b\n", "hello 2.0 build b1\n", "service web: no answer\n", "web: request 0\n", "web: cannot open the database: no such table\n"} {
			if status != 200 || !strings.Contains(log, want) {
				t.Errorf("boot %d: %d, no %q in %.200q", boot, status, want, log)
			}
		}
		if !good.found.log.Load() {
			t.Errorf("boot %d does not know that there is a log", boot)
		}
	}
	again := b.boot("2.1", slot.B)
	if err := again.storeEvidence(slot.DataFull, "data is full"); err != nil {
		t.Fatal(err)
	}
	if _, log := failed(t, again, "/v1/logs?boot=failed"); !strings.Contains(log, "hello 2.1 build b1\ndata is full\n") || strings.Contains(log, "database") {
		t.Errorf("after another trial: %.200q", log)
	}
	if status, _ := failed(t, again, "/v1/logs?boot=other"); status != 400 {
		t.Errorf("another boot: %d", status)
	}
}

// panics leaves a record of the kernel behind.
func (b box) panics(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.pstore, "dmesg-erst-1"), []byte("Panic#1 Part1\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestKernelLogStays: of a panic the kernel's own words are kept, behind what init had
// said, and they take the place of an older log.
func TestKernelLogStays(t *testing.T) {
	b := newBox(t)
	if err := b.boot("1.9", slot.B).storeEvidence(slot.Unhealthy, "long ago"); err != nil {
		t.Fatal(err)
	}
	if err := b.boot("1.0", slot.A).eraseEvidence(); err != nil {
		t.Fatal(err)
	}
	b.panics(t, "<4>[    9.1] RIP: 0010:bad\n<0>[    9.2] Kernel panic - not syncing: Fatal exception\n")
	good := b.boot("1.0", slot.A)
	if found := good.evidenceFound(); len(found) != 1 || found[0].Cause != slot.Panic {
		t.Errorf("found is %+v", found)
	}
	for range 2 {
		if err := good.eraseEvidence(); err != nil {
			t.Fatal(err)
		}
	}
	_, log := failed(t, good, "/v1/logs?boot=failed")
	if !strings.HasPrefix(log, "ingot-evidence 1 noted=panic\n") || !strings.HasSuffix(log, "Fatal exception\n<4>[    9.1] RIP: 0010:bad\n<0>[    9.2] Kernel panic - not syncing: Fatal exception\n") {
		t.Errorf("%q", log)
	}
	if strings.Contains(log, "long ago") || regionSeq(t, good) != 3 {
		t.Errorf("written %d times: %q", regionSeq(t, good), log)
	}
	if next := b.boot("1.0", slot.A); len(next.evidenceFound()) != 0 || next.lookBack().text != "" {
		t.Errorf("the next boot finds %+v", next.evidenceFound())
	}
}

// TestKernelLogBehindInits: both are kept when the same boot left both.
func TestKernelLogBehindInits(t *testing.T) {
	b := newBox(t)
	trial := b.boot("2.0", slot.B)
	for range 200 {
		trial.log.Line("web", strings.Repeat("x", 1000))
	}
	trial.log.Line("web", "the last line")
	if err := trial.storeEvidence(slot.InitExit, "panic in boot"); err != nil {
		t.Fatal(err)
	}
	last := strings.Repeat("k", 100) + "\n"
	b.panics(t, last)
	good := b.boot("1.0", slot.A)
	if err := good.eraseEvidence(); err != nil {
		t.Fatal(err)
	}
	_, log := failed(t, good, "/v1/logs?boot=failed")
	if len(log) > state.Evidence.Capacity() || !strings.HasSuffix(log, "web: the last line\n"+last) {
		t.Errorf("%d bytes, the end is %q", len(log), log[max(0, len(log)-200):])
	}
	if r := traces.ParseRecord([]byte(log)); r.Cause != slot.Panic || !r.Counted {
		t.Errorf("%+v", r.Cause)
	}
}

// TestForeignEvidenceIsErased: what is no record is told once and does not stay.
func TestForeignEvidenceIsErased(t *testing.T) {
	b := newBox(t)
	m := b.boot("1.0", slot.A)
	if err := m.storeState(state.Evidence, []byte("hello 0.1 build 12\nold format\n")); err != nil {
		t.Fatal(err)
	}
	if text := m.lookBack().text; text != "hello 0.1 build 12" {
		t.Errorf("told is %q", text)
	}
	if err := m.eraseEvidence(); err != nil {
		t.Fatal(err)
	}
	if status, _ := failed(t, m, "/v1/logs?boot=failed"); status != 404 || m.found.log.Load() {
		t.Errorf("status %d, it is still there", status)
	}
}

// TestHangAfterACountedFailure: what the selector knows of a hang goes on to the slot that
// it starts, also where an older log is kept; init's own words that nobody has counted stay.
func TestHangAfterACountedFailure(t *testing.T) {
	b := newBox(t)
	if err := b.boot("2.0", slot.B).storeEvidence(slot.Unhealthy, "no answer"); err != nil {
		t.Fatal(err)
	}
	hang := traces.Watchdog("i6300ESB timer")
	b.boot("1.0", slot.None).passOn(hang)
	good := b.boot("1.0", slot.A)
	if found := good.evidenceFound(); len(found) != 1 || found[0].Cause != slot.Unhealthy {
		t.Errorf("found is %+v", found)
	}
	if err := good.eraseEvidence(); err != nil {
		t.Fatal(err)
	}
	b.boot("1.0", slot.None).passOn(nil)
	b.boot("1.0", slot.None).passOn(hang)
	if found := b.boot("1.0", slot.A).evidenceFound(); len(found) != 1 || found[0].Cause != slot.Hang {
		t.Errorf("found is %+v", found)
	}
}
