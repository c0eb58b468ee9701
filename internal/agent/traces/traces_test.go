package traces

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
)

// keep writes a record of pstore with the time of the firmware.
func keep(t *testing.T, dir, name string, at int64, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Unix(at, 0), time.Unix(at, 0)); err != nil {
		t.Fatal(err)
	}
}

func TestPstore(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		cause  slot.Cause
		detail string
	}{
		"sysrq": {"Panic#1 Part1\n<6>[    9.501] sysrq: Trigger a crash\n<0>[    9.502] Kernel panic - not syncing: sysrq triggered crash\n<4>[    9.503] CPU: 0 UID: 0 PID: 1\n",
			slot.Panic, "sysrq triggered crash"},
		"init": {"Panic#1 Part1\n<0>[    3.1][    T1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200\n",
			slot.InitExit, "Attempted to kill init! exitcode=0x00000200"},
		"oops": {"Panic#2 Part1\n<1>[    5.0] BUG: kernel NULL pointer dereference, address: 0000000000000000\n<4>[    5.0] RIP: 0010:bad_init+0x5/0xff0 [bad]\n<4>[    5.0] RIP: 0010:other\n<0>[    5.1] Kernel panic - not syncing: Fatal exception\n",
			slot.Panic, "BUG: kernel NULL pointer dereference, address: 0000000000000000, RIP: 0010:bad_init+0x5/0xff0 [bad]"},
		"oops alone": {"Oops#1 Part1\n<4>[    5.0] Oops: general protection fault, 0000 [#1]\n",
			slot.Panic, "Oops: general protection fault, 0000 [#1]"},
		"hung task":               {"Panic#1 Part1\n<0>[  130.0] Kernel panic - not syncing: hung_task: blocked tasks\n", slot.Hang, "hung_task: blocked tasks"},
		"lockup":                  {"Panic#1 Part1\n<0>[  30.0] Kernel panic - not syncing: softlockup: hung tasks\n", slot.Hang, "softlockup: hung tasks"},
		"hard":                    {"Panic#1 Part1\nKernel panic - not syncing: Hard LOCKUP\n", slot.Hang, "Hard LOCKUP"},
		"nothing":                 {"", slot.Panic, "in dmesg-erst-7"},
		"compressed and not read": {"\x01\xffzz\x00", slot.Panic, "zz in dmesg-erst-7"},
	} {
		dir := t.TempDir()
		keep(t, dir, "dmesg-erst-7", 1000, c.text)
		e, log := Pstore(dir)
		if _, rest, _ := strings.Cut(c.text, "\n"); log != rest {
			t.Errorf("%s: the log is %q", name, log)
		}
		if e == nil || e.Cause != c.cause || e.Detail != c.detail || e.ID == 0 {
			t.Errorf("%s: %+v, want %s %q", name, e, c.cause, c.detail)
		}
	}
	if e, log := Pstore(filepath.Join(t.TempDir(), "none")); e != nil || log != "" {
		t.Errorf("no pstore: %+v", e)
	}
}

// TestNewest: parts of one dump belong together whatever their order, an oops is
// older than the panic that follows it, and an earlier boot's panic that could
// not be erased is not told for the newest.
func TestNewest(t *testing.T) {
	dir := t.TempDir()
	keep(t, dir, "dmesg-erst-1", 500, "Panic#2 Part1\nKernel panic - not syncing: an earlier boot\n")
	keep(t, dir, "dmesg-erst-2", 1000, "Oops#1 Part1\nOops: invalid opcode: 0000 [#1]\n")
	keep(t, dir, "dmesg-erst-3", 1000, "Panic#2 Part1\nKernel panic - not syncing: Fatal exception\n")
	keep(t, dir, "dmesg-erst-4", 1001, "Panic#2 Part2\n<0>kernel BUG at fs/inode.c:1!\n")
	keep(t, dir, "mce-erst-5", 9000, "not of dmesg")
	first, log := Pstore(dir)
	if log != "<0>kernel BUG at fs/inode.c:1!\nKernel panic - not syncing: Fatal exception\n" {
		t.Errorf("the log is %q", log)
	}
	if first == nil || first.Cause != slot.Panic || first.Detail != "kernel BUG at fs/inode.c:1!" {
		t.Fatalf("got %+v", first)
	}
	if again, _ := Pstore(dir); *again != *first {
		t.Errorf("the same records: %+v, then %+v", first, again)
	}
	keep(t, dir, "dmesg-erst-9", 2000, "Panic#1 Part1\nKernel panic - not syncing: again\n")
	if e, _ := Pstore(dir); e.ID == first.ID || e.Detail != "again" {
		t.Errorf("a later panic: %+v", e)
	}
	if err := ErasePstore(dir); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(dir)
	if e, _ := Pstore(dir); len(left) != 1 || e != nil {
		t.Errorf("after erasing: %v", left)
	}
	if err := ErasePstore(filepath.Join(dir, "none")); err != nil {
		t.Errorf("no pstore: %v", err)
	}
}

