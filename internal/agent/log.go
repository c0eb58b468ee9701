package agent

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/agent/ring"
)

// ringSize bounds the log in memory, in bytes.
const ringSize = 1 << 20

// self is the source of init's own lines.
const self = "ingot"

// uptime is the time since the kernel started, suspend included. Init speaks
// no other time in its log: the wall clock jumps when NTP answers.
func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Log is the machine's log: the ring, and the consoles behind a queue.
type Log struct {
	Ring *ring.Ring

	queue chan string
	mu    sync.Mutex
	lost  int // lines that found the queue full
	idle  sync.Cond
	busy  int // lines in the queue or being written
}

// newLog makes a log without console.
func newLog() *Log {
	l := &Log{Ring: ring.New(ringSize), queue: make(chan string, 1024)}
	l.idle.L = &l.mu
	return l
}

// Printf adds a line of init.
func (l *Log) Printf(format string, args ...any) { l.Line(self, fmt.Sprintf(format, args...)) }

// Line adds one line of a source. A console at 115200 baud takes 11 kB a
// second: when a service floods, the console loses lines, the ring does not.
func (l *Log) Line(source, text string) {
	e := l.Ring.Add(uptime(), source, strings.ToValidUTF8(strings.TrimRight(text, "\r\n"), "?"))
	line := fmt.Sprintf("[%12.6f] %s: %s\r\n", e.At.Seconds(), e.Source, printable(e.Text))
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.queue <- line:
		l.busy++
	default:
		l.lost++
	}
}

// printable keeps a service from steering the terminal of whoever watches.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '.'
		}
		return r
	}, s)
}

// write copies the queue to the consoles. It never returns.
func (l *Log) write(consoles []io.Writer) {
	for line := range l.queue {
		l.mu.Lock()
		lost := l.lost
		l.lost = 0
		l.mu.Unlock()
		if lost > 0 {
			line = fmt.Sprintf("[%12.6f] %s: console lost %d lines\r\n", uptime().Seconds(), self, lost) + line
		}
		for _, c := range consoles {
			io.WriteString(c, line)
		}
		l.mu.Lock()
		l.busy--
		l.idle.Broadcast()
		l.mu.Unlock()
	}
}

// Flush waits until the consoles have everything, but not longer than a second:
// a console with flow control may never take it.
func (l *Log) Flush() {
	expired := false
	deadline := time.AfterFunc(time.Second, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		expired = true
		l.idle.Broadcast()
	})
	defer deadline.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.busy > 0 && !expired {
		l.idle.Wait()
	}
}

// consoles opens every console of the kernel, not only the last one that
// /dev/console stands for: a server's screen and its serial port both show why
// it does not come up.
func consoles() []io.Writer {
	var out []io.Writer
	active, _ := os.ReadFile("/sys/class/tty/console/active")
	for _, name := range strings.Fields(string(active)) {
		f, err := os.OpenFile(filepath.Join("/dev", name), os.O_WRONLY|unix.O_NOCTTY, 0)
		if err == nil {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		if f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
			out = append(out, f)
		}
	}
	return out
}
