package agent

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/power"
)

var sprintf = fmt.Sprintf

// guard runs f and turns a panic into a logged reset.
func (m *Machine) guard(name string, f func()) {
	defer func() {
		if v := recover(); v != nil {
			m.crash(fmt.Sprintf("panic in %s: %v\n%s", name, v, debug.Stack()))
		}
	}()
	f()
}

// spawn is the go statement of this package: no goroutine of init runs
// unguarded.
func (m *Machine) spawn(name string, f func()) { go m.guard(name, f) }

// crash is the end of a machine whose init cannot go on. It does not return.
// It uses as little as possible: the log may be what broke.
func (m *Machine) crash(text string) {
	m.crashing.Store(true)
	endBy(crashTime, func() { _ = power.Reboot(unix.LINUX_REBOOT_CMD_RESTART) })
	fmt.Fprintf(os.Stderr, "\r\n%s: %s\r\n", self, text)
	kmsg(text)
	m.keepEvidence(slot.InitExit, text)
	m.log.Flush()
	time.Sleep(time.Second) // let a serial line drain
	unix.Sync()
	_ = power.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {} // the kernel refused; never return into broken code
}

// crashTime is how long a crash may take to keep what it knows: the disk may be
// what it crashed of.
const crashTime = 30 * time.Second

// kmsg writes text to the kernel log, from where pstore keeps it over a reset.
// A record of /dev/kmsg is at most 1 KiB.
func kmsg(text string) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	for len(text) > 0 {
		n := min(len(text), 900)
		fmt.Fprintf(f, "<2>%s: %s", self, text[:n])
		text = text[n:]
	}
}

// catchFatal sends what the Go runtime says when it cannot be recovered
// (concurrent map writes, out of memory) to the kernel log as well.
func catchFatal() {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close() // SetCrashOutput keeps a duplicate
	_ = debug.SetCrashOutput(f, debug.CrashOptions{})
}
