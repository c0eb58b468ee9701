package agent

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/agent/power"
)

// stopRequest asks for the end of the machine.
type stopRequest struct {
	why   string
	power bool // off; else restart
}

// watchSignals follows the convention of busybox and sysvinit: SIGINT is what
// the kernel sends for ctrl-alt-del, SIGTERM restarts, SIGUSR1 and SIGUSR2
// (halt, poweroff) turn off.
func (m *Machine) watchSignals() {
	sig := make(chan os.Signal, 4)
	signal.Notify(sig, unix.SIGINT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	// Caught, not ignored: services would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGPIPE)
	m.spawn("signals", func() {
		for s := range sig {
			m.request(stopRequest{why: s.String(), power: s == unix.SIGUSR1 || s == unix.SIGUSR2})
		}
	})
}

// request asks run to stop the machine; the first one wins.
func (m *Machine) request(r stopRequest) {
	select {
	case m.stop <- r:
	default:
	}
}

// shutdown stops services in order, unmounts and ends the machine.
func (m *Machine) shutdown(r stopRequest, cancel context.CancelFunc) {
	verb := "restarting"
	if r.power {
		verb = "powering off"
	}
	m.log.Printf("%s: %s", verb, r.why)
	m.mu.Lock()
	super := m.super
	m.stopping = true
	m.mu.Unlock()
	cmd := unix.LINUX_REBOOT_CMD_RESTART
	if r.power {
		cmd = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	endBy(stopTime(super), func() { _ = m.end(cmd) })
	if super != nil {
		super.shutdown(super.stopLimit())
	}
	cancel()
	m.endProcesses()
	unix.Sync()
	m.unmountData()
	m.log.Printf("%s now", verb)
	m.log.Flush()
	if err := m.end(cmd); err != nil {
		m.log.Printf("reboot: %v", err)
		m.log.Flush()
	}
	time.Sleep(5 * time.Second)
}

// end gives the machine to the kernel. It returns only when that refuses.
func (m *Machine) end(cmd int) error {
	if cmd == unix.LINUX_REBOOT_CMD_POWER_OFF {
		m.disarmWatchdog()
	}
	return power.Reboot(cmd)
}

// endBy calls end after limit, whatever init waits for by then: sync(2) and an
// unmount never return from a disk that does not answer, and a machine without a
// watchdog would stay there for ever.
func endBy(limit time.Duration, end func()) { time.AfterFunc(limit, end) }

// stopGrace is what a stop may take beyond the services.
const stopGrace = time.Minute

// stopTime is the longest time that an orderly stop of the machine can take.
func stopTime(super *supervisor) time.Duration {
	if super == nil {
		return stopGrace
	}
	return super.stopLimit() + stopGrace
}

// endProcesses ends what is not a service: orphans and health checks. -1 is
// every process but PID 1 itself.
func (m *Machine) endProcesses() {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		for range 20 {
			if !othersAlive() {
				return
			}
			_ = unix.Kill(-1, sig) // the only error is that there are none
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// othersAlive reports whether any process but PID 1 runs. Kernel threads have
// no executable; a zombie has none either.
func othersAlive() bool {
	procs, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range procs {
		if exe == "/proc/1/exe" {
			continue
		}
		if _, err := os.Readlink(exe); err == nil {
			return true
		}
	}
	return false
}
