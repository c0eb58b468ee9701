package netlab

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/oracle"
)

// grace is how long a program may take to end itself.
const grace = 10 * time.Second

// maxSaid bounds what is kept of a program's words, in bytes.
const maxSaid = 4 << 20

// Process is a program that runs in a namespace. It ends with its test, and is
// killed by the kernel should this process die.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	said said
	done chan struct{}
	err  error // of Wait; valid after done
}

// Start runs a program inside, found as oracle.Need finds it.
func (s *Space) Start(program string, args ...string) *Process {
	s.t.Helper()
	return s.StartCommand(oracle.Command(program, args...))
}

// StartCommand runs a prepared command inside. What it prints is kept, unless
// the command has a place for it. A test that fails shows the end of it.
func (s *Space) StartCommand(cmd *exec.Cmd) *Process {
	s.t.Helper()
	p := &Process{t: s.t, cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.said
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.said
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// Sent when the *thread* that forked ends (prctl(2)): it lives until Wait
	// has returned.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = time.Second // children that outlive it keep its output open
	started := make(chan error, 1)
	go p.run(s, started)
	if err := <-started; err != nil {
		s.t.Fatalf("start %s in %s: %v", cmd.Path, s.Name, err)
	}
	s.t.Cleanup(func() {
		p.Stop()
		syscall.Kill(-p.Pid(), syscall.SIGKILL) // its children; an error means that it has none
		if text := p.Said(); s.t.Failed() && text != "" {
			s.t.Logf("%s in %s (%v) said:\n%s", cmd.Args, s.Name, p.err, text[max(0, len(text)-16<<10):])
		}
	})
	return p
}

func (p *Process) run(s *Space, started chan<- error) {
	runtime.LockOSThread()
	err := s.enter()
	if err == nil {
		err = p.cmd.Start()
	}
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// Run runs a program inside, waits for its end and gives what it printed. It
// has to succeed.
func (s *Space) Run(program string, args ...string) string {
	s.t.Helper()
	p := s.Start(program, args...)
	<-p.done
	if p.err != nil {
		s.t.Fatalf("%s %q in %s: %v\n%s", program, args, s.Name, p.err, p.Said())
	}
	return p.Said()
}

// Stop asks the program to end (SIGTERM), waits for it, kills it in the end, and
// gives the error of its exit.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.cmd.Process.Kill()
		<-p.done
		p.err = errors.Join(errors.New("did not end by itself"), p.err)
	}
	return p.err
}

// Signal sends a signal; a program that has ended is no error.
func (p *Process) Signal(sig os.Signal) { p.cmd.Process.Signal(sig) }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Pid is its process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Said is all that it has printed until now, the newest 4 MiB.
func (p *Process) Said() string { return p.said.String() }

// Await waits until it has printed a text, at most limit.
func (p *Process) Await(text string, limit time.Duration) {
	p.t.Helper()
	for end := time.Now().Add(limit); !strings.Contains(p.Said(), text); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.done:
			if strings.Contains(p.Said(), text) {
				return
			}
			p.t.Fatalf("%q ended (%v) and never said %q:\n%s", p.cmd.Args, p.err, text, p.Said())
		default:
		}
		if time.Now().After(end) {
			p.t.Fatalf("%q has not said %q within %s:\n%s", p.cmd.Args, text, limit, p.Said())
		}
	}
}

// said is what was printed.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Write(b)
	if over := s.b.Len() - maxSaid; over > 0 {
		s.b.Next(over)
	}
	return len(b), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