func TestRecord(t *testing.T) {
	r := Record{Cause: slot.InitExit, Slot: slot.B, Image: "hello 1.0 build 12", Text: "panic in boot: oh\ngoroutine 1"}
	b := []byte(r.Head() + "[    1.000000] ingot: a line\n")
	if first, _, _ := strings.Cut(string(b), "\n"); first != "ingot-evidence 1 cause=init-exit slot=b" {
		t.Errorf("first line %q", first)
	}
	got := ParseRecord(b)
	if got.Cause != r.Cause || got.Slot != r.Slot || got.Image != r.Image || !strings.HasPrefix(got.Text, r.Text+"\n[") {
		t.Errorf("got %+v", got)
	}
	if s := got.Summary(); s != "hello 1.0 build 12; panic in boot: oh" {
		t.Errorf("summary %q", s)
	}
	e := got.Evidence(7)
	if e == nil || e.Cause != slot.InitExit || e.Detail != "panic in boot: oh" || e.ID == 0 {
		t.Errorf("evidence %+v", e)
	}
	if e.Slot != slot.B {
		t.Errorf("the evidence is of %s", e.Slot)
	}
	if !Count(b) || Count(b) {
		t.Error("a record is counted once")
	}
	if r := ParseRecord(b); !r.Counted || r.Cause != got.Cause || r.Text != got.Text || r.Evidence(7) != nil {
		t.Errorf("once it was counted: %+v", r)
	}
	if got.Evidence(8).ID == e.ID || got.Evidence(7).ID != e.ID {
		t.Error("the ID does not tell two boots from each other")
	}
}

func TestRecordsOfOthers(t *testing.T) {
	for text, want := range map[string]slot.Cause{
		"": slot.NoCause, "hello 1.0 build 12\nold format\n": slot.NoCause, "\xff\xfe": slot.NoCause,
		"ingot-evidence 1 cause=none slot=a\nx\nboot.polluted: y\n":       slot.NoCause,
		"ingot-evidence 1 cause=flux-capacitor slot=q new=1\nx\n":         slot.Unhealthy,
		"ingot-evidence 1 cause=data-full slot=a\nhello\ndata is full\n":  slot.DataFull,
		"ingot-evidence 2 cause=panic slot=a\na later version\nof this\n": slot.NoCause,
	} {
		r := ParseRecord([]byte(text))
		if e := r.Evidence(1); r.Cause != want || (e != nil) != (want != slot.NoCause) {
			t.Errorf("%q: %+v, evidence %+v", text, r, e)
		}
	}
}

func TestFound(t *testing.T) {
	if f := (Found{}); f.Evidence() != nil || f.Text() != "" {
		t.Errorf("nothing found: %v, %q", f.Evidence(), f.Text())
	}
	f := Found{Watchdog: Watchdog("i6300ESB timer"), Kernel: &slot.Evidence{Cause: slot.Panic, Detail: "x", ID: 3}}
	if got := f.Text(); got != "panic: x; hang: the watchdog (i6300ESB timer) reset the machine" || len(f.Evidence()) != 2 {
		t.Errorf("%q, %v", got, f.Evidence())
	}
}

func FuzzTexts(f *testing.F) {
	f.Add("Panic#1 Part1\n<0>[  30.0] Kernel panic - not syncing: Hard LOCKUP\n")
	f.Add("ingot-evidence 1 cause=panic slot=a\nx\ny\n")
	f.Fuzz(func(t *testing.T, text string) {
		if e := judge(text); len(e.Detail) > slot.MaxDetail {
			t.Errorf("detail of %d bytes", len(e.Detail))
		}
		r := ParseRecord([]byte(text))
		if e := r.Evidence(1); e != nil && (len(e.Detail) > slot.MaxDetail || strings.ContainsAny(e.Detail, "\n\x00")) {
			t.Errorf("detail %q", e.Detail)
		}
	})
}
