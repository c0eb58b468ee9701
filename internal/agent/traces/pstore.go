package traces

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
)

// PstoreDir is where the kernel shows what its firmware storage keeps
// (Documentation/admin-guide/abi/sysfs-platform pstore).
const PstoreDir = "/sys/fs/pstore"

// Bounds of what is read: QEMU's storage has 8 records of 8 KiB, servers have 64
// KiB to 1 MiB.
const (
	maxRecords = 256
	maxRecord  = 64 << 10
)

// dump is one record: a part of what the kernel said at one panic or oops. Its
// first line is "Panic#2 Part1"; part 1 has the newest lines.
type dump struct {
	name   string
	at     time.Time // of the record, by the firmware's clock
	reason string    // "Panic#2"
	part   int
	text   string
}

// together is how long the parts of one dump may take to write.
const together = 30 * time.Second

// Pstore reads the newest panic or oops below dir, and what the kernel said then,
// oldest line first; nil when there is none. Only the newest counts: older ones were
// there when it was written, so they were found before and could not be erased.
func Pstore(dir string) (*slot.Evidence, string) {
	dumps := readDumps(dir)
	if len(dumps) == 0 {
		return nil, ""
	}
	last := dumps[0]
	parts := slices.DeleteFunc(dumps, func(d dump) bool { return d.reason != last.reason || last.at.Sub(d.at) > together })
	sort.Slice(parts, func(i, j int) bool { return parts[i].part > parts[j].part }) // slices.SortFunc of a struct is 20 KB of machine code
	var text strings.Builder
	for _, p := range parts {
		text.WriteString(p.text)
	}
	all := text.String()
	e := judge(all)
	if e.Detail == "" {
		e.Detail = line(last.reason + " in " + last.name)
	}
	e.ID = identify(last.name, last.text)
	return &e, all
}

// readDumps reads the records, newest first; of the same second, the one that was
// written last.
func readDumps(dir string) []dump {
	entries, _ := os.ReadDir(dir) // no pstore: none
	var out []dump
	for _, e := range entries[:min(len(entries), maxRecords)] {
		info, err := e.Info()
		if err != nil || !isDump(e.Name()) {
			continue
		}
		d := dump{name: e.Name(), at: info.ModTime()}
		head, text, _ := strings.Cut(readSome(filepath.Join(dir, e.Name())), "\n")
		d.text = text
		reason, part, _ := strings.Cut(head, " Part")
		d.reason = line(reason)
		d.part, _ = strconv.Atoi(strings.TrimSpace(part)) // a record without a head is part 0
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(number(b.reason), number(a.reason)), strings.Compare(b.name, a.name)) < 0
	})
	return out
}

// isDump tells a record of dmesg from those of machine checks and consoles.
func isDump(name string) bool { return strings.HasPrefix(name, "dmesg-") }

// number is the count in "Panic#2", which grows within a boot.
func number(reason string) int {
	_, n, _ := strings.Cut(reason, "#")
	i, _ := strconv.Atoi(n)
	return i
}

func readSome(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, maxRecord)) // what can be read is better than nothing
	return string(b)
}

// ErasePstore removes the records, by which the kernel clears the storage of the
// firmware: it is small, and full it takes no new ones.
func ErasePstore(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if isDump(e.Name()) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("erase kernel records: %w", err)
	}
	return nil
}

// The kernel's words (kernel/panic.c, kernel/exit.c, kernel/watchdog.c,
// kernel/hung_task.c, arch/x86/kernel/dumpstack.c, arch/arm64/kernel/traps.c).
const (
	panicWords = "Kernel panic - not syncing: "
	killedInit = "Attempted to kill init!"
	afterOops  = "Fatal exception"
)

var (
	hangWords = []string{"softlockup: hung tasks", "Hard LOCKUP", "hung_task: blocked tasks", "RCU Stall"}
	oopsWords = []string{"BUG: ", "Oops: ", "Internal error: ", "general protection fault", "divide error: ", "kernel BUG at "}
)

// judge gives the cause that a kernel's last words tell. The end of PID 1 and a
// hang that the kernel itself has noticed are panics only in form.
func judge(text string) slot.Evidence {
	last, oops, rip := "", "", ""
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(bare(l))
		switch {
		case strings.HasPrefix(l, panicWords):
			last = strings.TrimPrefix(l, panicWords)
		case rip == "" && strings.HasPrefix(l, "RIP: "):
			rip = l
		case oops == "" && slices.ContainsFunc(oopsWords, func(w string) bool { return strings.HasPrefix(l, w) }):
			oops = l
		}
	}
	e := slot.Evidence{Cause: slot.Panic, Detail: last}
	switch {
	case strings.HasPrefix(last, killedInit):
		e.Cause = slot.InitExit
	case slices.ContainsFunc(hangWords, func(w string) bool { return strings.Contains(last, w) }):
		e.Cause = slot.Hang
	case oops != "" && (last == "" || strings.HasPrefix(last, afterOops)):
		e.Detail = oops
		if rip != "" {
			e.Detail += ", " + rip
		}
	}
	e.Detail = line(e.Detail)
	return e
}

// bare takes "<4>[    1.234567][    T1] " from a line.
func bare(l string) string {
	if strings.HasPrefix(l, "<") {
		if _, after, ok := strings.Cut(l, ">"); ok {
			l = after
		}
	}
	for strings.HasPrefix(l, "[") {
		_, after, ok := strings.Cut(l, "]")
		if !ok {
			break
		}
		l = strings.TrimLeft(after, " ")
	}
	return l
}
