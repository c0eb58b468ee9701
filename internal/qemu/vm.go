package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// VM is a running machine. Its methods may be called concurrently.
type VM struct {
	Machine  Machine   // with the defaults filled in
	Firmware Firmware  // what it boots with
	Started  time.Time // power-on

	dir     string // private, removed by Close
	kept    *kept
	qemu    *process
	tpm     *process
	qmp     *qmp
	console *console
	smoke   *smokePort
	ports   map[int]string // guest port -> host address
	drained chan struct{}  // the console has been read to its end
	lost    atomic.Value   // string: why the machine had to be ended

	close func() error
	stop  func() bool // undoes the watch over the context
}

// Start powers a machine on. It returns as soon as QEMU runs, before the
// firmware has done anything. Cancelling ctx has the effect of Close. Errors
// carry QEMU's own words; a *MissingError names packages to install.
func Start(ctx context.Context, m Machine) (*VM, error) {
	if err := m.defaults(); err != nil {
		return nil, err
	}
	program, err := findProgram(m.Arch)
	if err != nil {
		return nil, err
	}
	if m.BIOS {
		m.Firmware = &Firmware{}
	} else if m.Firmware == nil {
		f, err := FindFirmware(m.Arch)
		if err != nil {
			return nil, err
		}
		m.Firmware = &f
	}
	if err := m.accelerate(ctx); err != nil {
		return nil, err
	}
	return launch(ctx, m, program)
}

func launch(ctx context.Context, m Machine, program string) (*VM, error) {
	dir, err := os.MkdirTemp(m.WorkDir, "ingot-vm-")
	if err != nil {
		return nil, fmt.Errorf("start machine: %w", err)
	}
	v := &VM{Machine: m, Firmware: *m.Firmware, dir: dir, console: newConsole(m.Serial), drained: make(chan struct{})}
	v.close = sync.OnceValue(v.cleanUp)
	if err := v.powerOn(ctx, program); err != nil {
		v.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start machine: %w", context.Cause(ctx))
		}
		return nil, err
	}
	v.stop = context.AfterFunc(ctx, func() { v.Close() })
	if v.tpm != nil {
		go v.watchTPM()
	}
	return v, nil
}

func (v *VM) powerOn(ctx context.Context, program string) error {
	m := &v.Machine
	w := &wiring{}
	defer w.close()
	var h handles
	if m.Image != "" {
		disk, err := m.openDisk(v.dir)
		if err != nil {
			return err
		}
		h.disk = w.child(disk)
	}
	var err error
	if v.kept, err = m.keep(v.dir); err != nil {
		return err
	}
	if v.kept.vars != nil {
		h.vars = w.share(v.kept.vars)
	}
	if h.tap, err = m.plug(w); err != nil {
		return err
	}
	if h.options, err = m.writeOptions(v.dir); err != nil {
		return err
	}
	if v.kept.erst != nil {
		h.erst = w.share(v.kept.erst)
	}
	if m.TPM {
		var ctl *os.File
		if v.tpm, ctl, err = startTPM(filepath.Join(v.kept.dir, "tpm"), m.Banks); err != nil {
			return err
		}
		h.tpm = w.child(ctl)
	}
	control, serial, smoke := w.socket(&h.qmp), w.socket(&h.serial), w.socket(&h.smoke)
	if w.err != nil {
		return w.err
	}
	v.Started = time.Now()
	v.qemu, err = start(program, m.arguments(h), w.take()...)
	if err != nil {
		return err
	}
	v.qmp, v.smoke = newQMP(control), newSmokePort(smoke)
	go v.readConsole(serial)
	if m.Input != nil {
		go io.Copy(serial, m.Input)
	}
	return v.greet(ctx)
}

// greet waits until QEMU answers and learns which host ports it took.
func (v *VM) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := v.qmp.negotiate(ctx)
	if err == nil {
		v.ports, err = v.forwards(ctx)
	}
	if errors.Is(err, errQMPClosed) {
		<-v.qemu.done
		return v.died()
	}
	return err
}

// watchTPM ends a machine whose TPM has died: the guest would only hang.
func (v *VM) watchTPM() {
	<-v.tpm.done
	select {
	case <-v.qemu.done: // the usual order: QEMU ends, then swtpm
	case <-time.After(2 * time.Second):
		v.lost.Store("swtpm ended: " + v.tpm.words())
		v.qemu.kill()
	}
}

// died says why QEMU ended by itself.
func (v *VM) died() error {
	words := v.qemu.words()
	if v.tpm != nil && v.tpm.ended() && v.tpm.err != nil {
		words = "swtpm ended: " + v.tpm.words()
	}
	err := fmt.Errorf("start machine: qemu ended: %s", words)
	if strings.Contains(words, "Could not set up host forwarding rule") {
		return &hintError{err, "another program listens on that port of 127.0.0.1: forward another one, or 0 for any free port"}
	}
	return err
}

// hintError is an error that knows what to do about it.
type hintError struct {
	error
	hint string
}

// Hint is the advice.
func (e *hintError) Hint() string { return e.hint }

// Unwrap gives the cause.
func (e *hintError) Unwrap() error { return e.error }

// hostForward matches a line of the monitor's "info usernet":
//
//	TCP[HOST_FORWARD]  14       127.0.0.1 36285       10.0.2.15  8080     0     0
var hostForward = regexp.MustCompile(`TCP\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+\S+\s+(\d+)`)

func (v *VM) forwards(ctx context.Context) (map[int]string, error) {
	out := map[int]string{}
	if len(v.Machine.Forwards) == 0 {
		return out, nil
	}
	text, err := v.qmp.human(ctx, "info usernet")
	if err != nil {
		return nil, err
	}
	for _, f := range hostForward.FindAllStringSubmatch(text, -1) {
		var guest int
		fmt.Sscan(f[3], &guest)
		out[guest] = net.JoinHostPort(f[1], f[2])
	}
	for _, f := range v.Machine.Forwards {
		if out[f.Guest] == "" {
			return nil, fmt.Errorf("start machine: qemu does not list the forward of port %d", f.Guest)
		}
	}
	return out, nil
}

func (v *VM) readConsole(r io.Reader) {
	io.Copy(v.console, r) // ends when QEMU does
	v.console.end()
	close(v.drained)
}

// Forward returns the host address, "127.0.0.1:PORT", that leads to a TCP
// port of the guest; "" when that port is not forwarded.
func (v *VM) Forward(guest int) string { return v.ports[guest] }

// Close ends the machine at once, like a pulled plug, and removes everything
// that was private to it. It returns the same error each time.
func (v *VM) Close() error { return v.close() }

func (v *VM) cleanUp() error {
	if v.stop != nil {
		v.stop()
	}
	v.qemu.kill()
	v.tpm.kill()
	if v.qmp != nil {
		v.qmp.conn.Close()
		v.smoke.conn.Close()
		<-v.drained
	}
	if v.kept != nil {
		v.kept.close()
	}
	return os.RemoveAll(v.dir)
}
