// Package watchdog arms the machine's hardware watchdog: a timer that resets the
// machine unless it is fed. What it covers is what no software can: a kernel or
// a PID 1 that stands still.
//
//	devices := watchdog.List("/sys")
//	dog, err := watchdog.Arm(devices[0], watchdog.Options{Timeout: time.Minute, Alive: alive})
//
// The dog is fed only while Alive answers that init's loops do, so a dead lock
// in PID 1 ends like a dead kernel. It stays armed until Stop, which only a
// machine that is told to power off calls: a restart is covered as well, as far as
// the driver does not stop the timer itself.
//
// Limits: a watchdog's timer stops at a reset of the machine in nearly all
// hardware (docs/slots.md says what was measured), so firmware and a kernel before
// its driver are not covered. A software watchdog (softdog) is a timer of the
// kernel that it should watch; it is the last choice, and said to be one.
package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Device is a watchdog as the kernel describes it in /sys/class/watchdog. To
// look does not arm it; to open its node would.
type Device struct {
	Name     string // "watchdog0"
	Identity string // of the driver: "i6300ESB timer"
	// CardReset says that it has reset the machine before this boot
	// (WDIOF_CARDRESET). Not every driver can tell.
	CardReset bool
	// Software is softdog: it does not see a kernel that hangs.
	Software bool

	node string // "" = /dev/ and the name
}

// List returns the watchdogs below a sysfs, hardware first. Kernels without
// CONFIG_WATCHDOG_SYSFS give devices without an identity.
func List(sysfs string) []Device {
	dirs, _ := filepath.Glob(filepath.Join(sysfs, "class/watchdog/watchdog*"))
	var out []Device
	for _, dir := range dirs {
		d := Device{Name: filepath.Base(dir), Identity: attribute(dir, "identity")}
		status, _ := strconv.ParseUint(attribute(dir, "bootstatus"), 0, 32)
		d.CardReset = status&unix.WDIOF_CARDRESET != 0
		d.Software = d.Identity == "Software Watchdog" // drivers/watchdog/softdog.c
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { // slices.SortFunc of a struct is 20 KB of machine code
		a, b := out[i], out[j]
		switch {
		case a.Software != b.Software:
			return b.Software
		case len(a.Name) != len(b.Name):
			return len(a.Name) < len(b.Name)
		}
		return a.Name < b.Name
	})
	return out
}

// BMC returns the watchdog of ipmi_watchdog, the one driver that is no device of
// the class. Ask for it only once that module is loaded: the others have a node of
// that name too, for a moment before they are in the class.
func BMC(sysfs string) []Device {
	if _, err := os.Stat(filepath.Join(sysfs, "class/misc/watchdog")); err != nil {
		return nil
	}
	return []Device{{Name: "watchdog"}}
}

func attribute(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name)) // absent reads as empty
	return strings.TrimSpace(string(b))
}

// Options configure Arm.
type Options struct {
	// Timeout is how long the dog waits for food; default one minute. Hardware
	// rounds it, and Dog.Timeout says what it took.
	Timeout time.Duration
	// Alive returns why the dog must not be fed, "" to feed it. A call that does not
	// return is a reason too. nil feeds always.
	Alive func() string
	// Hungry is told once when the feeding stops, and why; nil = nobody.
	Hungry func(why string)
	// Go starts a goroutine; nil = plainly.
	Go func(func())
}

// Dog is an armed watchdog.
type Dog struct {
	Device  Device
	Timeout time.Duration // that the hardware waits

	options Options
	timer   timer
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
	err     error
}

// timer is an open watchdog: the kernel's, or a test's.
type timer interface {
	// set asks for a timeout in seconds and returns the one that holds.
	set(seconds int) (int, error)
	feed() error
	// disarm closes it so that it stops, if it can be stopped.
	disarm() error
}

