package agent

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/watchdog"
)

// guardian is the armed watchdog of this boot.
type guardian struct {
	once  sync.Once
	dog   *watchdog.Dog // nil: there is none
	since time.Duration // uptime at which it was armed
}

// bites is how long the watchdog waits when the recipe says nothing.
const bites = time.Minute

// armWatchdog arms the hardware watchdog, the first time that it is called. A
// machine that takes updates does so in every boot: on trial before the journal
// says so, and as the good slot for the rule of crash loops, which counts hangs by
// what the watchdog tells. It stays armed, after the bless too, and ends with the
// machine's power.
func (m *Machine) armWatchdog() { m.dog.once.Do(m.armOnce) }

func (m *Machine) armOnce() {
	d, found := m.findWatchdog()
	st := &listener.Watchdog{State: "absent", Device: d.Name, Identity: d.Identity, Software: d.Software}
	if found {
		m.mu.Lock()
		m.dog.since = uptime()
		m.mu.Unlock()
		dog, err := watchdog.Arm(d, watchdog.Options{Timeout: m.watchdogTimeout(), Alive: m.alive, Hungry: m.hungry,
			Go: func(f func()) { m.spawn("watchdog", f) }})
		if err != nil {
			st.State, st.Error = "failed", err.Error()
			m.problem("%v", err)
		} else {
			st.State, st.Identity, st.Timeout = "armed", dog.Device.Identity, dog.Timeout.Seconds()
			m.log.Printf("watchdog %s (%s) resets the machine after %s without init", d.Name, st.Identity, dog.Timeout)
			m.mu.Lock()
			m.dog.dog = dog
			m.mu.Unlock()
		}
	}
	if !found || d.Software {
		m.log.Printf("no hardware watchdog: a kernel that hangs stays as it is until somebody resets the machine")
	}
	m.update(func(s *listener.Status) { s.Watchdog = st })
}

func (m *Machine) watchdogTimeout() time.Duration {
	if m.spec.Update == nil {
		return bites
	}
	return m.spec.Update.Watchdog.Or(bites)
}

// findWatchdog waits until the drivers of all devices that are present are loaded:
// then a machine has its watchdog, or none. That of a BMC is no device with a
// driver of its own, so its module is asked for once there is an interface to a BMC.
func (m *Machine) findWatchdog() (watchdog.Device, bool) {
	var list []watchdog.Device
	look := func() bool {
		list = watchdog.List("/sys")
		// The class has a device a moment before it has its node.
		return len(list) > 0 && !list[0].Software && exists("/dev/"+list[0].Name)
	}
	m.devices.Wait(m.ctx, settleTime, func() bool { return look() || m.devices.IsSettled() })
	if !look() {
		if bmc, _ := filepath.Glob("/sys/class/ipmi/ipmi*"); len(bmc) > 0 {
			if m.devices.Load("ipmi_watchdog") == nil { // else there is no watchdog
				list = append(watchdog.BMC("/sys"), list...)
			}
		}
	}
	if len(list) == 0 {
		return watchdog.Device{}, false
	}
	return list[0], true
}

// uncovered says what a fallback of this machine does not cover (S6).
func (m *Machine) uncovered() []string {
	m.mu.Lock()
	w := m.status.Watchdog
	m.mu.Unlock()
	switch {
	case w == nil || w.State == "armed" && !w.Software:
		return nil
	case w.State == "failed":
		return []string{"hangs are not covered: " + w.Error}
	}
	return []string{"hangs are not covered: the machine has no hardware watchdog, or its driver is not in the image"}
}

// hungry is told when the watchdog is not fed any more. The kernel's log is the
// only one that may survive.
func (m *Machine) hungry(why string) {
	kmsg("watchdog is not fed: " + why)
	m.log.Printf("watchdog is not fed: %s", why)
}

// lookLimit is how late a look at health may be in a trial; it asks the disk.
const lookLimit = 30 * time.Second

// judgeLimit is how long it may take from arming the watchdog until this boot is
// judged by the journal: the waits for disk and TPM are shorter together.
func (m *Machine) judgeLimit() time.Duration { return max(m.watchdogTimeout(), 90*time.Second) }

// isJudged says that this boot is known to be a trial or not: from then on a trial
// is looked at, and what a blessed version waits for is its own affair.
func (m *Machine) isJudged() bool {
	select {
	case <-m.judged:
		return true
	default:
		return false
	}
}

// alive says why the watchdog must not be fed: one of init's loops stands still.
// Nothing here asks disks or network, because a blessed version must not fall with
// them; a trial may, by its looks at health.
func (m *Machine) alive() string {
	if m.crashing.Load() {
		return "init has crashed"
	}
	m.mu.Lock() // who holds it forever has stopped everything
	super, stopping, since := m.super, m.stopping, m.dog.since
	m.mu.Unlock()
	if stopping {
		return m.trial.stopsInTime(super, uptime())
	}
	if !m.isJudged() && uptime()-since > m.judgeLimit() {
		return "the boot stands still"
	}
	if super != nil && !super.answers() {
		return "the supervisor does not answer"
	}
	if m.trial.isLate(uptime()) {
		return "health was not looked at for " + lookLimit.String()
	}
	return ""
}

// answers asks the loop of the supervisor for a sign of life. The caller bounds
// the time.
func (s *supervisor) answers() bool {
	pong := make(chan struct{})
	select {
	case s.pings <- pong:
		<-pong
	case <-s.done:
	}
	return true
}

// disarmWatchdog is for a machine that is turned off: it must not come back.
func (m *Machine) disarmWatchdog() {
	m.mu.Lock()
	dog := m.dog.dog
	m.mu.Unlock()
	if dog == nil {
		return
	}
	if err := dog.Stop(); err != nil && !os.IsNotExist(err) {
		m.log.Printf("stop the watchdog: %v", err)
	}
}
