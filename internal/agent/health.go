package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/appliance"
)

// maxOutput bounds what is kept of a command's or page's output, in bytes.
const maxOutput = 64 << 10

// check runs one health check once.
func (m *Machine) check(ctx context.Context, s appliance.Service, limit time.Duration) error {
	switch h := s.Health; {
	case h == nil:
		return nil
	case h.HTTP != nil:
		return checkHTTP(ctx, *h.HTTP)
	case h.TCP != 0:
		return checkTCP(ctx, h.TCP)
	case len(h.Exec) > 0:
		return m.checkExec(s, limit)
	}
	return errors.New("check: neither exec, tcp nor http is set")
}

func checkTCP(ctx context.Context, port int) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return c.Close()
}

func checkHTTP(ctx context.Context, h appliance.HTTPCheck) error {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(h.Port))
	status, body, err := http1.Get(ctx, addr, h.Path, maxOutput)
	if err != nil {
		return err
	}
	want := h.Status
	if want == 0 {
		want = 200
	}
	if status != want {
		return fmt.Errorf("GET http://%s%s: got status %d, want %d", addr, h.Path, status, want)
	}
	if !strings.Contains(string(body), h.Body) {
		return fmt.Errorf("GET http://%s%s: answer does not contain %q", addr, h.Path, h.Body)
	}
	return nil
}

func (m *Machine) checkExec(s appliance.Service, limit time.Duration) error {
	c := s
	c.Command, c.Args = s.Health.Exec[0], s.Health.Exec[1:]
	code, out, err := m.command(c, m.cgroup(s.Name+".check"), limit)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("%s: exit status %d: %s", c.Command, code, firstLine(out))
	}
	return nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// command runs a program to its end, as the service it is given, and returns
// its exit code and output (at most maxOutput bytes).
func (m *Machine) command(s appliance.Service, cgroup string, limit time.Duration) (int, string, error) {
	c, err := m.super.resolve(s)
	if err != nil {
		return 0, "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, "", err
	}
	defer r.Close()
	c.Stdout, c.Cgroup = w, cgroup
	p, err := m.reaper.Start(c)
	w.Close()
	if err != nil {
		return 0, "", err
	}
	out := make(chan string, 1)
	m.spawn("command output", func() {
		var b bytes.Buffer
		io.Copy(&b, io.LimitReader(r, maxOutput))
		io.Copy(io.Discard, r) // a full pipe would stop the program
		out <- b.String()
	})
	timedOut := !p.WaitFor(limit)
	if timedOut {
		p.Kill()
		<-p.Done
	}
	p.Clean()
	text := m.collect(out, r)
	if timedOut {
		return p.Code(), text, fmt.Errorf("%s: no end within %s", c.Path, limit)
	}
	return p.Code(), text, nil
}

// collect waits for the output, but not for a process that got away with the
// pipe.
func (m *Machine) collect(out <-chan string, r *os.File) string {
	select {
	case s := <-out:
		return s
	case <-time.After(time.Second):
		r.SetReadDeadline(time.Now())
		return <-out
	}
}