// Arm opens a watchdog, which starts it, and feeds it from now on.
func Arm(d Device, o Options) (*Dog, error) {
	node := d.node
	if node == "" {
		node = filepath.Join("/dev", d.Name)
	}
	f, err := os.OpenFile(node, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("arm watchdog: %w", err)
	}
	if info, err := unix.IoctlGetWatchdogInfo(int(f.Fd())); err == nil && d.Identity == "" {
		d.Identity = unix.ByteSliceToString(info.Identity[:])
	}
	return arm(d, device{f}, o)
}

func arm(d Device, t timer, o Options) (*Dog, error) {
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Go == nil {
		o.Go = func(f func()) { go f() }
	}
	took, err := t.set(int((o.Timeout + time.Second - 1) / time.Second))
	if err == nil {
		err = t.feed()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("arm watchdog %s: %w", d.Name, err), t.disarm())
	}
	dog := &Dog{Device: d, Timeout: time.Duration(took) * time.Second, options: o, timer: t,
		stop: make(chan struct{}), stopped: make(chan struct{})}
	o.Go(dog.run)
	return dog, nil
}

// interval is the time between two meals: four in one timeout, so that one late
// answer of a busy machine does not matter.
func (d *Dog) interval() time.Duration { return max(d.Timeout/4, 250*time.Millisecond) }

// run feeds until Stop.
func (d *Dog) run() {
	defer close(d.stopped)
	tick := time.NewTicker(d.interval())
	defer tick.Stop()
	var asked chan string // an answer is awaited
	hungry := false
	for {
		if asked == nil {
			asked = d.ask()
		}
		select {
		case why := <-asked:
			asked = nil
			if hungry = d.meal(why, hungry); !d.pause(tick) {
				return
			}
		case <-tick.C: // no answer in time, and no meal: the next answer may come before the end
			hungry = d.meal("init does not answer", hungry)
		case <-d.stop:
			return
		}
	}
}

// pause waits for the next meal; false = Stop.
func (d *Dog) pause(tick *time.Ticker) bool {
	select {
	case <-tick.C:
		return true
	case <-d.stop:
		return false
	}
}

// ask asks whether init is alive, without waiting for it.
func (d *Dog) ask() chan string {
	out := make(chan string, 1)
	if d.options.Alive == nil {
		out <- ""
		return out
	}
	d.options.Go(func() { out <- d.options.Alive() })
	return out
}

// meal feeds the dog, or says once why it does not.
func (d *Dog) meal(why string, hungry bool) bool {
	if why == "" {
		if err := d.timer.feed(); err != nil {
			why = err.Error()
		}
	}
	if why != "" && !hungry && d.options.Hungry != nil {
		d.options.Hungry(why)
	}
	return why != ""
}

// Stop ends the feeding and stops the timer with the magic close. A driver with
// nowayout, or none for that, goes on: the error is nil, and the machine is reset
// unless it has no power by then.
func (d *Dog) Stop() error {
	d.once.Do(func() {
		close(d.stop)
		<-d.stopped
		d.err = d.timer.disarm()
	})
	return d.err
}

// device is the kernel's interface (Documentation/watchdog/watchdog-api.rst).
type device struct{ f *os.File }

// set asks for a timeout. A driver without WDIOC_SETTIMEOUT, or one that refuses
// the value, keeps its own, which it tells.
func (d device) set(seconds int) (int, error) {
	err := unix.IoctlSetPointerInt(int(d.f.Fd()), unix.WDIOC_SETTIMEOUT, seconds)
	now, getErr := unix.IoctlGetInt(int(d.f.Fd()), unix.WDIOC_GETTIMEOUT)
	if getErr != nil || now <= 0 {
		if err == nil {
			return seconds, nil
		}
		return 0, fmt.Errorf("set timeout: %w", err)
	}
	return now, nil
}

func (d device) feed() error { return unix.IoctlWatchdogKeepalive(int(d.f.Fd())) }

func (d device) disarm() error {
	_, err := d.f.WriteString("V")
	return errors.Join(err, d.f.Close())
}
