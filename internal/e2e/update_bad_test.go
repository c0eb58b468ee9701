package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
)

// bad is a release that must never be blessed.
type bad struct {
	name  string
	set   *release.Set
	cause slot.Cause
	chain []string // what the firmware starts from the push on
	final bool     // rejected at once
	said  string   // a line of its log that is kept; empty: not looked for
}

// TestBadReleases pushes one bad release after another to one machine. After
// each it is back on the good slot by itself, says why, and has lost nothing.
func TestBadReleases(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "")
	b := newBox(t, f, f.release(t, "1.0.0", ""), nil)
	b.on()
	b.runs("1.0.0")
	fallsBack := []string{"slot-b", "slot-a"}
	for _, c := range []bad{
		{"panic at 0 s", f.release(t, "2.0.1", "quiet]=quiet, initcall_blacklist=populate_rootfs]"), slot.Panic, fallsBack, false, "VFS: Unable to mount root fs on"},
		{"hang after arming", f.build(t, f.faulted(t, "2.0.2", "armed")), slot.Hang, fallsBack, false, ""},
		{"init exits", f.build(t, f.faulted(t, "2.0.3", "exit")), slot.InitExit, fallsBack, false, "Attempted to kill init!"},
		{"unhealthy", f.release(t, "2.0.4", "-mode\", fine=-mode\", unhealthy"), slot.Unhealthy, fallsBack, false, "the ledger cannot be read"},
		{"corrupt PE", f.forged(t, f.release(t, "2.0.5", ""), func(img *os.File) { breakPE(t, img) }), slot.CorruptPE, []string{"slot-a"}, true, ""}, // OVMF passes over a file that is no program, and says nothing
		{"network dead", f.release(t, "2.0.6", "driver: virtio_net=mac: \"02:00:00:00:00:99\""), slot.NetworkDead, fallsBack, false, ""},
		{"data full", f.release(t, "2.0.7", "-mode\", fine=-mode\", fill"), slot.DataFull, fallsBack, false, "the data partition is full"},
		{"clock 1970", f.release(t, "2.0.8", "-mode\", fine=-mode\", clock;stateDirectory: tally=stateDirectory: tally\n    capabilities: [SYS_TIME, DAC_OVERRIDE]"), slot.ClockWrong, fallsBack, false, ""},
	} {
		if !t.Run(c.name, func(t *testing.T) { b.refutes(t, c) }) {
			return // nothing is known of the machine any more
		}
	}
}

// refutes pushes a bad release and wants the machine back as it was.
func (b *box) refutes(t *testing.T, c bad) {
	b.t = t
	before, mark := b.starts(), len(b.chain())
	if r := b.push(c.set); r.code != 1 || !strings.Contains(r.stderr, "fell back to the version before: "+c.cause.String()) {
		t.Errorf("ingot update does not say that it was %s: code %d", c.cause, r.code)
	}
	b.runs("1.0.0")
	if got := b.chain()[mark:]; !slices.Equal(got, c.chain) {
		t.Errorf("the firmware started %q, want %q", got, c.chain)
	}
	b.blames(c.set.Manifest.Version, c.cause, c.final)
	if c.said != "" {
		b.keeps(c.said)
	}
	if got := b.starts(); len(got) < len(before) || !slices.Equal(got[:len(before)], before) {
		t.Errorf("the data partition knew %q and knows %q", before, got)
	}
}

// blames wants the journal and ingot why, on the disk and from the machine, to
// name the cause.
func (b *box) blames(version string, cause slot.Cause, final bool) {
	b.t.Helper()
	want := slot.Failed
	if final {
		want = slot.Rejected
	}
	j := b.rests(want)
	if j.Good != slot.A || j.Cause != cause || j.Culprit != slot.B || j.Slots[0].Version != "1.0.0" || j.Slots[0].Condition != slot.Good {
		b.t.Errorf("the journal blames %s of slot %s (%q), want %s: %+v", j.Cause, j.Culprit, j.Detail, cause, j)
	}
	for _, why := range []string{b.why(), b.operator("why").out} {
		if !strings.Contains(why, cause.String()) && !strings.Contains(why, cause.Text()) || !strings.Contains(why, version) {
			b.t.Errorf("ingot why does not name %s of %s:\n%s", cause, version, why)
		}
	}
	b.t.Logf("%s", b.operator("why").out)
}

// keeps wants a line of the trial's log from whoever may be asked for it: the machine
// with and without TLS, and its disk.
func (b *box) keeps(line string) {
	b.t.Helper()
	asked, read := b.operator("slots", "--log"), ingot(b.t, "slots", b.m.Disk, "--log")
	for by, log := range map[string]string{"ingot slots HOST": asked.out, "ingot slots DISK": read.out, "/v1/logs": b.get(9443, "/v1/logs?boot=failed")} {
		if !strings.Contains(log, line) {
			b.t.Errorf("%s: no %q in the log of the trial:\n%s", by, line, log)
		}
	}
	b.t.Logf("%d bytes of the trial's log are kept: %.300s", len(read.out), read.out)
}

// breakPE takes the signature "PE\0\0" off the boot file in both slots.
func breakPE(t *testing.T, img *os.File) {
	t.Helper()
	for _, role := range []string{partition.SlotA, partition.SlotB} {
		p := part(t, img, role)
		b, err := io.ReadAll(p.Section(img))
		if err != nil {
			t.Fatal(err)
		}
		at := signature(b)
		if at < 0 {
			t.Fatalf("no boot file in %s", role)
		}
		if _, err := img.WriteAt([]byte("XX"), p.Start+int64(at)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClockLost: a machine whose clock begins anew takes the time of the build for
// the earliest there can be, so a good release becomes good there. OVMF reads the
// year 70 as 2070, and an operator's certificate has long ended then: the clock
// begins with 2000 here.
func TestClockLost(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "")
	b := newBox(t, f, f.release(t, "1.0.0", ""), func(m *qemu.Machine) { m.ExtraArgs = []string{"-rtc", "base=2000-01-01T00:00:00"} })
	b.on()
	b.runs("1.0.0")
	b.update(f.release(t, "1.1.0", ""))
	b.blessed("1.1.0", slot.B)
}

// signature is where the PE header of the first program in a file system begins: a
// cluster number in the FAT may look like one.
func signature(b []byte) int {
	for off := 0; off+0x40 <= len(b); off += 512 {
		if b[off] != 'M' || b[off+1] != 'Z' {
			continue
		}
		at := off + int(binary.LittleEndian.Uint32(b[off+0x3c:])) // e_lfanew
		if at < len(b) && bytes.HasPrefix(b[at:], []byte("PE\x00\x00")) {
			return at
		}
	}
	return -1
}
