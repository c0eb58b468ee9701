package proc

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The main thread is kept for the main goroutine, as in PID 1: a goroutine that
// ends with its thread could not end this one, and would leave it as it is.
func init() { runtime.LockOSThread() }

// The test binary is the program that the tests start: INGOT_PROC_CHILD says
// what it does.
func TestMain(m *testing.M) {
	if what := os.Getenv("INGOT_PROC_CHILD"); what != "" {
		child(what)
		return
	}
	os.Exit(m.Run())
}

func child(what string) {
	switch what {
	case "status":
		b, _ := os.ReadFile("/proc/self/status")
		os.Stdout.Write(b)
		wd, _ := os.Getwd()
		fmt.Printf("Wd:\t%s\nEnv:\t%v\nSid:\t%v\n", wd, os.Environ(), first(unix.Getsid(0)) == os.Getpid())
	case "sleep":
		fmt.Println("sleeping")
		time.Sleep(time.Hour)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("sleeping")
		time.Sleep(time.Hour)
	case "fail":
		os.Exit(3)
	case "ls":
		entries, _ := os.ReadDir("/")
		for _, e := range entries {
			fmt.Print(e.Name(), " ")
		}
		for _, f := range strings.Fields(os.Getenv("FILES")) {
			b, err := os.ReadFile(f)
			fmt.Printf("\n%s: %q %v", f, b, err)
		}
		for _, f := range strings.Fields(os.Getenv("WRITE")) {
			err := os.WriteFile(f, []byte("x"), 0o644)
			fmt.Printf("\nwrite %s: %v", f, err)
		}
	}
}

func first(n int, _ error) int { return n }

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 && unix.Unshare(0) == nil {
		return
	}
	if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
		t.Fatal("this test needs root")
	}
	t.Skip("this test needs root")
}

