package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/simhost"
)

// served is a running server.
type served struct {
	cmd            *exec.Cmd
	ended          chan struct{}
	address, state string
	log            string // file
}

// startServer makes test keys, and starts the program for the image set of the
// lab, which nobody has signed.
func startServer(ctx context.Context, l *lab, maker *simhost.Maker, boot *simhost.Boot) (*served, error) {
	dir := filepath.Join(l.dir, "server")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	policy, err := json.Marshal(attest.Policy{SecureBoot: true, Keys: []attest.Keys{boot.Keys()}})
	if err != nil {
		return nil, err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Root.Raw})
	for name, b := range map[string][]byte{"policy.json": policy, "makers.pem": root} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return nil, err
		}
	}
	if _, err := l.run(ctx, dir, "keys", "init", "keys", "--test"); err != nil {
		return nil, err
	}
	s := &served{state: filepath.Join(dir, "state"), log: filepath.Join(dir, "log"), ended: make(chan struct{})}
	if s.address, err = freeAddress(); err != nil {
		return nil, err
	}
	s.cmd = exec.CommandContext(ctx, l.ingot, "attest", "serve", "--state", s.state, "--keys", "keys", "--release", l.base.set, "--insecure-releases",
		"--ek-root", "makers.pem", "--require-chain", "--policy", "policy.json", "--interval", stormInterval.String(), "--listen", s.address)
	return s, s.start(dir)
}

// freeAddress is one that nobody listens on at the moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start waits until the server listens.
func (s *served) start(dir string) error {
	f, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer f.Close()
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, f, f
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(os.Interrupt) }
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		s.cmd.Wait()
		close(s.ended)
	}()
	for range 300 {
		select {
		case <-s.ended:
			return fmt.Errorf("the server ended: %s", s.said())
		case <-time.After(100 * time.Millisecond):
		}
		if c, err := net.Dial("tcp", s.address); err == nil {
			return c.Close()
		}
	}
	s.stop()
	return fmt.Errorf("the server does not listen: %s", s.said())
}

func (s *served) stop() {
	s.cmd.Process.Signal(os.Interrupt)
	<-s.ended
}

// said is the end of what the server has written.
func (s *served) said() string {
	b, _ := os.ReadFile(s.log)
	return lastLines(string(b), 12)
}

// usage is what a server has used.
type usage struct {
	processor     time.Duration
	memory, state int64 // bytes
}

func (s *served) usage() (u usage, err error) {
	p := process(s.cmd.Process.Pid)
	if u.processor, err = p.processor(); err != nil {
		return u, err
	}
	if u.memory, err = p.memory(); err != nil {
		return u, err
	}
	u.state, err = sizeOf(s.state)
	return u, err
}

// process is a running program as the kernel counts it.
type process int

// processor is the time that it has used (proc(5), stat: utime and stime).
func (p process) processor() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name, which may hold spaces
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", p, len(f))
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture that counts
	return time.Duration(user+system) * tick, err
}

// memory is the most that it has held, in bytes (proc(5), status: VmHWM).
func (p process) memory() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status: no VmHWM", p)
}

// sizeOf is what a directory holds in bytes.
func sizeOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
