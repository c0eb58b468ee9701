package qemu

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// tailSize bounds what is kept of a program's error output, in bytes.
const tailSize = 8 << 10

// process is a child that cannot outlive this program. It has its own process
// group, so an interrupt from the terminal reaches only this program, which
// then ends the machine in order.
type process struct {
	cmd  *exec.Cmd
	tail *tail
	done chan struct{} // closed when the process has ended and was waited for
	err  error         // of Wait; valid after done
}

// start runs a program. files become its descriptors 3 and up and are closed
// here in any case. The child is killed when this program dies, even by
// SIGKILL: PR_SET_PDEATHSIG fires when the *thread* that forked ends
// (prctl(2)), so that thread is kept until the child has ended.
func start(program string, args []string, files ...*os.File) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), tail: &tail{}, done: make(chan struct{})}
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = p.tail, p.tail
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		for _, f := range files {
			f.Close()
		}
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// kill ends the process by its own handle and waits for it.
func (p *process) kill() {
	if p == nil {
		return
	}
	p.cmd.Process.Kill() // an error means that it has ended
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// words are the program's last own words, or how it ended when it had none.
func (p *process) words() string {
	<-p.done
	if s := p.tail.String(); s != "" {
		return s
	}
	return fmt.Sprint(p.err)
}

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// String gives the kept text as one line, programs' own names taken off.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range bytes.Lines(t.b) {
		if s := strings.TrimSpace(string(line)); s != "" {
			lines = append(lines, s)
		}
	}
	return strings.Join(lines, "; ")
}