func reaper(t *testing.T) *Reaper {
	t.Helper()
	r := NewReaper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// run starts the child and returns what it printed.
func run(t *testing.T, r *Reaper, c Command, what string) (*Process, string) {
	t.Helper()
	rd, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	c.Env = append(c.Env, "INGOT_PROC_CHILD="+what)
	if c.Path == "" {
		if c.Path, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	c.Stdout = w
	p, err := r.Start(c)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if what == "sleep" || what == "stubborn" {
		buf := make([]byte, 100)
		n, _ := rd.Read(buf)
		return p, string(buf[:n])
	}
	out, err := io.ReadAll(rd)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done
	return p, string(out)
}

func field(status, name string) string {
	for line := range strings.Lines(status) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == name {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return ""
}

// reachable makes the test binary executable for any user.
func reachable(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "ingot-proc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "child")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLeastPrivilege(t *testing.T) {
	requireRoot(t)
	r := reaper(t)
	const bind = "0000000000000400" // 1 << CAP_NET_BIND_SERVICE
	const none = "0000000000000000"
	bindCap, err := Capability("CAP_NET_BIND_SERVICE")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cmd  Command
		want map[string]string
	}{
		{"user without capabilities", Command{UID: 1000, GID: 1001}, map[string]string{
			"Uid": "1000 1000 1000 1000", "Gid": "1001 1001 1001 1001", "Groups": "", "NoNewPrivs": "1", "Umask": "0022",
			"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "Sid": "true", "Wd": "/"}},
		{"user with one", Command{UID: 1000, GID: 1000, Caps: []uintptr{bindCap}}, map[string]string{
			"CapPrm": bind, "CapEff": bind, "CapBnd": bind, "CapAmb": bind}},
		{"root without capabilities", Command{Dir: "/usr"}, map[string]string{
			"Uid": "0 0 0 0", "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "Wd": "/usr"}},
		{"root with one", Command{Caps: []uintptr{bindCap}}, map[string]string{"CapPrm": bind, "CapEff": bind, "CapBnd": bind}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cmd.Path = reachable(t)
			defer unix.Umask(unix.Umask(0o077)) // ours must not be the child's
			p, out := run(t, r, c.cmd, "status")
			if !p.OK() {
				t.Fatalf("child %s: %s", p.Exit(), out)
			}
			for k, want := range c.want {
				if got := field(out, k); got != want {
					t.Errorf("%s = %q, want %q", k, got, want)
				}
			}
			if got := field(out, "Env"); got != "[INGOT_PROC_CHILD=status]" {
				t.Errorf("environment = %s, want nothing of ours", got)
			}
		})
	}
}

// TestThreadsStayClean starts many processes and checks that no thread of this
// process lost its capabilities or gained no-new-privs by it.
func TestThreadsStayClean(t *testing.T) {
	requireRoot(t)
	r := reaper(t)
	before, _ := os.ReadFile("/proc/self/status")
	for range 20 {
		if p, _ := run(t, r, Command{UID: 1, Path: "/bin/true"}, "true"); !p.OK() {
			t.Fatal(p.Exit())
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		dirty := 0
		tasks, _ := filepath.Glob("/proc/self/task/*/status")
		for _, f := range tasks {
			b, err := os.ReadFile(f)
			if err == nil && (field(string(b), "CapBnd") != field(string(before), "CapBnd") || field(string(b), "NoNewPrivs") != "0") {
				dirty++
			}
		}
		if dirty == 0 {
			return
		}
		if time.Now().After(deadline) { // an ending thread may still be listed
			t.Fatalf("%d of %d threads keep what was meant for a child", dirty, len(tasks))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestExitIsReported(t *testing.T) {
	r := reaper(t)
	p, _ := run(t, r, Command{}, "fail")
	if p.OK() || p.Code() != 3 || p.Exit() != "exited with status 3" {
		t.Errorf("got %v %d %q, want status 3", p.OK(), p.Code(), p.Exit())
	}
	p, _ = run(t, r, Command{}, "sleep")
	if p.WaitFor(10 * time.Millisecond) {
		t.Error("WaitFor says that a sleeping child ended")
	}
	p.Signal(syscall.SIGTERM)
	if !p.WaitFor(10*time.Second) || p.Code() != 128+15 || !strings.Contains(p.Exit(), "signal 15") {
		t.Errorf("got %d %q, want signal 15", p.Code(), p.Exit())
	}
	p, _ = run(t, r, Command{}, "stubborn")
	p.Signal(syscall.SIGTERM)
	if p.WaitFor(50 * time.Millisecond) {
		t.Error("a child that ignores SIGTERM ended by it")
	}
	p.Kill()
	if !p.WaitFor(10*time.Second) || p.Code() != 128+9 {
		t.Errorf("got %d, want signal 9", p.Code())
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("Signal after the end = %v, want nil", err)
	}
}

func TestStartErrors(t *testing.T) {
	r := reaper(t)
	for _, c := range []struct {
		cmd  Command
		want string
	}{
		{Command{Path: "/no/such"}, "start /no/such: no such file"},
		{Command{Path: "/etc"}, "permission denied"},
		{Command{Path: "/bin/true", Dir: "/no/such"}, "no such file"},
	} {
		if _, err := r.Start(c.cmd); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Start(%+v) = %v, want %q", c.cmd, err, c.want)
		}
	}
}

func TestManyShortLives(t *testing.T) {
	r := reaper(t)
	var ps []*Process
	for range 100 {
		p, err := r.Start(Command{Path: "/bin/true"})
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	for _, p := range ps {
		if !p.WaitFor(20*time.Second) || !p.OK() {
			t.Fatalf("process %d is lost", p.PID)
		}
	}
}

func TestCapabilityNames(t *testing.T) {
	for name, want := range map[string]uintptr{"CHOWN": 0, "CAP_NET_ADMIN": 12, "sys_admin": 21, "CHECKPOINT_RESTORE": unix.CAP_LAST_CAP} {
		if got, err := Capability(name); err != nil || got != want {
			t.Errorf("Capability(%q) = %d, %v; want %d", name, got, err, want)
		}
	}
	if _, err := Capability("FLY"); err == nil {
		t.Error("Capability(FLY) succeeds")
	}
	if len(capNames) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names, the kernel headers have %d", len(capNames), unix.CAP_LAST_CAP+1)
	}
}
